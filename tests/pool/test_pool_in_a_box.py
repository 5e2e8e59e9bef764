"""The pool with the engine that it has by default: the same promises, in a real box."""

import asyncio
import tempfile
from pathlib import Path

from pool.grid_double import GridDouble

from rgrid.pool.engines.local import LocalEngine
from rgrid.pool.pool import RunnerPool
from rgrid.pool.tuning import PoolTuning

LIMIT_S = 60.0
PYTHON = "python"


def test_a_batch_runs_in_boxes_and_a_lost_lease_ends_one() -> None:
    script = "import sys\nopen('out.txt', 'w').write(open(sys.argv[1]).read() * 2)\nprint('did', sys.argv[1])"

    async def scenario(scratch: Path) -> None:
        grid = GridDouble()
        engine = await LocalEngine.open(scratch)
        stop = asyncio.Event()
        pool = RunnerPool(grid, grid, engine, PoolTuning(slots=2, renew_every_s=0.1), scratch)
        task = asyncio.ensure_future(pool.run(stop))
        try:
            names = [
                grid.submit(script, {f"in-{n}.txt": b"%d" % n}, args=[f"in-{n}.txt"], runtime=PYTHON) for n in range(6)
            ]
            await grid.until_ended(*names)
            for n, name in enumerate(names):
                assert (grid.outcome(name).end, grid.messages(name)) == ("completed", [f"did in-{n}.txt"])
                assert grid.outputs[name] == {"out.txt": b"%d" % n * 2}
            endless = grid.submit("import time\nprint('up', flush=True)\ntime.sleep(60)", runtime=PYTHON)
            await grid.until_printed(endless, "up")
            grid.expire(endless)
            while pool.busy_slots:
                await asyncio.sleep(0.005)
            slow = grid.submit("import time\nopen('p','w').write('x')\ntime.sleep(60)", runtime=PYTHON, timeout_s=1)
            await grid.until_ended(slow)
            assert (grid.outcome(slow).failure_reason, grid.outputs[slow]) == ("timeout", {"p": b"x"})
            stop.set()
            await task
            assert not grid.outcomes.get(endless)
            assert [path.name for path in scratch.iterdir() if not path.name.startswith(".")] == []
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await engine.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(asyncio.wait_for(scenario(Path(folder) / "jobs"), LIMIT_S))
