"""No-op jobs through rgrid's queue with an engine in this process that returns at once: submitted in process, then
claimed, run and finished by a runner pool. Prints jobs per second from the first submit to the last result."""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from rgrid.assembly import assembled
from rgrid.executions.commands import SubmitExecution
from rgrid.executions.execution import DECIDER
from rgrid.kernel.ids import new_command_id, new_id
from rgrid.kernel.messages import Cause
from rgrid.pool.engines.engine import Ended, Job, OutputSink
from rgrid.pool.heartbeat import InProcessHeartbeat
from rgrid.pool.in_process import InProcessWork
from rgrid.pool.pool import RunnerPool
from rgrid.pool.protocol import Lease, Outcome
from rgrid.pool.tuning import PoolTuning
from rgrid.settings import Settings
from rgrid.web.metrics import Metrics

SUBMITS_AT_ONCE = 256
SLOTS = 64
WAIT_MAX_S = 300
CALLER = "key:bench"


class Done:
    def cancel(self) -> None: ...

    def kill(self) -> None: ...

    async def wait(self) -> Ended:
        return Ended(why="exited", exit_code=0, duration_ms=0, memory_peak_bytes=None, error=None, metadata={})


class AtOnce:
    """An engine whose jobs are over when they begin."""

    runner_kind = "process"
    level = "none"

    def runtimes(self) -> list[str]:
        return ["python:3.11"]

    def identity(self, runtime: str) -> str:
        return runtime

    async def start(self, job: Job, sink: OutputSink) -> Done:
        return Done()

    async def close(self) -> None: ...


class Counted(InProcessWork):
    """Counts results that the log has."""

    finished = 0

    async def finish(self, lease: Lease, outcome: Outcome) -> None:
        await super().finish(lease, outcome)
        self.finished += 1


async def main(dsn: str, folder: Path, jobs: int) -> float:
    settings = Settings(data_dir=folder)
    async with assembled(settings, dsn) as parts:
        grid = parts.grid
        work = Counted(
            pool=grid.pool, store=grid.store, handler=grid.handler, objects=grid.objects, data_keys=grid.data_keys,
            secrets=grid.secrets, settings=settings, lines_stored=grid.lines_stored, metrics=Metrics(),
            quota=grid.quota,
        )  # fmt: skip
        pool = RunnerPool(work, InProcessHeartbeat(dsn, 60), AtOnce(), PoolTuning(slots=SLOTS), folder / "jobs")
        (folder / "jobs").mkdir()
        stop = asyncio.Event()
        running = asyncio.create_task(pool.run(stop))
        await asyncio.sleep(1)  # until the pool waits for work
        script = await grid.objects.put_bytes(b"pass")
        began = time.monotonic()
        numbers = iter(range(jobs))

        async def submit() -> None:
            for _ in numbers:
                name = new_id("exec")
                command = SubmitExecution(
                    script_sha256=script, script_size_bytes=4, runtime="python:3.11", timeout_s=60, cpu=1,
                    memory_mb=256, max_retries=0, inputs_deadline_s=60, root_execution_id=name, created_by=CALLER,
                )  # fmt: skip
                cause = Cause(actor=CALLER, command_id=new_command_id())
                await grid.handler.handle(DECIDER, name, command, cause, new=True)

        await asyncio.gather(*(submit() for _ in range(SUBMITS_AT_ONCE)))
        while work.finished < jobs and time.monotonic() - began < WAIT_MAX_S:
            await asyncio.sleep(0.01)
        took_s = time.monotonic() - began
        stop.set()
        await running
    assert work.finished == jobs, work.finished
    return jobs / took_s


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(main(sys.argv[1], Path(folder), int(sys.argv[2]))))
