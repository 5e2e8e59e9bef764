"""Workflows: pipelines described as data, and their runs."""
