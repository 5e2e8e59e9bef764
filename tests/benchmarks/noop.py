"""No-op executions per second through the API, against `xargs -P` of the same interpreter in a clean environment."""

import os
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rgrid.pool import interpreters
from tests.benchmarks.bench_grid import BenchGrid
from tests.benchmarks.report import Figure, compared, in_turn

WAIT_MAX_S = 120


def run(smoke: bool) -> list[Figure]:
    count, rounds = (50, 1) if smoke else (500, 5)
    cores = os.cpu_count() or 1
    with BenchGrid(slots=cores) as grid, tempfile.TemporaryDirectory() as folder:
        program = _clean_interpreter(Path(folder))
        _through_the_grid(grid, 20)
        ours, xargs = in_turn(
            rounds, lambda: _through_the_grid(grid, count), lambda: _through_xargs(program, cores, count)
        )
    return [compared("noop", "no-op executions", "/s", ours, f"xargs -P{cores} python -c pass", xargs, "≥ 0.7")]


def _clean_interpreter(folder: Path) -> str:
    """The interpreter that runs `python:3.11`, without anybody's site-packages: a crowded one starts three times
    slower."""
    found = interpreters.resolve("python:3.11", interpreters.discover(os.environ["PATH"]))
    assert found is not None, "python 3.11 is not here"
    subprocess.run([found.program, "-m", "venv", "--without-pip", str(folder / "clean")], check=True)
    return str(folder / "clean/bin/python")


def _through_the_grid(grid: BenchGrid, count: int) -> float:
    began = time.monotonic()
    batch = f"batch_{time.time_ns():026d}"
    body = {"script_content": "pass", "batch_id": batch}
    with ThreadPoolExecutor(4) as threads:
        for _ in threads.map(lambda _: grid.call("POST", "/api/v1/executions", body), range(count)):
            pass
    while time.monotonic() - began < WAIT_MAX_S:
        listed = grid.call("GET", f"/api/v1/executions?batch_id={batch}&status=completed&limit=1")
        if listed["pagination"]["total"] == count:
            return count / (time.monotonic() - began)
        time.sleep(0.1)
    raise TimeoutError(batch)


def _through_xargs(program: str, cores: int, count: int) -> float:
    numbers = "\n".join(map(str, range(count)))
    began = time.monotonic()
    words = ["xargs", f"-P{cores}", "-n1", program, "-c", "pass"]
    subprocess.run(words, input=numbers, text=True, check=True)
    return count / (time.monotonic() - began)
