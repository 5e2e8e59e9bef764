"""What follows from what happens in a batch: failures are counted, and a batch that is to stop has its executions
cancelled."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from rgrid.eventstore.append import Rider
from rgrid.eventstore.handle import Handler
from rgrid.executions import leases
from rgrid.executions.batch import DECIDER as BATCH
from rgrid.executions.batch_events import BatchCancelRequested, BatchFailedFast
from rgrid.executions.commands import CancelExecution, CountFailure, EndBatch
from rgrid.executions.events import CancelRequested, ExecutionEvent, ExecutionFailed, ExecutionTimedOut
from rgrid.executions.execution import DECIDER as EXECUTION
from rgrid.executions.execution import Execution
from rgrid.executions.following import LinesStored
from rgrid.kernel.errors import Rejected
from rgrid.kernel.ids import new_command_id
from rgrid.kernel.messages import AnyRecorded, Cause
from rgrid.subscriptions.process import Process, Send

NAME: Final = "batches stop"
CANCELS_AT_ONCE_MAX: Final = 256
SIDE_BY_SIDE: Final = 8

Unfinished = Callable[[str, int], Awaitable[list[str]]]
"""(batch, position) -> its executions that were submitted up to the position and haven't ended by then."""


def batch_process(handler: Handler, unfinished: Unfinished, lines_stored: LinesStored) -> Process:
    """`unfinished` asks the read side, once that includes the position."""

    async def failed(recorded: AnyRecorded, send: Send) -> None:
        execution, _ = await handler.load(EXECUTION, recorded.entity_id)
        if execution.spec is not None and execution.spec.batch_id is not None:
            await send(BATCH, execution.spec.batch_id, CountFailure(execution_id=recorded.entity_id))

    async def asked_to_cancel(recorded: AnyRecorded, send: Send) -> None:
        event: BatchCancelRequested = recorded.event
        await cancel_all(recorded, send, CancelExecution(requested_by=event.requested_by, reason=event.reason))

    async def failed_fast(recorded: AnyRecorded, send: Send) -> None:
        event: BatchFailedFast = recorded.event
        reason = f"The batch ends with its failure number {event.failures}, of {event.execution_id}."
        await cancel_all(recorded, send, CancelExecution(requested_by="system", reason=reason))

    async def cancel_all(recorded: AnyRecorded, send: Send, command: CancelExecution) -> None:
        wanted = await unfinished(recorded.entity_id, recorded.position)
        for first in range(0, len(wanted), CANCELS_AT_ONCE_MAX):
            some = wanted[first : first + CANCELS_AT_ONCE_MAX]
            await asyncio.gather(*(_cancel(execution_id, send, command) for execution_id in some))
            lines_stored.tell(some)

    return Process(
        NAME,
        {
            ExecutionFailed: failed,
            ExecutionTimedOut: failed,
            BatchCancelRequested: asked_to_cancel,
            BatchFailedFast: failed_fast,
        },
        streams_at_once=SIDE_BY_SIDE,
    )


async def end_batches(handler: Handler, due: Mapping[str, EndBatch]) -> int:
    """Say of each of these batches that it has ended; of how many it hadn't been said."""
    count = 0
    for batch_id, command in due.items():
        cause = Cause(actor="system", command_id=new_command_id())
        count += bool((await handler.handle(BATCH, batch_id, command, cause)).events)
    return count


async def _cancel(execution_id: str, send: Send, command: CancelExecution) -> None:
    def riders(_state: Execution, events: Sequence[ExecutionEvent], _version: int) -> list[Rider]:
        return [leases.ask_to_cancel(execution_id)] if isinstance(events[0], CancelRequested) else []

    try:
        await send(EXECUTION, execution_id, command, riders=riders)
    except Rejected:
        pass  # It ended a moment ago.
