"""Executions as the steps of workflow runs see them: made of templates, stopped, and understood at their end."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final, cast, get_args

import msgspec

from projections import execution_detail
from projections.execution_detail import TERMINAL, Detail
from rgrid.adapters.expressions import Evaluator
from rgrid.adapters.objects import ObjectStore
from rgrid.api.grid import Grid
from rgrid.api.templates import execution_from
from rgrid.eventstore.append import Rider
from rgrid.eventstore.handle import NewStream
from rgrid.executions import leases, logs
from rgrid.executions.commands import CancelExecution
from rgrid.executions.events import CancelRequested, FailureReason, Origin
from rgrid.executions.execution import DECIDER
from rgrid.executions.log_reader import Wanted
from rgrid.kernel.clock import now
from rgrid.kernel.errors import Rejected
from rgrid.kernel.ids import new_command_id
from rgrid.kernel.messages import Cause
from rgrid.workflows.document import ErrorCategory
from rgrid.workflows.neighbours import Ended, Neighbours

ARCHIVED_AFTER: Final = timedelta(minutes=1)
STDOUT_JSON_MAX: Final = 256 * 1024
_CATEGORIES: Final[Mapping[FailureReason | None, ErrorCategory]] = {
    "timeout": "TIMEOUT",
    "out_of_memory": "RESOURCE",
    "worker_lost": "TRANSIENT",
    "input_missing": "NOT_FOUND",
    "dependency_install": "DEPENDENCY",
    "runtime_unavailable": "TRANSIENT",
    "cancelled": "CANCELLED",
    "internal": "TRANSIENT",
    # Why a script failed is not known, so a step that is to be retried is retried. The script may know better: the
    # object that it prints last may have an `error_category`.
    "exit_code": "TRANSIENT",
}


class StepExecutions:
    """`grid` is asked for when it is there: runs are driven by what the grid itself is made of."""

    def __init__(self, grid: Callable[[], Grid]) -> None:
        self._grid = grid

    async def made(
        self, template: Mapping[str, Any], execution_id: str, origin: Origin, *, name: str | None, created_by: str
    ) -> NewStream:
        return await execution_from(self._grid(), template, execution_id, origin, name=name, created_by=created_by)

    async def cancel(self, execution_id: str, reason: str) -> None:
        """Ask for its end; one that has ended is left alone."""

        def riders(_state: object, events: Any, _version: int) -> list[Rider]:
            return [leases.ask_to_cancel(execution_id)] if isinstance(events[0], CancelRequested) else []

        grid = self._grid()
        command = CancelExecution(requested_by="system", reason=reason)
        cause = Cause(actor="system", command_id=new_command_id())
        try:
            await grid.handler.handle(DECIDER, execution_id, command, cause, riders=riders)
        except Rejected:
            return
        grid.lines_stored.tell([execution_id])

    async def ended(self, execution_id: str) -> Ended | None:
        """What a step hands on; None while the execution goes on."""
        detail = await execution_detail.get(self._grid().store, execution_id)
        if detail is None or detail.status not in TERMINAL:
            return None
        printed = await self._stdout_json(detail)
        outputs = {
            "execution_id": execution_id,
            "exit_code": detail.exit_code,
            "artifacts": [
                {"artifact_id": one.artifact_id, "filename": one.filename, "size_bytes": one.size_bytes}
                for one in detail.artifacts
            ],
            "stdout_json": printed,
        }
        if detail.status == "completed":
            return Ended(outputs=outputs)
        return Ended(outputs=outputs, category=_category(detail, printed), error=_error(detail))

    async def _stdout_json(self, detail: Detail) -> dict[str, Any] | None:
        """The last line that the last attempt printed, if it is a JSON object."""
        if detail.last is None:
            return None
        grid, attempt = self._grid(), detail.last.attempt
        rows = await logs.tail(grid.pool, detail.execution_id, -1, "stdout", attempt, 1)
        if not rows and detail.completed_at is not None and detail.completed_at < now() - ARCHIVED_AFTER:
            wanted = Wanted(detail.execution_id, stream="stdout", attempt=attempt)
            rows = await grid.log_reader.tail(wanted, 1)
        line = rows[0].message.strip() if rows else ""
        # A NUL character can be printed, but not stored.
        if not line.startswith("{") or len(line) > STDOUT_JSON_MAX or "\\u0000" in line:
            return None
        try:
            return msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError):
            return None


def neighbours(grid: Callable[[], Grid], objects: ObjectStore, expressions: Evaluator) -> Neighbours:
    """What runs need of executions, objects and expressions."""
    executions = StepExecutions(grid)
    return Neighbours(
        execution=executions.made,
        ended=executions.ended,
        cancel=executions.cancel,
        objects=objects,
        expressions=expressions,
    )


def _category(detail: Detail, printed: Mapping[str, Any] | None) -> ErrorCategory:
    if detail.status == "cancelled":
        return "CANCELLED"
    if detail.status == "timed_out":
        return "TIMEOUT"
    said = (printed or {}).get("error_category")
    if detail.failure_reason == "exit_code" and said in get_args(ErrorCategory):
        return cast("ErrorCategory", said)
    return _CATEGORIES.get(detail.failure_reason, "UNKNOWN")


def _error(detail: Detail) -> str:
    said = detail.error or f"It {detail.status.replace('_', ' ')}."
    exit_code = f" (exit code {detail.exit_code})" if detail.exit_code and str(detail.exit_code) not in said else ""
    return f"Execution {detail.execution_id}: {said}{exit_code}"
