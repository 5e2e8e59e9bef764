"""The first start to ready, later starts, and the memory of an idle service."""

import shutil
import statistics
import tempfile
import time
from pathlib import Path

from tests.benchmarks.bench_grid import BenchGrid
from tests.benchmarks.report import Figure

SETTLE_S = 3


def run(smoke: bool) -> list[Figure]:
    rounds = 1 if smoke else 5
    first, later, memory = [], [], []
    for _ in range(rounds):
        folder = Path(tempfile.mkdtemp(prefix="rgrid-bench-"))
        try:
            with BenchGrid(2, folder) as grid:
                first.append(grid.started_s * 1000)
            with BenchGrid(2, folder) as grid:
                later.append(grid.started_s * 1000)
                time.sleep(0 if smoke else SETTLE_S)
                memory.append(grid.memory_mib())
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return [
        Figure("up", "first start to ready", statistics.median(first), "ms", aim="< 4,000"),
        Figure("up", "later start to ready", statistics.median(later), "ms", aim="< 1,500"),
        Figure("up", "memory of the idle service, database included (PSS)", statistics.median(memory), "MiB"),
    ]
