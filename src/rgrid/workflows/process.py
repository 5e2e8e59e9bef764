"""What follows from what happens to runs, and to the executions and child runs that their steps have begun."""

from typing import Final

from rgrid.executions.events import (
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionTimedOut,
    Origin,
)
from rgrid.kernel.errors import NotFound
from rgrid.kernel.messages import AnyRecorded
from rgrid.subscriptions.process import Process, Send
from rgrid.workflows.commands import RunCommand
from rgrid.workflows.driving import Driver, because
from rgrid.workflows.events import (
    MapItemEnded,
    RunCancelRequested,
    RunEnded,
    RunResumed,
    RunTimedOut,
    RunTriggered,
    SignalReceived,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepWoken,
)
from rgrid.workflows.neighbours import Neighbours
from rgrid.workflows.results import of_child, of_execution

NAME: Final = "workflow runs"
SIDE_BY_SIDE: Final = 64
_MOVES: Final = (
    RunTriggered,
    StepCompleted,
    StepWoken,
    StepSkipped,
    StepCancelled,
    MapItemEnded,
    SignalReceived,
    RunResumed,
    RunCancelRequested,
    RunTimedOut,
)
_EXECUTION_ENDS: Final = (ExecutionCompleted, ExecutionFailed, ExecutionTimedOut, ExecutionCancelled)


def run_process(driver: Driver, neighbours: Neighbours) -> Process:
    """The driver begins and stops; results come from wherever the work was done."""

    async def moved(recorded: AnyRecorded, _send: Send) -> None:
        if not driver.has_driven(recorded.entity_id, recorded.version):
            await driver.advance(recorded.entity_id, because(recorded), recorded.version)

    async def failed(recorded: AnyRecorded, send: Send) -> None:
        event: StepFailed = recorded.event
        run = await driver.state(recorded.entity_id, recorded.version)
        # Then what the try began may still go on.
        if event.category == "TIMEOUT" or run.outline(event.step).type == "MAP":
            await driver.stop(recorded.entity_id, event.step, event.attempt)
        await moved(recorded, send)

    async def ended(recorded: AnyRecorded, _send: Send) -> None:
        run = await driver.state(recorded.entity_id, recorded.version)
        if parent := run.asked.parent:
            await tell(parent.run_id, recorded, of_child(parent, recorded.entity_id, recorded.event))

    async def execution_ended(recorded: AnyRecorded, _send: Send) -> None:
        origin: Origin | None = recorded.event.origin
        if origin is not None and origin.workflow_run_id is not None:
            outcome = await neighbours.ended(recorded.entity_id)
            if outcome is None or origin.step is None:
                return
            command = of_execution(origin.step, origin.step_attempt or 1, outcome)
            await tell(origin.workflow_run_id, recorded, command)

    async def tell(run_id: str, recorded: AnyRecorded, command: RunCommand) -> None:
        try:
            await driver.tell(run_id, because(recorded), command)
        except NotFound:
            pass  # An execution may be said to come from a run that never was.

    return Process(
        NAME,
        {
            **dict.fromkeys(_MOVES, moved),
            StepFailed: failed,
            RunEnded: ended,
            **dict.fromkeys(_EXECUTION_ENDS, execution_ended),
        },
        streams_at_once=SIDE_BY_SIDE,
    )
