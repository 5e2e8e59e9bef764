"""What follows from what happens to schedules, and from the ends of what they have started."""

from collections.abc import Awaitable, Callable
from typing import Final

from rgrid.executions.events import (
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionTimedOut,
    Origin,
)
from rgrid.kernel.messages import AnyRecorded
from rgrid.schedules.events import DueFired, ScheduleRunReleased
from rgrid.schedules.firing import Firing
from rgrid.schedules.targets import End
from rgrid.subscriptions.process import Process, Send
from rgrid.workflows.events import RunEnded, RunTriggered

NAME: Final = "schedule runs"
SIDE_BY_SIDE: Final = 64

Triggered = Callable[[str, int], Awaitable[RunTriggered | None]]
"""(id of a workflow run, its version at least) -> how it was triggered."""


ENDS: Final = (ExecutionCompleted, ExecutionFailed, ExecutionTimedOut, ExecutionCancelled, RunEnded)


def end_of(event: object) -> End:
    """How the end of what was started reads as that of a schedule run."""
    match event:
        case ExecutionCompleted():
            return End(status="COMPLETED")
        case ExecutionCancelled(reason=reason):
            return End(status="CANCELLED", error=reason)
        case ExecutionTimedOut(error=error):
            return End(status="FAILED", error=error or "It ran out of time.")
        case ExecutionFailed(error=error, failure_reason=reason):
            return End(status="FAILED", error=error or f"It failed: {reason}.")
        case RunEnded(status=status, error=error):
            return End(status=status, error=error)
    raise AssertionError(f"{type(event).__name__} ends nothing")


def schedule_process(firing: Firing, triggered: Triggered) -> Process:
    """`triggered` finds what began a run of a workflow."""

    async def fired(recorded: AnyRecorded, _send: Send) -> None:
        event: DueFired = recorded.event
        if event.cancels:
            await firing.make_way(recorded.entity_id, recorded.version)
        if event.decision == "fired":
            await firing.start(recorded.entity_id, event.schedule_run_id, recorded.version, recorded)

    async def released(recorded: AnyRecorded, _send: Send) -> None:
        await firing.start(recorded.entity_id, recorded.event.schedule_run_id, recorded.version, recorded)

    async def execution_ended(recorded: AnyRecorded, _send: Send) -> None:
        origin: Origin | None = recorded.event.origin
        if origin is None or origin.schedule_id is None or origin.schedule_run_id is None:
            return
        if origin.workflow_run_id is None:
            await firing.end(origin.schedule_id, origin.schedule_run_id, end_of(recorded.event), recorded)

    async def run_ended(recorded: AnyRecorded, _send: Send) -> None:
        began = await triggered(recorded.entity_id, recorded.version)
        if began is not None and began.schedule_id is not None and began.schedule_run_id is not None:
            await firing.end(began.schedule_id, began.schedule_run_id, end_of(recorded.event), recorded)

    return Process(
        NAME,
        {
            DueFired: fired,
            ScheduleRunReleased: released,
            ExecutionCompleted: execution_ended,
            ExecutionFailed: execution_ended,
            ExecutionTimedOut: execution_ended,
            ExecutionCancelled: execution_ended,
            RunEnded: run_ended,
        },
        streams_at_once=SIDE_BY_SIDE,
    )
