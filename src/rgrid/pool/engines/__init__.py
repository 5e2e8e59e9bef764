"""How a claimed execution is run: one file per engine, all behind `engine.Engine`."""
