"""Everything about one execution, as of now or as of any position: a live projection, folded from its stream on read.

A stream has a handful of events, so a fold costs less than keeping a table, and is never behind the log.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from rgrid.eventstore.store import Store
from rgrid.executions.events import (
    AttemptEnded,
    AttemptStatus,
    CancelRequested,
    ExecutionCancelled,
    ExecutionClaimed,
    ExecutionCompleted,
    ExecutionEvent,
    ExecutionFailed,
    ExecutionQueued,
    ExecutionSubmitted,
    ExecutionTimedOut,
    FailureReason,
    InputsVerified,
    OutputsStored,
    StoredArtifact,
    StoredFile,
)

Status = Literal["awaiting_inputs", "queued", "running", "completed", "failed", "cancelled", "timed_out"]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt as the log has it; the fields from `completed_at` on are None while it runs."""

    attempt: int
    status: AttemptStatus
    worker_id: str
    worker_hostname: str
    runner_kind: str
    sandbox_level: str
    fencing_token: int
    hourly_micros: int
    started_at: datetime
    completed_at: datetime | None = None
    duration_ms: int | None = None
    exit_code: int | None = None
    failure_reason: FailureReason | None = None
    error: str | None = None
    hint: str | None = None
    cost_micros: int = 0
    output_truncated: bool = False
    metadata: dict[str, str] = {}


class Detail(msgspec.Struct, frozen=True, kw_only=True):
    """One execution. `version` is its stream's."""

    execution_id: str
    version: int
    status: Status
    spec: ExecutionSubmitted
    verified: tuple[StoredFile, ...] = ()
    queued_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    not_before: datetime | None = None
    cancel_requested_at: datetime | None = None
    attempts: tuple[Attempt, ...] = ()
    artifacts: tuple[StoredArtifact, ...] = ()
    retry_count: int = 0
    exit_code: int | None = None
    failure_reason: FailureReason | None = None
    error: str | None = None
    finalized_cost_micros: int | None = None

    @property
    def cost_micros(self) -> int:
        return sum(attempt.cost_micros for attempt in self.attempts)

    @property
    def last(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts else None


TERMINAL: Final = frozenset({"completed", "failed", "timed_out", "cancelled"})


def fold(execution_id: str, events: Sequence[ExecutionEvent], version: int) -> Detail | None:
    """The detail after these events of a stream, oldest first; None when there are none."""
    detail: Detail | None = None
    for event in events:
        detail = _step(execution_id, version, detail, event)
    return detail


def _step(execution_id: str, version: int, detail: Detail | None, event: ExecutionEvent) -> Detail | None:
    if isinstance(event, ExecutionSubmitted):
        return Detail(execution_id=execution_id, version=version, status="awaiting_inputs", spec=event)
    return None if detail is None else _after(detail, event)


def _after(detail: Detail, event: ExecutionEvent) -> Detail:
    replace = msgspec.structs.replace
    match event:
        case InputsVerified(files=files):
            return replace(detail, verified=tuple(files))
        case ExecutionQueued():
            return replace(
                detail,
                status="queued",
                queued_at=event.queued_at,
                not_before=event.not_before,
                retry_count=event.attempt - 1,
            )
        case ExecutionClaimed():
            attempts = (*detail.attempts, _claimed(event))
            return replace(detail, status="running", attempts=attempts, started_at=event.claimed_at)
        case OutputsStored(artifacts=artifacts):
            return replace(detail, artifacts=(*detail.artifacts, *artifacts))
        case AttemptEnded() if detail.attempts:
            ended = _ended(detail.attempts[-1], event)
            return replace(detail, attempts=(*detail.attempts[:-1], ended), started_at=event.started_at)
        case CancelRequested(requested_at=requested_at):
            return replace(detail, cancel_requested_at=requested_at)
        case ExecutionCompleted() | ExecutionFailed() | ExecutionTimedOut() | ExecutionCancelled():
            return _final(detail, event)
        case _:
            return detail


def _claimed(event: ExecutionClaimed) -> Attempt:
    return Attempt(
        attempt=event.attempt,
        status="running",
        worker_id=event.worker_id,
        worker_hostname=event.worker_hostname,
        runner_kind=event.runner_kind,
        sandbox_level=event.sandbox_level,
        fencing_token=event.fencing_token,
        hourly_micros=event.hourly_micros,
        started_at=event.claimed_at,
    )


def _ended(attempt: Attempt, event: AttemptEnded) -> Attempt:
    return msgspec.structs.replace(
        attempt,
        status=event.status,
        started_at=event.started_at,
        completed_at=event.ended_at,
        duration_ms=event.duration_ms,
        exit_code=event.exit_code,
        failure_reason=event.failure_reason,
        error=event.error,
        hint=event.hint,
        cost_micros=event.cost_micros,
        output_truncated=event.output_truncated,
        metadata=event.metadata,
    )


def _final(
    detail: Detail, event: ExecutionCompleted | ExecutionFailed | ExecutionTimedOut | ExecutionCancelled
) -> Detail:
    final = msgspec.structs.replace(
        detail, completed_at=event.completed_at, finalized_cost_micros=event.finalized_cost_micros
    )
    replace = msgspec.structs.replace
    match event:
        case ExecutionCompleted():
            return replace(final, status="completed", exit_code=0)
        case ExecutionFailed(failure_reason=reason, exit_code=exit_code, error=error):
            return replace(final, status="failed", failure_reason=reason, exit_code=exit_code, error=error)
        case ExecutionTimedOut(error=error):
            return replace(final, status="timed_out", failure_reason="timeout", error=error)
        case ExecutionCancelled():
            return replace(final, status="cancelled", failure_reason="cancelled", error=event.reason)


def stages(execution_id: str, events: Sequence[ExecutionEvent], version: int) -> list[Detail]:
    """The detail for each status and attempt that the events went through, oldest first; `[]` when there are none."""
    seen: list[Detail] = []
    detail: Detail | None = None
    for event in events:
        detail = _step(execution_id, version, detail, event)
        if detail is None:
            continue
        if seen and (seen[-1].status, len(seen[-1].attempts)) == (detail.status, len(detail.attempts)):
            seen[-1] = detail
        else:
            seen.append(detail)
    return seen


async def course(store: Store, execution_id: str) -> list[Detail]:
    """The stages of an execution until now; `[]` when there is none."""
    recorded = await store.read_stream(f"execution-{execution_id}")
    return stages(execution_id, [one.event for one in recorded], recorded[-1].version if recorded else 0)


async def get(store: Store, execution_id: str, to_position: int | None = None) -> Detail | None:
    """The execution as the log has it, at `to_position` when given; None when there is none (yet)."""
    events = await store.read_stream(f"execution-{execution_id}", to_position=to_position)
    if not events:
        return None
    return fold(execution_id, [recorded.event for recorded in events], events[-1].version)


async def get_many(store: Store, execution_ids: Sequence[str]) -> dict[str, Detail]:
    """Several executions as the log has them, by id; those that don't exist are left out."""
    streams = await store.read_streams([f"execution-{execution_id}" for execution_id in execution_ids])
    details: dict[str, Detail] = {}
    for events in streams.values():
        execution_id = events[0].entity_id
        detail = fold(execution_id, [recorded.event for recorded in events], events[-1].version)
        if detail is not None:
            details[execution_id] = detail
    return details
