"""Which level of isolation is reached, what is refused, and how the last resort still ends what it started."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pool.boxes import SECRET, Boxes, Ran, printed
from pool.test_box_ends import DAEMON, GENTLE
from pool.test_box_isolation import ENVIRONS, WRITE_EVERYWHERE

from rgrid.kernel.errors import Invalid, Unavailable
from rgrid.pool.engines.local import LocalEngine


@pytest.fixture(scope="module")
def processes() -> Iterator[Boxes]:
    """An engine that makes no boxes."""
    made = Boxes(warm=True, highest="rlimits")
    yield made
    made.close()


@pytest.fixture(scope="module")
def poor_proc() -> Iterator[Boxes]:
    """An engine as in a container that masks /proc."""
    made = Boxes(warm=True, highest="bubblewrap-limited-proc")
    yield made
    made.close()


@pytest.fixture
def jobs() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="rgrid-boxes-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def test_here_the_best_level_is_reached(warm_boxes: Boxes) -> None:
    assert (warm_boxes.engine.level, warm_boxes.engine.runner_kind) == ("bubblewrap", "sandbox")
    assert warm_boxes.engine.why_not == []
    assert warm_boxes.run("print(1)").ended.metadata == {"sandbox_level": "bubblewrap", "start": "warm"} | (
        {} if warm_boxes.engine.groups else {"memory": "limited by address space", "cpu": "not limited"}
    )


def test_a_minimum_that_is_not_reached_refuses_to_run(jobs: Path) -> None:
    with pytest.raises(Unavailable, match="no sandbox of level bubblewrap"):
        asyncio.run(LocalEngine.open(jobs, minimum="bubblewrap", highest="rlimits"))


def test_an_unknown_minimum_is_refused(jobs: Path) -> None:
    with pytest.raises(Invalid, match="unknown sandbox level"):
        asyncio.run(LocalEngine.open(jobs, minimum="perfect"))


def test_runtimes_answer_to_their_other_names(warm_boxes: Boxes) -> None:
    version = "import sys\nprint(*sys.version_info[:2])"
    assert {warm_boxes.run(version, runtime=name).out for name in ("python", "python3.11", "py311", "python:3.11")} == {
        "3 11\n"
    }


def test_with_a_poor_proc_nothing_of_other_processes_is_seen(poor_proc: Boxes) -> None:
    assert poor_proc.engine.level == "bubblewrap-limited-proc"
    assert poor_proc.run("import os\nprint([n for n in os.listdir('/proc') if n.isdigit()])").out == "[]\n"
    assert poor_proc.run(WRITE_EVERYWHERE).out.strip() == "['/dev/shm', '/tmp', '/work']"
    assert poor_proc.run("print(1)").ended.metadata["start"] == "cold"


def test_a_plain_process_has_limits_a_user_of_its_own_and_a_clean_environment(processes: Boxes) -> None:
    assert (processes.engine.level, processes.engine.runner_kind) == ("rlimits", "process")
    ran = processes.run(
        "import os, resource\nprint(os.getuid(), os.getcwd(), resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    uid, folder, *files = ran.out.split()
    assert (int(uid) != 0, folder, files) == (True, str(ran.work), ["(1024,", "1024)"])
    assert ran.ended.metadata["network"] == "not isolated"
    if os.geteuid() == 0:
        assert int(uid) != os.geteuid()
        assert SECRET not in processes.run(ENVIRONS).out


def test_a_plain_process_leaves_nothing_behind(processes: Boxes) -> None:
    ran = processes.run(DAEMON.replace("/work/", ""))
    assert ran.out == "done\n"
    size = (ran.work / "beat").stat().st_size
    time.sleep(0.1)
    assert (ran.work / "beat").stat().st_size == size


def test_a_plain_process_ends_at_its_time_limit_with_all_its_children(processes: Boxes) -> None:
    script = DAEMON.replace("/work/", "").replace('print("done")', "time.sleep(60)")
    ran = processes.run(script, timeout_s=1.0)
    assert (ran.ended.why, ran.ended.exit_code) == ("timeout", None)
    size = (ran.work / "beat").stat().st_size
    time.sleep(0.1)
    assert (ran.work / "beat").stat().st_size == size


def test_a_plain_process_can_clean_up_when_cancelled(processes: Boxes) -> None:
    async def cancelled() -> Ran:
        under = await processes.begin(GENTLE)
        await printed(under, b"ready\n")
        under.run.cancel()
        return Ran(ended=await under.run.wait(), chunks=under.chunks, work=under.work)

    ran = processes.do(cancelled())
    assert (ran.ended.why, ran.ended.exit_code, ran.out) == ("cancelled", 3, "ready\nbye\n")


def test_two_engines_share_a_folder_of_jobs_and_the_next_sweeps_after_the_dead(jobs: Path) -> None:
    dead = jobs / ".box-dead"
    dead.mkdir()

    async def two() -> None:
        first = await LocalEngine.open(jobs, warm=False)
        second = await LocalEngine.open(jobs, warm=False)
        assert first.folder.is_dir() and second.folder.is_dir()
        assert not dead.exists()
        await first.close()
        assert not first.folder.exists() and second.folder.is_dir()
        await second.close()

    asyncio.run(two())
    assert list(jobs.iterdir()) == []


UNPRIVILEGED = """
import sys
from pool.boxes import Boxes
for warm in (False, True):
    boxes = Boxes(warm=warm)
    assert boxes.engine.level == "bubblewrap", boxes.engine.why_not
    look = "import os; print(os.getuid(), os.listdir('/work'), sorted(n for n in os.listdir('/proc') if n.isdigit()))"
    ran = boxes.run(look)
    assert ran.out == "1000 [] ['1', '2']\\n", ran
    assert ran.ended.metadata["start"] == ("warm" if warm else "cold")
    bomb = "import os, time\\nn = 0\\ntry:\\n  while True:\\n    if os.fork() == 0: time.sleep(60)\\n    n += 1\\n"
    bomb += "except OSError: print(n)"
    assert 100 < int(boxes.run(bomb, memory_mb=64).out) < 257
    assert "MemoryError" in boxes.run("x = b'x' * (1 << 30)").err
    boxes.close()
print("fine")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run without root here already")
def test_without_root_the_same_boxes_are_made() -> None:
    # The packages of this environment were built for this version.
    name = f"python3.{sys.version_info[1]}"
    python = f"/usr/bin/{name}"
    if not os.access(python, os.X_OK):
        pytest.skip(f"a Python that any user can reach is missing: apt install {name}")
    tree = Path(__file__).resolve().parents[2]
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    done = subprocess.run(
        [python, "-S", "-c", UNPRIVILEGED],
        user=65534,
        group=65534,
        extra_groups=[],
        env={"PYTHONPATH": f"{tree}/src:{tree}/tests:{packages}", "PATH": "/usr/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.endswith("fine\n"), done.stderr
