"""The two ways to start a script in a box; every test of a box runs through both."""

from collections.abc import Iterator

import pytest
from pool.boxes import Boxes


@pytest.fixture(scope="session")
def cold_boxes() -> Iterator[Boxes]:
    """An engine that starts every script with an interpreter of its own."""
    made = Boxes(warm=False)
    yield made
    made.close()


@pytest.fixture(scope="session")
def warm_boxes() -> Iterator[Boxes]:
    """An engine that copies a warm interpreter where it can."""
    made = Boxes(warm=True)
    yield made
    made.close()


@pytest.fixture(params=["cold", "warm"])
def boxes(request: pytest.FixtureRequest) -> Boxes:
    """An engine of real boxes."""
    made: Boxes = request.getfixturevalue(f"{request.param}_boxes")
    return made
