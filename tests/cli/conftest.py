"""One service for the tests of the command line."""

from running_grid import grid

__all__ = ["grid"]
