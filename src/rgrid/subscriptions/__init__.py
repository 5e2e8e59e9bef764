"""Following the log: projections, processes, their checkpoints, rebuilds and dead letters."""
