"""Schedules: what is to start when, and a recorded decision for every due time."""
