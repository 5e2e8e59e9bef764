"""Executions: one run of one script, from submission to its final state."""
