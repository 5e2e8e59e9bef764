"""Two services for the tests of the interface: one that runs scripts, and one where everything stays queued."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from api.one_service import Live, service


@pytest.fixture
def database(ready_database: str) -> str:
    """The address of a database of this test's own, as the first start of a service leaves it."""
    return ready_database


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    """A service with workers."""
    yield from _served(slots=4)


@pytest.fixture(scope="session")
def idle() -> Iterator[Live]:
    """A service without workers: what is submitted stays queued. Nothing waits for longer than a second."""
    yield from _served(slots=0, inputs_deadline_s=1, position_wait_s=1)


def _served(**settings: object) -> Iterator[Live]:
    folder = Path(tempfile.mkdtemp(prefix="rgrid-api-"))
    try:
        with service(folder, **settings) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def finished(live: Live) -> dict[str, object]:
    """An execution that ended, with a line on each stream, an input and an output."""
    script = (
        "import sys, pathlib\n"
        "print('out', pathlib.Path('in.txt').read_text())\n"
        "print('err', file=sys.stderr)\n"
        "pathlib.Path('out.txt').write_text('made')\n"
    )
    execution = live.submit(script, input_files=["in.txt"], name="finished", user_metadata={"made": "first"})
    assert live.http.put(execution["upload_urls"]["in.txt"], content=b"given").status_code == 200
    done = live.http.post(f"/api/v1/executions/{execution['execution_id']}/inputs/complete")
    assert done.status_code == 200, done.text
    return live.ended(execution["execution_id"])
