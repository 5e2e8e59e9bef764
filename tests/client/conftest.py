"""One service for the tests of the client."""

from running_grid import grid

__all__ = ["grid"]
