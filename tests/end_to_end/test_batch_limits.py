"""Batches over several workers and over the end of the service: limits hold exactly, and nothing is left half done."""

import asyncio
import time
from collections.abc import Sequence

from end_to_end.conftest import Starter
from end_to_end.grid import Program, Service, Worker, until

from rgrid import catalogue
from rgrid.client.batches import Batch, Item
from rgrid.client.grid import Submission
from rgrid.eventstore.store import Store
from rgrid.executions.batch_events import BatchEnded
from rgrid.executions.events import AttemptEnded, ExecutionClaimed, ExecutionCompleted, ExecutionSubmitted
from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.pool import open_pool

ITEMS = 40
LIMIT = 3  # more than one worker of the test has slots for
SCRIPT = "import time; time.sleep(0.1)"


def events(dsn: str) -> Sequence[AnyRecorded]:
    async def read() -> Sequence[AnyRecorded]:
        pool = await open_pool(dsn, name="test", connections_max=1)
        try:
            return await Store(pool, catalogue.codec()).read_log(0)
        finally:
            await pool.close()

    return asyncio.run(read())


def created(service: Service, script: str, items: int, **limits: int) -> str:
    made = service.client().batches.create(
        Submission(script_content=script),
        [Item(args=[str(number)]) for number in range(items)],
        **limits,  # type: ignore[arg-type]
    )
    return made.batch_id


def ended(service: Service, batch_id: str, max_s: float = 60) -> Batch:
    def over() -> Batch | None:
        batch = service.client(patient=True).batches.get(batch_id)
        return batch if batch.is_over else None

    return until(f"{batch_id} is over", over, max_s)


def peak(log: Sequence[AnyRecorded]) -> int:
    """How many ran at a time at most, by the order of the log."""
    running = most = 0
    for seen in log:
        running += isinstance(seen.event, ExecutionClaimed)
        running -= isinstance(seen.event, AttemptEnded)
        most = max(most, running)
    return most


def ends_said(service: Service, count: int) -> list[BatchEnded]:
    """The events that say that a batch has ended, once there are so many; looked at again a while later."""

    def said() -> list[BatchEnded]:
        return [seen.event for seen in events(service.dsn) if isinstance(seen.event, BatchEnded)]

    until(f"{count} ends are said", lambda: len(said()) >= count, 30)
    time.sleep(1.5)  # longer than it takes until somebody looks again
    return said()


def test_two_workers_together_never_run_more_than_max_parallel(start_service: Starter, stopping: list[Program]) -> None:
    service = start_service(slots=0)
    workers = [Worker(service, f"worker-{number}", slots=2) for number in range(2)]
    for worker in workers:
        stopping.append(worker)
        worker.spawn()
    for worker in workers:
        worker.registered()
    batch_id = created(service, SCRIPT, ITEMS, max_parallel=LIMIT)
    assert ended(service, batch_id).counts.completed == ITEMS
    log = events(service.dsn)
    assert peak(log) == LIMIT
    assert len({seen.event.worker_id for seen in log if isinstance(seen.event, ExecutionClaimed)}) == 2


def test_a_batch_goes_on_where_a_killed_service_left_it(start_service: Starter) -> None:
    service = start_service(slots=4)
    batch_id = created(service, "import time; time.sleep(0.2)", ITEMS, max_parallel=LIMIT)
    client = service.client()
    until("some have ended", lambda: client.batches.get(batch_id).counts.completed >= 3, 30)
    service.kill()
    service.start()
    batch = ended(service, batch_id)
    assert (batch.counts.completed, batch.total) == (ITEMS, ITEMS)
    log = events(service.dsn)
    assert peak(log) == LIMIT
    (said,) = ends_said(service, 1)
    assert (said.status, said.total, said.completed) == ("completed", ITEMS, ITEMS)
    assert said.total_cost_micros == batch.total_cost_micros
    assert sum(isinstance(seen.event, ExecutionCompleted) for seen in log) == ITEMS
    assert sum(isinstance(seen.event, ExecutionSubmitted) for seen in log) == ITEMS


def test_a_cancel_is_carried_out_by_whoever_comes_after_a_killed_service(start_service: Starter) -> None:
    service = start_service(slots=2)
    batch_id = created(service, "import time; time.sleep(60)", 500)
    until("two run", lambda: service.client().batches.get(batch_id).counts.running == 2, 30)
    service.client().batches.cancel(batch_id, "not needed")
    service.kill()
    begun = time.monotonic()
    service.start()
    batch = ended(service, batch_id)
    assert (batch.status, batch.counts.cancelled) == ("cancelled", 500), time.monotonic() - begun
    assert [said.status for said in ends_said(service, 1)] == ["cancelled"]
    service.client().batches.retry(batch_id)
    service.client().batches.cancel(batch_id)
    assert [said.status for said in ends_said(service, 2)] == ["cancelled", "cancelled"]
