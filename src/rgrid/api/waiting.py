"""Why an execution has not started, where it stands in the queue, and when its turn may come."""

from datetime import datetime, timedelta
from typing import Final

from projections import costs, run_queue, workers
from projections.execution_detail import Detail
from rgrid.api.execution_views import Waiting
from rgrid.api.grid import Grid
from rgrid.executions import leases
from rgrid.executions.estimate import median
from rgrid.kernel.clock import now

HISTORY_DAYS: Final = 30


def as_logged(detail: Detail, moment: datetime) -> Waiting | None:
    """What the execution's own events say of it at that moment."""
    if detail.status == "awaiting_inputs":
        missing = len(detail.spec.inputs)
        message = f"It waits for its {'input' if missing == 1 else f'{missing} inputs'}."
        return Waiting(reason="inputs_missing", message=message, until=detail.spec.inputs_deadline)
    if detail.status != "queued":
        return None
    if detail.not_before is not None and detail.not_before > moment:
        message = f"Attempt {detail.retry_count + 1} begins after a pause."
        return Waiting(reason="backoff", message=message, until=detail.not_before, estimated_start_at=detail.not_before)
    return Waiting(reason="queued", message="It is queued.", until=detail.expires_at)


async def looked_up(grid: Grid, detail: Detail) -> Waiting | None:
    """The same as of now, with its place among the others and what the workers can do about it."""
    moment = now()
    waiting = as_logged(detail, moment)
    if waiting is None or detail.status != "queued":
        return waiting
    waiting.queue_position = await run_queue.place(grid.pool, detail.execution_id)
    if waiting.reason == "backoff" or waiting.queue_position is None:
        return waiting
    spec = detail.spec
    there = await workers.capacity(grid.pool, spec.runtime, spec.cpu, spec.memory_mb)
    if not there.fitting_slots:
        return _stuck(waiting, detail, there)
    if spec.batch_id is not None and await run_queue.lane_is_full(grid.pool, spec.batch_id):
        waiting.reason, waiting.message = "batch_limit", "As many of its batch run as may at a time."
        return waiting
    ahead = waiting.queue_position - 1
    free = max(0, there.fitting_slots - await leases.held(grid.pool))
    if ahead < free:
        waiting.message, waiting.estimated_start_at = "A worker is about to take it.", moment
        return waiting
    waiting.reason = "queued_behind"
    waiting.message = f"{ahead} {'is' if ahead == 1 else 'are'} before it." if ahead else "It is the next one."
    lately = await costs.samples(grid.pool, moment - timedelta(days=HISTORY_DAYS), runtime=spec.runtime)
    if lately:
        rounds = (ahead - free) // there.fitting_slots + 1
        waiting.estimated_start_at = moment + timedelta(milliseconds=float(rounds * median(lately)))
    return waiting


def _stuck(waiting: Waiting, detail: Detail, there: workers.Capacity) -> Waiting:
    """Nobody who is there can take it, however long it waits."""
    spec = detail.spec
    if not there.workers:
        waiting.reason, waiting.message = "no_worker", "No worker is running."
    elif not there.with_runtime:
        waiting.reason, waiting.message = "no_worker_with_runtime", f"No worker has the runtime {spec.runtime}."
    else:
        waiting.reason = "too_large_for_workers"
        waiting.message = f"No worker has {spec.cpu:g} cores and {spec.memory_mb} MB of memory."
    return waiting
