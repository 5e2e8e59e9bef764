"""A pool at work in a folder of its own, with real processes and the other end of the protocol beside it."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from pool.grid_double import GridDouble
from pool.plain_engine import PlainEngine

from rgrid.pool.pool import RunnerPool
from rgrid.pool.tuning import PoolTuning

LIMIT_S = 60.0


class Bench:
    """A running pool and what it talks to."""

    def __init__(self, grid: GridDouble, engine: PlainEngine, pool: RunnerPool, scratch: Path) -> None:
        self.grid = grid
        self.engine = engine
        self.pool = pool
        self.scratch = scratch
        self.stop = asyncio.Event()
        self.task = asyncio.ensure_future(pool.run(self.stop))

    async def end(self) -> None:
        self.stop.set()
        await self.task

    def folders(self) -> list[str]:
        return [path.name for path in self.scratch.iterdir() if path.is_dir()]


@contextlib.asynccontextmanager
async def running(grid: GridDouble | None = None, **tuning: Any) -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory() as folder:
        grid = grid or GridDouble()
        engine = PlainEngine()
        scratch = Path(folder) / "scratch"
        values: dict[str, Any] = {"slots": 2, "renew_every_s": 0.05, "claim_wait_s": 20.0, **tuning}
        bench = Bench(grid, engine, RunnerPool(grid, grid, engine, PoolTuning(**values), scratch), scratch)
        try:
            yield bench
            await bench.end()
            assert bench.folders() == []
        finally:
            bench.task.cancel()
            await asyncio.gather(bench.task, return_exceptions=True)
            await engine.close()


def at_work(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), LIMIT_S))
