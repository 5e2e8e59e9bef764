"""The batch aggregate: many executions under one id. Stream `batch-{id}`.

How far a batch is follows from its executions; here lies what holds for all of them: whether anything may be added,
how many may fail, whether they are being stopped, and which of them were retried already. A batch that clients group by
an id of their own has no BatchCreated: it is open, and everything may be added.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from rgrid.executions.batch_events import (
    BatchCancelRequested,
    BatchCreated,
    BatchEnded,
    BatchEvent,
    BatchFailedFast,
    BatchFailureCounted,
    BatchRetried,
)
from rgrid.executions.commands import BatchCommand, CancelBatch, CountFailure, CreateBatch, EndBatch, RetryBatch
from rgrid.kernel.decider import Decider
from rgrid.kernel.errors import Rejected

Status = Literal["open", "created", "stopping"]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What decisions need. `failures_max` is 1 with fail_fast; `failed` and "stopping" begin anew with each retry.
    `submitted` counts all its executions, those that were retried included."""

    status: Status = "open"
    failures_max: int | None = None
    failed: frozenset[str] = frozenset()
    retried: frozenset[str] = frozenset()
    submitted: int = 0
    is_over: bool = False

    @property
    def is_closed(self) -> bool:
        return self.status != "open"


INITIAL: Final = Batch()


def decide(command: BatchCommand, state: Batch, now: datetime) -> Sequence[BatchEvent]:
    """The events that follow, `[]` when it is so already. Refuses with Rejected."""
    match command:
        case CreateBatch():
            return [] if state.is_closed else [_created(command, now)]
        case CancelBatch():
            # An open batch may have got new executions since it was cancelled.
            if state.status == "stopping":
                return []
            asked = BatchCancelRequested(requested_by=command.requested_by, reason=command.reason, requested_at=now)
            return [asked]
        case CountFailure():
            return _count(command, state, now)
        case RetryBatch():
            return _retry(command, state, now)
        case EndBatch():
            return _end(command, state, now)


def _created(command: CreateBatch, now: datetime) -> BatchCreated:
    return BatchCreated(
        name=command.name,
        total=command.total,
        max_parallel=command.max_parallel,
        fail_fast=command.fail_fast,
        failures_max=command.failures_max,
        user_metadata=command.user_metadata,
        created_by=command.created_by,
        created_at=now,
    )


def _count(command: CountFailure, state: Batch, now: datetime) -> Sequence[BatchEvent]:
    known = state.failed | state.retried
    if state.failures_max is None or state.status == "stopping" or command.execution_id in known:
        return []
    failures = len(state.failed) + 1
    if failures < state.failures_max:
        return [BatchFailureCounted(execution_id=command.execution_id, counted_at=now)]
    return [BatchFailedFast(execution_id=command.execution_id, failures=failures, failed_at=now)]


def _retry(command: RetryBatch, state: Batch, now: datetime) -> Sequence[BatchEvent]:
    items = [item for item in command.items if command.again or item.original_execution_id not in state.retried]
    if not items:
        raise Rejected("There is nothing to retry.", code="nothing_to_retry")
    return [BatchRetried(items=items, requested_by=command.requested_by, retried_at=now)]


def _end(command: EndBatch, state: Batch, now: datetime) -> Sequence[BatchEvent]:
    """Nothing when it was said already, or when a retry came in between."""
    if not state.is_closed or state.is_over or command.submitted != state.submitted:
        return []
    return [
        BatchEnded(
            status=command.status,
            total=command.total,
            completed=command.completed,
            failed=command.failed,
            timed_out=command.timed_out,
            cancelled=command.cancelled,
            total_cost_micros=command.total_cost_micros,
            completed_at=command.completed_at,
            ended_at=now,
        )
    ]


def evolve(state: Batch, event: BatchEvent) -> Batch:
    """The state after a recorded event."""
    replace = msgspec.structs.replace
    match event:
        case BatchCreated():
            failures_max = 1 if event.fail_fast else event.failures_max
            return Batch(status="created", failures_max=failures_max, submitted=event.total)
        case BatchCancelRequested():
            return replace(state, status="stopping") if state.is_closed else state
        case BatchFailureCounted(execution_id=execution_id):
            return replace(state, failed=state.failed | {execution_id})
        case BatchFailedFast():
            return replace(state, status="stopping")
        case BatchRetried(items=items):
            return Batch(
                status="created" if state.is_closed else "open",
                failures_max=state.failures_max,
                retried=state.retried | {item.original_execution_id for item in items},
                submitted=state.submitted + len(items),
            )
        case BatchEnded():
            return replace(state, is_over=True)


DECIDER: Final = Decider[BatchCommand, Batch, BatchEvent](noun="batch", initial=INITIAL, decide=decide, evolve=evolve)
