"""Workflow runs: the chain and the fan-out that workflow engines publish figures of, and a thousand runs at once.

A chain has 40 steps of fibo(10), a fan-out ten of fibo(33). Handlers say when they began and ended, so a transition is
all that lies between the end of one call and the beginning of the next: the recorded result, the expressions, the
recorded start. Of a script it is what lies between its recorded end and the submission of the next.
"""

import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.benchmarks.bench_grid import SOURCES, BenchGrid
from tests.benchmarks.report import Figure, percentile
from tests.end_to_end import pipeline_package

WAIT_MAX_S = 300
TRIGGERS_AT_ONCE = 8
FIBO = "def fibo(n):\n    return n if n < 2 else fibo(n - 1) + fibo(n - 2)\nprint(fibo(%d))\n"
PUBLISHED = "Hatchet 1.2, Windmill 2.1-4.3, Temporal 3.0, Prefect 4.9, Airflow 116 (m4.large, Windmill's benchmark)"


def run(smoke: bool) -> list[Figure]:
    rounds, steps, runs = (1, 5, 10) if smoke else (5, 40, 1000)
    with tempfile.TemporaryDirectory(prefix="rgrid-bench-") as folder:
        packages = pipeline_package.install(Path(folder))
        with BenchGrid(slots=2, PYTHONPATH=f"{SOURCES / 'src'}:{SOURCES}:{packages}") as grid:
            return [
                *_handlers(grid, steps, rounds),
                *_scripts(grid, steps, rounds),
                *_fan_outs(grid, smoke),
                *_many(grid, runs),
            ]


def _handlers(grid: BenchGrid, steps: int, rounds: int) -> list[Figure]:
    names = _define(grid, "handlers", [_handler(10, quick=True)] * steps)
    found = [_timed(grid, "handlers") for _ in range(rounds + 1)][1:]
    best = sorted(found, key=lambda one: one[0])[len(found) // 2]
    total_s, began, run = best
    calls = [run["outputs"][name] for name in names]
    between = [1000 * (after["began"] - before["ended"]) for before, after in pairwise(calls)]
    inside = [1000 * (one["ended"] - one["began"]) for one in calls]
    what = f"{steps} handlers in a chain"
    return [
        Figure("chain", what, total_s, "s", against=PUBLISHED, aim="< 1.0"),
        Figure("chain", f"{what}: assign", 1000 * (calls[0]["began"] - began), "ms"),
        Figure("chain", f"{what}: execute p50", percentile(inside, 0.5), "ms"),
        Figure("chain", f"{what}: transition p50", percentile(between, 0.5), "ms", aim="< 5"),
        Figure("chain", f"{what}: transition p99", percentile(between, 0.99), "ms"),
    ]


def _scripts(grid: BenchGrid, steps: int, rounds: int) -> list[Figure]:
    names = _define(grid, "scripts", [_script(10)] * steps)
    found = [_timed(grid, "scripts") for _ in range(max(1, rounds // 2) + 1)][1:]
    total_s, _, run = sorted(found, key=lambda one: one[0])[len(found) // 2]
    done = [grid.call("GET", f"/api/v1/executions/{run['outputs'][name]['execution_id']}") for name in names]
    created, started, ended = (
        [_moment(one[field]) for one in done] for field in ("created_at", "started_at", "completed_at")
    )
    assign = [1000 * (after - before) for before, after in zip(created, started, strict=True)]
    inside = [1000 * (after - before) for before, after in zip(started, ended, strict=True)]
    between = [1000 * (after - before) for before, after in zip(ended, created[1:], strict=False)]
    what = f"{steps} scripts in a chain"
    return [
        Figure("chain", what, total_s, "s", against=PUBLISHED),
        Figure("chain", f"{what}: assign p50", percentile(assign, 0.5), "ms"),
        Figure("chain", f"{what}: execute p50", percentile(inside, 0.5), "ms"),
        Figure("chain", f"{what}: transition p50", percentile(between, 0.5), "ms", aim="< 5"),
        Figure("chain", f"{what}: transition p99", percentile(between, 0.99), "ms"),
    ]


def _fan_outs(grid: BenchGrid, smoke: bool) -> list[Figure]:
    width, n = (3, 15) if smoke else (10, 33)
    began = time.monotonic()
    for _ in range(width):
        pipeline_package.fibo(n)
    alone_s = time.monotonic() - began
    figures = []
    for name, step in (("handlers", _handler(n, quick=False)), ("scripts", _script(n))):
        _define(grid, f"wide_{name}", [step] * width, policy={"mode": "PARALLEL", "max_concurrency": width})
        total_s, _, _ = _timed(grid, f"wide_{name}")
        what, peer = f"{width} {name} of fibo({n}) side by side", "the same in one interpreter, one after the other"
        figures.append(Figure("chain", what, total_s, "s", peer, alone_s, total_s / alone_s))
    return figures


def _many(grid: BenchGrid, runs: int) -> list[Figure]:
    names = _define(grid, "ten", [_handler(10, quick=True)] * 10)
    began = time.monotonic()
    with ThreadPoolExecutor(TRIGGERS_AT_ONCE) as threads:
        run_ids = list(threads.map(lambda _: _trigger(grid, "ten"), range(runs)))
    triggered_s = time.monotonic() - began
    listed = "/api/v1/workflows/runs?workflow_name=ten&status=COMPLETED&limit=1"
    while (done := grid.call("GET", listed)["pagination"]["total"]) < runs:
        assert time.monotonic() - began < WAIT_MAX_S, f"{done} of {runs}"
        time.sleep(0.1)
    total_s = time.monotonic() - began
    outputs = [_run(grid, run_id)["outputs"] for run_id in run_ids[:: max(1, runs // 100)]]
    between = [
        1000 * (one[after]["began"] - one[before]["ended"]) for one in outputs for before, after in pairwise(names)
    ]
    what = f"{runs} runs of ten handlers at once"
    return [
        Figure("chain", what, total_s, "s"),
        Figure("chain", f"{what}: triggers", runs / triggered_s, "/s"),
        Figure("chain", f"{what}: steps", 10 * runs / total_s, "/s"),
        Figure("chain", f"{what}: transition p50", percentile(between, 0.5), "ms"),
        Figure("chain", f"{what}: transition p99", percentile(between, 0.99), "ms"),
    ]


def _handler(n: int, *, quick: bool) -> dict[str, Any]:
    name = "pipeline.quick_value" if quick else "pipeline.value"
    return {"type": "HANDLER", "target_name": name, "params": {"n": n}, "timeout_seconds": 600}


def _script(n: int) -> dict[str, Any]:
    return {"type": "EXECUTION", "params": {"script_content": FIBO % n}, "timeout_seconds": 600}


def _define(grid: BenchGrid, name: str, steps: Sequence[dict[str, Any]], **more: Any) -> list[str]:
    named = [{"name": f"s{number}", **step} for number, step in enumerate(steps)]
    grid.call("PUT", f"/api/v1/workflows/definitions/{name}", {"name": name, "steps": named, **more})
    return [step["name"] for step in named]


def _trigger(grid: BenchGrid, name: str) -> str:
    run_id: str = grid.call("POST", f"/api/v1/workflows/trigger/{name}", {})["run_id"]
    return run_id


def _run(grid: BenchGrid, run_id: str) -> dict[str, Any]:
    run: dict[str, Any] = grid.call("GET", f"/api/v1/workflows/runs/{run_id}")
    return run


def _timed(grid: BenchGrid, name: str) -> tuple[float, float, dict[str, Any]]:
    """How long a run took from its trigger to its recorded end, when it was triggered, and the run."""
    began = time.time()
    run_id = _trigger(grid, name)
    while (run := _run(grid, run_id))["completed_at"] is None:
        assert time.time() - began < WAIT_MAX_S, run
        time.sleep(0.02)
    assert run["status"] == "COMPLETED", run
    return _moment(run["completed_at"]) - began, began, run


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
