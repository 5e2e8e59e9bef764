"""Workflow runs over HTTP, the acting side: trigger, cancel, retry, pause, resume, and signals from outside."""

from collections.abc import Sequence
from typing import Any, Final

from projections import active_partitions
from rgrid.api import workflow_run_plan, workflow_run_views
from rgrid.api.grid import Grid
from rgrid.api.workflow_run_requests import (
    RunCancelRequest,
    RunPauseRequest,
    RunRetryQuery,
    SignalRequest,
    WorkflowTriggerRequest,
    partition_of,
)
from rgrid.api.workflow_run_views import PlannedStep, RetryPlan, WorkflowTriggerResponse
from rgrid.api.workflow_runs import PATH
from rgrid.eventstore.append import Rider
from rgrid.eventstore.handle import Handled, Riders
from rgrid.kernel.errors import Conflict, NotFound, Rejected
from rgrid.kernel.ids import is_id, new_id
from rgrid.kernel.messages import Cause
from rgrid.web.operation import ActionResponse, Call, NoQuery, Operation, Reply, missing
from rgrid.workflows import starting
from rgrid.workflows.commands import CancelRun, PauseRun, ResumeRun, RunCommand, SendSignal, TriggerRun
from rgrid.workflows.events import RunEvent
from rgrid.workflows.run import DECIDER
from rgrid.workflows.run_state import Run

_TAGS: Final = ("workflow runs",)
BODY_MAX_BYTES: Final = 1024 * 1024
"""Parameters and payloads stand in the log, with every event of their kind: what is bigger belongs into a file."""
PARTITION_TRIES_MAX: Final = 3
"""So often the run that held the partition may have ended before it could be named."""


async def begin(
    grid: Grid, command: TriggerRun, cause: Cause, riders: Riders[Run, RunEvent] | None = None
) -> Handled[Run, RunEvent]:
    """Begins a run. Raises Rejected `partition_active`, naming the run that is."""
    for _ in range(PARTITION_TRIES_MAX):
        try:
            return await grid.handler.handle(DECIDER, command.run_id, command, cause, new=True, riders=riders)
        except Conflict as conflict:
            if conflict.code != active_partitions.CONSTRAINT or command.partition is None:
                raise
        active = await active_partitions.active(grid.pool, command.workflow_name, command.partition)
        if active is not None:
            raise Rejected(
                f"Run {active} of {command.workflow_name} is active in this partition.",
                code=active_partitions.CONSTRAINT,
                extra={"active_run_id": active},
            )
    raise Rejected("Another run is active in this partition.", code=active_partitions.CONSTRAINT)


class RunActions:
    """The controllers. Each sends one command."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    async def trigger(self, call: Call[NoQuery, WorkflowTriggerRequest | None]) -> Reply:
        body = call.body or WorkflowTriggerRequest()
        command = await starting.triggered(
            self._grid.handler,
            new_id("run"),
            call.path["workflow_name"],
            body.params,
            trigger="API",
            triggered_by=call.actor.actor,
            version=body.version,
            partition=partition_of(body),
            dry_run=body.dry_run,
        )
        if not body.dry_run:
            return await self._begun(call, command, "The run begins.")
        plan = await workflow_run_plan.steps(self._grid, command)
        return await self._begun(call, command, "The run was planned; nothing runs.", plan)

    async def retry(self, call: Call[RunRetryQuery, None]) -> Reply:
        run_id = call.path["run_id"]
        if not is_id("run", run_id):
            raise missing("Workflow run", run_id)
        command = await starting.retried(
            self._grid.handler,
            run_id,
            new_id("run"),
            from_step=call.query.from_step,
            triggered_by=call.actor.actor,
        )
        if call.query.plan:
            return Reply(200, await workflow_run_plan.of_retry(self._grid, command))
        return await self._begun(call, command, f"A new run begins at {command.from_step}.")

    async def _begun(
        self, call: Call[Any, Any], command: TriggerRun, message: str, plan: list[PlannedStep] | None = None
    ) -> Reply:
        body = WorkflowTriggerResponse(
            run_id=command.run_id,
            workflow_name=command.workflow_name,
            status="PENDING",
            message=message,
            target_type="WORKFLOW",
            plan=plan,
        )
        reply = Reply(202, body, location=f"{PATH}/{command.run_id}")
        handled = await begin(
            self._grid, command, call.cause(), riders=lambda _state, _events, _version: call.riders(reply)
        )
        reply.position = handled.position
        return reply

    async def cancel(self, call: Call[NoQuery, RunCancelRequest | None]) -> Reply:
        asked = call.body or RunCancelRequest()
        command = CancelRun(requested_by=call.actor.actor, reason=asked.reason, forced=asked.force)
        return await self._sent(
            call, command, "cancelled", lambda run: workflow_run_views.cancelled(_id(call), run.status)
        )

    async def pause(self, call: Call[NoQuery, RunPauseRequest | None]) -> Reply:
        command = PauseRun(paused_by=call.actor.actor, note=call.body.note if call.body is not None else None)
        message = "Nothing new starts; what runs goes on."
        return await self._sent(call, command, "paused", lambda _: _action(_id(call), "paused", message))

    async def resume(self, call: Call[NoQuery, None]) -> Reply:
        command = ResumeRun(resumed_by=call.actor.actor)
        return await self._sent(
            call, command, "resumed", lambda run: _action(_id(call), run.status.lower(), "Steps start again.")
        )

    async def signal(self, call: Call[NoQuery, SignalRequest | None]) -> Reply:
        name = call.path["name"]
        payload = call.body.payload if call.body is not None else {}
        command = SendSignal(name=name, payload=payload, sent_by=call.actor.actor)
        return await self._sent(
            call, command, "signalled", lambda run: _action(_id(call), run.status.lower(), f"{name} was received.")
        )

    async def _sent(self, call: Call[Any, Any], command: RunCommand, done: str, body: Any) -> Reply:
        """Sends a command to a run that must exist."""
        run_id = _id(call)
        reply = Reply(200)

        def riders(state: Run, _events: Sequence[RunEvent], _version: int) -> Sequence[Rider]:
            reply.body = body(state)
            return call.riders(reply)

        try:
            if not is_id("run", run_id):
                raise missing("Workflow run", run_id)
            handled = await self._grid.handler.handle(DECIDER, run_id, command, call.cause(), riders=riders)
        except NotFound:
            raise missing("Workflow run", run_id) from None
        except Rejected as refused:
            status = refused.extra.get("current_status")
            if status is None:
                raise
            raise Rejected(f"Workflow run {run_id} is {status} and can't be {done}.", extra=refused.extra) from None
        reply.body = body(handled.state)
        reply.position = handled.position
        return reply


def _id(call: Call[Any, Any]) -> str:
    return call.path["run_id"]


def _action(run_id: str, status: str, message: str) -> ActionResponse:
    return ActionResponse(id=run_id, status=status, message=message)


def operations(grid: Grid) -> list[Operation]:
    controllers = RunActions(grid)

    def operation(path: str, handler: Any, ok: Any, **more: Any) -> Operation:
        return Operation(
            method="POST",
            path=path,
            auth="run",
            handler=handler,
            ok=ok,
            flags=frozenset({"idem", "mutates"}),
            tags=_TAGS,
            **more,
        )

    return [
        operation(
            "/api/v1/workflows/trigger/{workflow_name}", controllers.trigger, {202: WorkflowTriggerResponse},
            body=WorkflowTriggerRequest, body_optional=True, body_max_bytes=BODY_MAX_BYTES,
            summary="Begin a run of a workflow.",
        ),
        operation(
            PATH + "/{run_id}/cancel", controllers.cancel, {200: ActionResponse}, body=RunCancelRequest,
            body_optional=True, summary="Cancel a run: nothing new starts, and what runs is stopped.",
        ),
        operation(
            PATH + "/{run_id}/retry", controllers.retry, {202: WorkflowTriggerResponse, 200: RetryPlan},
            query=RunRetryQuery,
            summary="Run it again from a step on, the first that failed if none is named; `plan=true` says what that"
            " would mean.",
        ),
        operation(
            PATH + "/{run_id}/pause", controllers.pause, {200: ActionResponse}, body=RunPauseRequest,
            body_optional=True, summary="Let nothing new start in a run; what runs goes on.",
        ),
        operation(
            PATH + "/{run_id}/resume", controllers.resume, {200: ActionResponse},
            summary="Let the steps of a run start again.",
        ),
        operation(
            PATH + "/{run_id}/signals/{name}", controllers.signal, {200: ActionResponse}, body=SignalRequest,
            body_optional=True, body_max_bytes=BODY_MAX_BYTES,
            summary="Tell a run of an event or an approval that one of its steps waits for.",
        ),
    ]  # fmt: skip
