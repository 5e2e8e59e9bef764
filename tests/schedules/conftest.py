"""Fixtures for the tests of schedules."""

import pytest


@pytest.fixture
def database(ready_database: str) -> str:
    """The address of a database of this test's own, as the first start of a service leaves it."""
    return ready_database
