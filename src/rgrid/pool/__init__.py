"""The runner pool: claims executions, runs each in a box, hands back what came of it."""
