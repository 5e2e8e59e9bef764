"""From the submit to the first instruction of the script, idle and under load."""

import threading
import time
from typing import Any

from tests.benchmarks.bench_grid import BenchGrid
from tests.benchmarks.report import Figure, percentile

SCRIPT = "import time; print(time.time_ns())"
LOAD = "pass"
WAIT_MAX_S = 30


def run(smoke: bool) -> list[Figure]:
    count = 20 if smoke else 300
    figures = []
    with BenchGrid(slots=2) as grid:
        for _ in range(10):
            _start_ms(grid)
        figures += _figures("idle", [_start_ms(grid) for _ in range(count)])
        stop = threading.Event()
        load = threading.Thread(target=_keep_busy, args=(grid, stop))
        load.start()
        try:
            figures += _figures("with half the capacity in use", [_start_ms(grid) for _ in range(count)])
        finally:
            stop.set()
            load.join()
    return figures


def _figures(when: str, starts_ms: list[float]) -> list[Figure]:
    return [
        Figure("start", f"submit to first instruction, {when}, p{round(share * 100)}", percentile(starts_ms, share),
               "ms", aim="p50 < 30" if share == 0.5 and when == "idle" else "")
        for share in (0.5, 0.95, 0.99)
    ]  # fmt: skip


def _start_ms(grid: BenchGrid) -> float:
    asked_ns = time.time_ns()
    execution = grid.call("POST", "/api/v1/executions", {"script_content": SCRIPT})
    ended = _ended(grid, execution["execution_id"])
    assert ended["status"] == "completed", ended
    return (int(ended["stdout"]) - asked_ns) / 1e6


def _ended(grid: BenchGrid, execution_id: str) -> Any:
    until = time.monotonic() + WAIT_MAX_S
    while time.monotonic() < until:
        execution = grid.call("GET", f"/api/v1/executions/{execution_id}")
        if execution["status"] in ("completed", "failed", "timed_out", "cancelled"):
            return execution
        time.sleep(0.02)
    raise TimeoutError(execution_id)


def _keep_busy(grid: BenchGrid, stop: threading.Event) -> None:
    """One no-op after the other: one of the two slots is always in use."""
    while not stop.is_set():
        execution = grid.call("POST", "/api/v1/executions", {"script_content": LOAD})
        _ended(grid, execution["execution_id"])
