"""The disk under the object store is full: what needs it fails clearly, the rest goes on, and room helps at once."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from end_to_end.conftest import Starter
from end_to_end.evidence import check_everything
from end_to_end.grid import Service

from rgrid.client.problems import Refused
from rgrid.executions.events import ExecutionClaimed

SPACE = 8 << 20
GREEDY = f"open('big.bin', 'wb').write(__import__('os').urandom({SPACE * 2}))\nprint('written')"
MODEST = "open('small.txt', 'w').write('fits')\nprint('done')"
FAILS_MAX_S = 45


@pytest.fixture
def small_objects(folder: Path) -> Iterator[Path]:
    """A file system of its own below the data folder, where the objects go."""
    objects = folder / "data" / "objects"
    objects.mkdir(parents=True, mode=0o700)
    words = ["mount", "-t", "tmpfs", "-o", f"size={SPACE},mode=0700", "rgrid-test", str(objects)]
    mounted = subprocess.run(words, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small file system needs root and mount: {mounted.stderr.strip()}")
    yield objects
    subprocess.run(["umount", "-l", str(objects)], check=True)


def test_outputs_that_do_not_fit_fail_clearly_and_room_brings_everything_back(
    small_objects: Path, start_service: Starter, folder: Path
) -> None:
    service = start_service(slots=2)
    greedy = service.submit(GREEDY, max_retries=0)
    modest = service.submit(MODEST)
    assert service.ended(modest, 20).status == "completed", "a full disk for one is no fault of the other"
    failed = service.ended(greedy, FAILS_MAX_S)
    assert (failed.status, failed.failure_reason, failed.stdout) == ("failed", "internal", "written\n")
    assert "full" in (failed.execution_error or ""), failed.execution_error
    assert str(folder) not in (failed.execution_error or ""), "an error tells no path of the service's machine"
    assert not list(service.client().artifacts(greedy)), "an artifact is listed that was not stored"

    _fill(small_objects)
    with pytest.raises(Refused) as refused:
        service.submit("print('a script that nobody has seen yet')")
    assert (refused.value.status, refused.value.code) == (503, "storage_full"), refused.value
    assert service.client().get(modest).status == "completed"

    # One that waits for room goes on when it comes, and is not run again.
    (small_objects / "filler").unlink()
    waiting = service.submit("import time\ntime.sleep(1)\n" + MODEST)
    _fill(small_objects)
    service.printed(waiting, "done")
    assert not service.client().get(waiting).is_over
    (small_objects / "filler").unlink()
    assert service.ended(waiting, 20).status == "completed"

    subprocess.run(["mount", "-o", f"remount,size={SPACE * 8}", str(small_objects)], check=True)
    again = service.submit(GREEDY, max_retries=0)
    assert service.ended(again, 20).status == "completed"
    _check_artifacts(service, [modest, waiting, again], folder)
    found = check_everything(service, wait_max_s=10)
    assert len(found.of(waiting, ExecutionClaimed)) == 1, found.told(waiting)
    left = [path.name for path in (small_objects / "incoming").glob("*")]
    assert not left, f"half-written objects are left: {left}"


def _fill(folder: Path) -> None:
    """Not one more block fits."""
    with (folder / "filler").open("wb", buffering=0) as filler:
        for block in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    filler.write(b"\0" * block)
            except OSError:
                continue
    assert os.statvfs(folder).f_bavail == 0


def _check_artifacts(service: Service, execution_ids: list[str], folder: Path) -> None:
    for execution_id in execution_ids:
        [artifact] = service.client().artifacts(execution_id)
        assert service.client().download(artifact, folder).stat().st_size == artifact.size_bytes
