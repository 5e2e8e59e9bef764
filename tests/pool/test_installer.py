"""Packages of scripts, installed by uv in real boxes: from a folder of wheels, so that no test needs the network."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pool import wheels
from pool.boxes import Boxes
from pool.grid_double import GridDouble

from rgrid.pool.engines.local import LocalEngine
from rgrid.pool.install_log import MARK
from rgrid.pool.package_index import PackageIndex, of_this_machine
from rgrid.pool.pool import RunnerPool
from rgrid.pool.protocol import Outcome
from rgrid.pool.tuning import PoolTuning

LIMIT_S = 120.0
INDEX_NAME = "iniconfig"


class Bench:
    """An engine with its own jobs folder and a folder of packages; pools come and go on it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rgrid-install-", dir="/tmp"))
        self.folder.chmod(0o711)
        self.wheels = self.folder / "packages"
        self.wheels.mkdir()
        wheels.wheel(self.wheels, "alpha", "1.0")
        wheels.wheel(self.wheels, "alpha", "2.0")
        wheels.wheel(self.wheels, "beta", "1.0", requires=("alpha<2",))
        wheels.source(self.wheels, "gamma", "1.0")
        self.index = PackageIndex(
            env={"UV_FIND_LINKS": str(self.wheels)}, no_index=True, folders=(self.wheels,), masked=("hunter2-password",)
        )

    def run(
        self, *jobs: dict[str, Any], pools: int = 1, index: PackageIndex | None = None, **tuning: Any
    ) -> GridDouble:
        return asyncio.run(asyncio.wait_for(self._run(jobs, pools, index or self.index, tuning), LIMIT_S))

    async def _run(
        self, jobs: tuple[dict[str, Any], ...], pools: int, index: PackageIndex, tuning: dict[str, Any]
    ) -> GridDouble:
        grid = GridDouble()
        engine = await LocalEngine.open(self.folder / "jobs", warm=False, shown=[*self.index.folders, *index.folders])
        values: dict[str, Any] = {"slots": 2, "renew_every_s": 1.0, "package_index": index, **tuning}
        stop = asyncio.Event()
        made = [RunnerPool(grid, grid, engine, PoolTuning(**values), engine.jobs) for _ in range(pools)]
        tasks = [asyncio.ensure_future(pool.run(stop)) for pool in made]
        try:
            names = [submit(grid, **job) for job in jobs]
            await grid.until_ended(*names)
            stop.set()
            await asyncio.gather(*tasks)
            return grid
        finally:
            await engine.close()

    def environments(self) -> set[str]:
        return {path.parent.name for path in (self.folder / "jobs" / ".environments").glob("*/.rgrid.json")}


def submit(grid: GridDouble, *, script: str, needs: str, runtime: str = "python", **more: Any) -> str:
    requirements = grid.put(needs, "requirements.txt")
    return grid.submit(script, runtime=runtime, requirements=requirements, **more)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    shutil.rmtree(made.folder)


def only(grid: GridDouble) -> tuple[Outcome, list[str]]:
    (name,) = grid.outcomes
    return grid.outcome(name), grid.messages(name)


def test_a_script_imports_its_packages_and_its_log_begins_with_their_installation(bench: Bench) -> None:
    script = "import alpha, beta, shutil\nprint(alpha.VERSION, beta.VERSION, shutil.which('say-beta'))"
    outcome, said = only(bench.run({"script": script, "needs": "beta\n"}))
    assert outcome.end == "completed", (outcome, said)
    assert said[-1] == "1.0 1.0 /rgrid/environment/bin/say-beta"
    assert all(line.startswith(MARK) for line in said[:-1])
    assert any("alpha==1.0" in line for line in said)
    assert outcome.stderr_size_bytes == 0
    assert outcome.metadata["packages"] == "installed"
    assert outcome.duration_ms < int(outcome.metadata["packages_ms"]) + 60_000
    again, said_again = only(bench.run({"script": script, "needs": "Beta  # again\n"}))
    assert (again.metadata["packages"], said_again) == ("reused", [said[-1]])


def test_lines_of_an_installation_and_of_its_script_are_one_sequence(bench: Bench) -> None:
    grid = bench.run({"script": "print('one')\nprint('two')", "needs": "alpha==1.0\n", "next_sequence": 7})
    (name,) = grid.outcomes
    assert sorted(grid.logs[name]) == list(range(7, 7 + len(grid.logs[name])))
    first, last = grid.logs[name][7], grid.logs[name][max(grid.logs[name])]
    assert (first.stream, last.stream, last.message) == ("stderr", "stdout", "two")


def test_two_workers_install_what_both_need_once(bench: Bench) -> None:
    job = {"script": "import alpha; print(alpha.VERSION)", "needs": "alpha>=1.5\n"}
    grid = bench.run(job, job, job, pools=2)
    how = sorted(grid.outcome(name).metadata["packages"] for name in grid.outcomes)
    assert how == ["installed", "reused", "reused"]
    assert {grid.messages(name)[-1] for name in grid.outcomes} == {"2.0"}


def test_no_other_runtime_gets_an_environment(bench: Bench) -> None:
    before = bench.environments()
    script = "import alpha, sys; print(sys.version_info[:2])"
    jobs = [{"script": script, "needs": "alpha!=1.0\n", "runtime": f"python:3.{minor}"} for minor in (11, 12)]
    grid = bench.run(*jobs)
    if any(one.failure_reason == "runtime_unavailable" for name in grid.outcomes for one in [grid.outcome(name)]):
        pytest.skip("this machine has only one of python:3.11 and python:3.12")
    assert [grid.outcome(name).metadata["packages"] for name in grid.outcomes] == ["installed", "installed"]
    assert sorted(grid.messages(name)[-1] for name in grid.outcomes) == ["(3, 11)", "(3, 12)"]
    assert len(bench.environments() - before) == 2


def test_a_script_can_neither_change_its_packages_nor_reach_the_network_that_brought_them(bench: Bench) -> None:
    script = (
        "import alpha, os, socket\n"
        "for path in (alpha.__file__, os.path.dirname(alpha.__file__) + '/new', '/rgrid/environment/new'):\n"
        "    try:\n        open(path, 'a')\n        print('wrote', path)\n"
        "    except OSError as error:\n        print(error.errno)\n"
        "print([name for _, name in socket.if_nameindex()])\n"
    )
    outcome, said = only(bench.run({"script": script, "needs": "alpha\n"}))
    assert outcome.end == "completed", said
    assert [line for line in said if not line.startswith(MARK)] == ["30", "30", "30", "['lo']"]


def test_a_package_that_comes_as_source_is_built_apart_from_what_installations_share(bench: Bench) -> None:
    outcome, said = only(bench.run({"script": "import gamma; print(gamma.BUILT)", "needs": "gamma\n"}))
    assert (outcome.end, said[-1]) == ("completed", "True"), said
    assert any("building packages from source" in line for line in said)
    cached = [path.name for path in (bench.folder / "jobs/.environments/cache").rglob("*gamma*.whl")]
    assert cached == []


def test_what_can_not_be_found_fails_with_the_words_of_the_installer_and_no_second_try(bench: Bench) -> None:
    before = bench.environments()
    outcome, said = only(bench.run({"script": "print('never')", "needs": "alpha==9.9\n"}))
    assert (outcome.end, outcome.failure_reason) == ("failed", "dependency_install")
    assert outcome.error is not None
    assert "alpha==9.9" in outcome.error
    assert not outcome.caused_by_network
    assert (outcome.duration_ms, outcome.exit_code) == (0, None)
    assert all(line.startswith(MARK) for line in said)
    assert bench.environments() == before


def test_an_index_that_can_not_be_reached_is_the_fault_of_the_network(bench: Bench) -> None:
    nowhere = PackageIndex(
        env={"UV_DEFAULT_INDEX": "http://me:hunter2-password@127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}
    )
    nowhere = PackageIndex(env=nowhere.env, masked=("hunter2-password",))
    outcome, said = only(bench.run({"script": "print('never')", "needs": "alpha\n"}, index=nowhere))
    assert (outcome.failure_reason, outcome.caused_by_network) == ("dependency_install", True), said
    assert "hunter2-password" not in f"{said}{outcome.error}"


def test_an_installation_that_takes_too_long_ends(bench: Bench) -> None:
    slow = "import time\ntime.sleep(60)\n"
    archive = wheels.source(bench.wheels, "slow", module=slow)
    try:
        text = _with_slow_build(archive)
        assert text
        outcome, _ = only(bench.run({"script": "print('never')", "needs": "slow\n"}, install_timeout_s=3.0))
    finally:
        archive.unlink()
    assert (outcome.failure_reason, outcome.caused_by_network) == ("dependency_install", False)
    assert outcome.error == "The packages were not installed within 3 s."


def _with_slow_build(archive: Path) -> bytes:
    """The same package again, whose build never ends."""
    original = wheels._BACKEND
    try:
        wheels._BACKEND = "import time\ntime.sleep(60)\n" + original
        return wheels.source(archive.parent, "slow").read_bytes()
    finally:
        wheels._BACKEND = original


def test_an_installation_can_be_cancelled(bench: Bench) -> None:
    archive = wheels.source(bench.wheels, "slow")
    _with_slow_build(archive)

    async def scenario() -> Outcome:
        grid = GridDouble()
        engine = await LocalEngine.open(bench.folder / "jobs", warm=False, shown=bench.index.folders)
        tuning = PoolTuning(slots=1, renew_every_s=0.1, package_index=bench.index)
        stop = asyncio.Event()
        task = asyncio.ensure_future(RunnerPool(grid, grid, engine, tuning, engine.jobs).run(stop))
        try:
            name = submit(grid, script="print('never')", needs="slow\n")
            await grid.until_printed(name, f"{MARK}trying again, with building packages from source")
            grid.to_cancel.add(grid.current[name])
            await grid.until_ended(name)
            stop.set()
            await task
            return grid.outcome(name)
        finally:
            await engine.close()

    try:
        outcome = asyncio.run(asyncio.wait_for(scenario(), LIMIT_S))
    finally:
        archive.unlink()
    assert (outcome.end, outcome.failure_reason) == ("cancelled", "cancelled")


@pytest.mark.parametrize("unlike", ["", "cold"])
def test_a_copy_of_a_warm_interpreter_is_in_its_environment_like_a_fresh_one(warm_boxes: Boxes, unlike: str) -> None:
    place = warm_boxes.jobs / f"environment-{unlike or 'warm'}"
    packages = place / "lib" / "python3.11" / "site-packages"
    interpreter = next((one for one in warm_boxes.engine.interpreters if one.runtime == "python:3.11"), None)
    if interpreter is None:
        pytest.skip("there is no python:3.11 here")
    (place / "bin").mkdir(parents=True)
    packages.mkdir(parents=True)
    (place / "bin" / "python").symlink_to(interpreter.program)
    (place / "pyvenv.cfg").write_text(f"home = {Path(interpreter.program).parent}\n")
    (packages / "alpha.py").write_text("VERSION = 1\n")
    (packages / "more.pth").write_text("import sys; sys.seen = True\n/work\n")
    (packages / "sitecustomize.py").write_text("import sys\nsys.customized = True\n")
    script = (
        "import alpha, json, sys, sysconfig\n"
        "print(json.dumps([sys.prefix, sys.exec_prefix, sys.executable, sys.base_prefix, sys.path, sys.seen,"
        " sys.customized, alpha.__file__, sysconfig.get_path('purelib'), sorted(sys.modules)]))"
    )
    env = {"PYTHONHASHSEED": "0"} if unlike else {}
    ran = warm_boxes.run(script, runtime="python:3.11", environment=place, env=env)
    assert ran.ended.exit_code == 0, ran.err
    assert ran.ended.metadata["start"] == (unlike or "warm")
    _SEEN[unlike] = ran.out
    if unlike:
        assert _SEEN[""] == ran.out
    shutil.rmtree(place)


_SEEN: dict[str, str] = {}


def test_packages_come_from_the_index_of_this_machine(bench: Bench) -> None:
    index = of_this_machine()
    outcome, said = only(
        bench.run({"script": f"import {INDEX_NAME} as it; print(it.__name__)", "needs": INDEX_NAME}, index=index)
    )
    if outcome.caused_by_network and not os.environ.get("RGRID_TEST_STRICT"):
        pytest.skip("no package index can be reached from here")
    assert (outcome.end, said[-1]) == ("completed", INDEX_NAME), outcome
