"""Packages of scripts, installed by uv in real boxes: from a folder of wheels, so that no test needs the network."""

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pool import wheels
from pool.boxes import Boxes
from pool.grid_double import GridDouble

from rgrid.pool.install_log import MARK
from rgrid.pool.package_index import PackageIndex, of_this_machine
from rgrid.pool.pool import RunnerPool
from rgrid.pool.protocol import Outcome
from rgrid.pool.sandbox import Level
from rgrid.pool.tuning import PoolTuning

PUBLIC = "iniconfig"
ALPHA = "import alpha; print(alpha.VERSION)"
# A line of a .pth file is run at every start of an interpreter.
AT_EVERY_START = (
    "import os; cache = os.environ.get('UV_CACHE_DIR'); cache and os.mkdir(cache + '/x'); print('started')\n"
)
# Run while the package is built: it writes down what it sees there.
LOOKS_AROUND = """
import os
seen = [sorted(os.environ), os.getuid(), os.listdir("PLACE"), [pid for pid in os.listdir("/proc") if pid.isdigit()]]
open("probe.py", "a").write(f"SEEN = {seen!r}\\n")
"""
AGAIN = f"{MARK}trying again, with building packages from source"


class Bench:
    """An engine and a folder of packages; pools come and go on it."""

    def __init__(self, *, warm: bool = True, highest: Level = "bubblewrap") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rgrid-install-"))
        self.folder.chmod(0o711)
        self.wheels = self.folder / "packages"
        self.wheels.mkdir()
        wheels.wheel(self.wheels, "alpha", "1.0")
        wheels.wheel(self.wheels, "alpha", "2.0")
        wheels.wheel(self.wheels, "beta", "1.0", requires=("alpha<2",))
        wheels.wheel(self.wheels, "delta", **{"delta.pth": AT_EVERY_START})
        wheels.source(self.wheels, "gamma")
        wheels.source(self.wheels, "probe", build=LOOKS_AROUND.replace("PLACE", str(self.folder)))
        wheels.source(self.wheels, "endless", build="import time\ntime.sleep(60)\n")
        self.index = PackageIndex(env={"UV_FIND_LINKS": str(self.wheels)}, no_index=True, folders=(self.wheels,))
        self.boxes = Boxes(warm=warm, highest=highest, shown=[self.wheels, *of_this_machine().folders])

    def run(self, *jobs: dict[str, Any], pools: int = 1, **tuning: Any) -> GridDouble:
        return self.boxes.do(self._run(jobs, pools, tuning))

    async def _run(self, jobs: tuple[dict[str, Any], ...], pools: int, tuning: dict[str, Any]) -> GridDouble:
        grid = GridDouble()
        async with self.pools(grid, pools, **tuning):
            await grid.until_ended(*[submit(grid, **job) for job in jobs])
        return grid

    @contextlib.asynccontextmanager
    async def pools(self, grid: GridDouble, count: int, **tuning: Any) -> AsyncIterator[None]:
        """Workers that share the engine's machine and nothing else."""
        engine, stop = self.boxes.engine, asyncio.Event()
        values: dict[str, Any] = {"slots": 2, "renew_every_s": 0.5, "package_index": self.index, **tuning}
        made = [RunnerPool(grid, grid, engine, PoolTuning(**values), engine.jobs) for _ in range(count)]
        tasks = [asyncio.ensure_future(pool.run(stop)) for pool in made]
        yield
        stop.set()
        await asyncio.gather(*tasks)

    def close(self) -> None:
        self.boxes.close()
        shutil.rmtree(self.folder)

    def environments(self) -> set[str]:
        return {path.parent.name for path in (self.boxes.jobs / ".environments").glob("*/made.json")}


def submit(grid: GridDouble, *, script: str, needs: str, runtime: str = "python", **more: Any) -> str:
    requirements = grid.put(needs, "requirements.txt")
    return grid.submit(script, runtime=runtime, requirements=requirements, **more)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def only(grid: GridDouble) -> tuple[Outcome, list[str]]:
    (name,) = grid.outcomes
    return grid.outcome(name), grid.messages(name)


def test_a_script_imports_its_packages_and_its_log_begins_with_their_installation(bench: Bench) -> None:
    script = "import alpha, beta, shutil\nprint(alpha.VERSION, beta.VERSION, shutil.which('say-beta'))"
    grid = bench.run({"script": script, "needs": "beta\n", "next_sequence": 7})
    outcome, said = only(grid)
    assert outcome.end == "completed", (outcome, said)
    assert said[-1] == "1.0 1.0 /rgrid/environment/bin/say-beta"
    assert all(line.startswith(MARK) for line in said[:-1])
    assert any("alpha==1.0" in line for line in said)
    (lines,) = grid.logs.values()
    assert sorted(lines) == list(range(7, 7 + len(said)))
    assert [lines[7].stream, lines[max(lines)].stream] == ["stderr", "stdout"]
    assert (outcome.stderr_size_bytes, outcome.metadata["packages"]) == (0, "installed")
    again, said_again = only(bench.run({"script": script, "needs": "Beta  # again\n"}))
    assert (again.metadata["packages"], said_again) == ("reused", [said[-1]])
    assert again.metadata["start"] == "warm"


def test_two_workers_install_what_both_need_once(bench: Bench) -> None:
    job = {"script": ALPHA, "needs": "alpha>=1.5\n"}
    grid = bench.run(job, job, job, pools=2)
    how = sorted(grid.outcome(name).metadata["packages"] for name in grid.outcomes)
    assert how == ["installed", "reused", "reused"]
    assert {grid.messages(name)[-1] for name in grid.outcomes} == {"2.0"}


def test_no_other_runtime_gets_an_environment(bench: Bench) -> None:
    pythons = [name for name in bench.boxes.engine.runtimes() if name in ("python:3.10", "python:3.11", "python:3.12")]
    if len(pythons) < 2:
        pytest.skip("this machine has only one Python")
    before = bench.environments()
    script = "import alpha, sys; print(sys.version_info[1])"
    grid = bench.run(*[{"script": script, "needs": "alpha!=1.0\n", "runtime": name} for name in pythons[:2]])
    assert [grid.outcome(name).metadata["packages"] for name in grid.outcomes] == ["installed", "installed"]
    assert sorted(f"python:3.{grid.messages(name)[-1]}" for name in grid.outcomes) == sorted(pythons[:2])
    assert len(bench.environments() - before) == 2


def test_a_script_can_neither_change_its_packages_nor_reach_the_network_that_brought_them(bench: Bench) -> None:
    script = (
        "import alpha, os, socket\n"
        "for path in (alpha.__file__, os.path.dirname(alpha.__file__) + '/new', '/rgrid/environment/new'):\n"
        "    try:\n        open(path, 'a')\n        print('wrote', path)\n"
        "    except OSError as error:\n        print('refused')\n"
        "print([name for _, name in socket.if_nameindex()])\n"
    )
    outcome, said = only(bench.run({"script": script, "needs": "alpha\n"}))
    assert outcome.end == "completed", said
    assert [line for line in said if not line.startswith(MARK)] == ["refused"] * 3 + ["['lo']"]


def test_a_package_that_comes_as_source_is_built_apart_from_what_installations_share(bench: Bench) -> None:
    outcome, said = only(bench.run({"script": "import gamma; print(gamma.BUILT)", "needs": "gamma\n"}))
    assert (outcome.end, said[-1]) == ("completed", "True"), said
    assert AGAIN in said
    cached = [path.name for path in (bench.boxes.jobs / ".environments/cache").rglob("*gamma*")]
    assert not [name for name in cached if name.endswith(".whl")]


def test_what_builds_a_package_sees_neither_the_machine_nor_the_environment_of_the_service(bench: Bench) -> None:
    script = "import json, probe; print(json.dumps(probe.SEEN))"
    outcome, said = only(bench.run({"script": script, "needs": "probe\n"}))
    assert outcome.end == "completed", said
    names, uid, beside, processes = json.loads(said[-1])
    assert not [name for name in names if "SECRET" in name or name.startswith("RGRID")]
    assert (uid, beside) == (1000, ["packages"])
    assert len(processes) < 10


def test_what_a_package_runs_at_every_start_runs_with_the_script_and_not_where_installations_share(
    bench: Bench,
) -> None:
    outcome, said = only(bench.run({"script": "print('script')", "needs": "delta\n"}))
    assert [line for line in said if "start" in line or line == "script"] == ["started", "script"], (outcome, said)
    assert not (bench.boxes.jobs / ".environments/cache/x").exists()


def test_what_can_not_be_found_fails_with_the_words_of_the_installer_and_no_second_try(bench: Bench) -> None:
    before = bench.environments()
    outcome, said = only(bench.run({"script": "print('never')", "needs": "alpha==9.9\n"}))
    assert (outcome.end, outcome.failure_reason) == ("failed", "dependency_install")
    assert outcome.error is not None
    assert "alpha==9.9" in outcome.error
    assert not outcome.caused_by_network
    assert (outcome.duration_ms, outcome.exit_code, outcome.started_at) == (0, None, None)
    assert all(line.startswith(MARK) for line in said)
    assert bench.environments() == before


def test_an_index_that_can_not_be_reached_is_the_fault_of_the_network(bench: Bench) -> None:
    env = {"UV_DEFAULT_INDEX": "http://me:hunter2-password@127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}
    index = PackageIndex(env=env, masked=("hunter2-password",))
    outcome, said = only(bench.run({"script": "print('never')", "needs": "alpha\n"}, package_index=index))
    assert (outcome.failure_reason, outcome.caused_by_network) == ("dependency_install", True), said
    assert "hunter2-password" not in f"{said}{outcome.error}"


def test_an_installation_that_takes_too_long_ends(bench: Bench) -> None:
    job = {"script": "print('never')", "needs": "endless\n"}
    outcome, _ = only(bench.run(job, install_timeout_s=3.0))
    assert (outcome.failure_reason, outcome.caused_by_network) == ("dependency_install", False)
    assert outcome.error == "The packages were not installed within 3 s."


def test_an_installation_can_be_cancelled(bench: Bench) -> None:
    async def scenario() -> Outcome:
        grid = GridDouble()
        async with bench.pools(grid, 1):
            name = submit(grid, script="print('never')", needs="endless\n")
            await grid.until_printed(name, AGAIN)
            grid.to_cancel.add(grid.current[name])
            await grid.until_ended(name)
            return grid.outcome(name)

    outcome = bench.boxes.do(scenario())
    assert (outcome.end, outcome.failure_reason) == ("cancelled", "cancelled")
    assert not list((bench.boxes.jobs / ".environments").glob(".young-*"))


def test_where_no_box_can_be_made_packages_are_installed_all_the_same_and_nothing_is_shared() -> None:
    bench = Bench(warm=False, highest="rlimits")
    try:
        job = {"script": "import beta, gamma, alpha; print(alpha.VERSION)", "needs": "beta\ngamma\n"}
        grid = bench.run(job, job)
        assert {grid.messages(name)[-1] for name in grid.outcomes} == {"1.0"}, grid.outcomes
        assert not (bench.boxes.jobs / ".environments/cache").exists()
    finally:
        bench.close()


def test_a_copy_of_a_warm_interpreter_is_in_its_environment_like_a_fresh_one(bench: Bench) -> None:
    place = bench.boxes.jobs / "environment"
    interpreter = next(one for one in bench.boxes.engine.interpreters if "python" in one.aliases)
    packages = place / "lib" / "python{}.{}".format(*interpreter.version[:2]) / "site-packages"
    (place / "bin").mkdir(parents=True)
    packages.mkdir(parents=True)
    (place / "bin" / "python").symlink_to(interpreter.program)
    home = Path(interpreter.program).parent
    (place / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    (packages / "alpha.py").write_text("VERSION = 1\n")
    (packages / "more.pth").write_text("import sys; sys.seen = True\n/work\n")
    (packages / "sitecustomize.py").write_text("import sys\nsys.customized = True\n")
    script = (
        "import alpha, json, sys, sysconfig\n"
        "print(json.dumps([sys.prefix, sys.exec_prefix, sys.executable, sys.base_prefix, sys.path, sys.seen,"
        " sys.customized, alpha.__file__, sysconfig.get_path('purelib'), sorted(sys.modules)]))"
    )
    copied = bench.boxes.run(script, environment=place)
    fresh = bench.boxes.run(script, environment=place, env={"PYTHONHASHSEED": "0"})
    assert [ran.ended.metadata["start"] for ran in (copied, fresh)] == ["warm", "cold"]
    assert (copied.ended.exit_code, copied.err) == (0, "")
    assert json.loads(copied.out) == json.loads(fresh.out)


def test_packages_come_from_the_index_of_this_machine(bench: Bench) -> None:
    job = {"script": f"import {PUBLIC} as it; print(it.__name__)", "needs": f"{PUBLIC}\n"}
    outcome, said = only(bench.run(job, package_index=of_this_machine()))
    if outcome.caused_by_network and not os.environ.get("RGRID_TEST_STRICT"):
        pytest.skip("no package index can be reached over the network")
    assert (outcome.end, said[-1]) == ("completed", PUBLIC), outcome
