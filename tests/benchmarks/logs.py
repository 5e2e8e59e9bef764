"""Log lines per second from a script to a reader, against the same lines through a pipe into a file; the delay from
print to follower with one and with a hundred followers; and how fast the API answers meanwhile."""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.bench_grid import KEY, SOURCES, BenchGrid
from tests.benchmarks.report import Figure, compared, in_turn, percentile

WAIT_MAX_S = 120
LINE = "line {{n:08d}} of a script that prints as fast as it can, with some more text"
# The moment is taken before the first line is printed.
LOUD = "import time\nbegan = time.time()\nfor n in range({count} - 1): print(f'" + LINE + "')\nprint(began)\n"
STEADY = "import time\nfor n in range({count}): print(time.time(), flush=True); time.sleep({pause})\n"
ASK_EVERY_S = 0.02
FOLLOWERS = 100
AIM_DELAY = "p50 < 20 ms"


def run(smoke: bool) -> list[Figure]:
    lines, rounds, printed = (5_000, 1, 20) if smoke else (100_000, 3, 200)
    with BenchGrid(slots=2) as grid, tempfile.TemporaryDirectory() as folder:
        asked: list[float] = []
        _through_the_grid(grid, 100)

        def grid_rate() -> float:
            with _asking(grid, asked):
                return _through_the_grid(grid, lines)

        ours, pipe = in_turn(rounds, grid_rate, lambda: _through_a_pipe(Path(folder), lines))
        figures = [
            compared("logs", "lines, print to readable", "/s", ours, "pipe to a file", pipe, "≥ 20,000/s"),
            *_shares("API while a script floods", asked, ""),
        ]
        for followers in (1, FOLLOWERS):
            asked = []
            with _asking(grid, asked):
                delays = _delays(grid, followers, printed)
            figures += _shares(f"print to follower, {followers} at once", delays, AIM_DELAY)
            figures += _shares(f"API beside {followers} followers", asked, "")
        figures.append(Figure("logs", f"lines to {FOLLOWERS} followers of a flood", _flood(grid, smoke), "frames/s"))
    return figures


def _shares(what: str, seconds: list[float], aim: str) -> list[Figure]:
    return [
        Figure(
            "logs", f"{what}, p{round(share * 100)}", percentile(seconds, share) * 1000, "ms", aim=aim * (share == 0.5)
        )
        for share in (0.5, 0.95, 0.99)
    ]


def _through_the_grid(grid: BenchGrid, count: int) -> float:
    """From before the first print until the last line can be read."""
    execution_id = grid.call("POST", "/api/v1/executions", {"script_content": LOUD.format(count=count)})["execution_id"]
    give_up = time.monotonic() + WAIT_MAX_S
    while time.monotonic() < give_up:
        page = grid.call("GET", f"/api/v1/executions/{execution_id}/logs?after={count - 2}&limit=1")
        if page["data"]:
            return count / (time.time() - float(page["data"][0]["message"]))
        time.sleep(ASK_EVERY_S)
    raise TimeoutError(execution_id)


def _through_a_pipe(folder: Path, count: int) -> float:
    script, target = folder / "loud.py", folder / "lines"
    script.write_text(LOUD.format(count=count))
    command = f"{sys.executable} {script} | cat > {target}"
    subprocess.run(command, shell=True, check=True, timeout=WAIT_MAX_S)
    ended = time.time()
    return count / (ended - float(target.read_text().splitlines()[-1]))


@contextmanager
def _asking(grid: BenchGrid, took: list[float]) -> Iterator[None]:
    """Asks for a page of executions, again and again, while the block runs."""
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            began = time.monotonic()
            grid.call("GET", "/api/v1/executions?limit=20")
            took.append(time.monotonic() - began)
            over.wait(ASK_EVERY_S)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join(WAIT_MAX_S)


def _delays(grid: BenchGrid, followers: int, printed: int) -> list[float]:
    script = "import time; time.sleep(1)\n" + STEADY.format(count=printed, pause=0.02)
    said = _follow(grid, script, followers)
    assert said["lines"] == followers * printed, said["lines"]
    return [float(delay) for delay in said["delays"]]


def _flood(grid: BenchGrid, smoke: bool) -> float:
    count = 500 if smoke else 5_000
    said = _follow(grid, "import time; time.sleep(1)\n" + LOUD.format(count=count), FOLLOWERS)
    assert said["lines"] == FOLLOWERS * count, said["lines"]
    return float(said["lines"] / said["seconds"])


def _follow(grid: BenchGrid, script: str, followers: int) -> dict[str, float | list[float]]:
    """A process of its own, so that reading so many sockets delays nobody but itself."""
    execution_id = grid.call("POST", "/api/v1/executions", {"script_content": script})["execution_id"]
    words = [sys.executable, "-m", "tests.benchmarks.log_followers", grid.url, KEY, execution_id, str(followers)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=SOURCES, timeout=WAIT_MAX_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, float | list[float]] = json.loads(done.stdout)
    return said
