"""How a batch is shown, from a row of its read model."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import ceil
from typing import Any

import msgspec

from projections.batches import STATUSES, TERMINAL, State
from rgrid.api.execution_requests import ExecutionStatus
from rgrid.executions.events import FailureReason
from rgrid.kernel.money import display
from rgrid.web.operation import ActionResponse


class BatchItemRef(msgspec.Struct, kw_only=True):
    """One execution of a new batch."""

    index: int
    execution_id: str
    status: ExecutionStatus
    upload_urls: dict[str, str] | None


class BatchCreated(ActionResponse, kw_only=True):
    """What was made."""

    batch_id: str
    total: int
    executions: list[BatchItemRef]


class ExecutionCounts(msgspec.Struct, kw_only=True):
    """Of the latest execution of each index."""

    awaiting_inputs: int
    queued: int
    running: int
    completed: int
    failed: int
    cancelled: int
    timed_out: int


class BatchSummary(msgspec.Struct, kw_only=True):
    """A row of the list."""

    batch_id: str
    name: str | None
    status: State
    total: int
    counts: ExecutionCounts
    max_parallel: int | None
    fail_fast: bool
    failures_max: int | None
    total_cost_micros: int
    cost_display: str
    user_metadata: dict[str, str] | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    created_by: str | None


class BatchDetail(BatchSummary, kw_only=True):
    """One batch."""

    percent_complete: float
    eta_seconds: int | None
    finalized_cost_micros: int | None
    version: int


class BatchStatusResponse(msgspec.Struct, kw_only=True):
    """How far a batch is: the status of every index, in order."""

    batch_id: str
    status: State
    statuses: list[ExecutionStatus]
    total: int
    counts: ExecutionCounts
    percent_complete: float
    eta_seconds: int | None
    started_at: datetime | None
    completed_at: datetime | None
    total_cost_micros: int
    finalized_cost_micros: int | None


class BatchItemMetadata(msgspec.Struct, kw_only=True):
    """What tells one item from the others."""

    input_file: str | None


class BatchExecution(msgspec.Struct, kw_only=True):
    """One execution of a batch."""

    execution_id: str
    index: int
    status: ExecutionStatus
    batch_metadata: BatchItemMetadata
    exit_code: int | None
    failure_reason: FailureReason | None
    execution_error: str | None
    duration_seconds: float | None
    cost_micros: int
    retry_of: str | None
    superseded_by: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None


class RetriedExecution(msgspec.Struct, kw_only=True):
    """What takes the place of what."""

    original_execution_id: str
    execution_id: str
    index: int


class BatchRetryResponse(ActionResponse, kw_only=True):
    """What runs once more."""

    retried: list[RetriedExecution]


Row = Mapping[str, Any]


def summary(row: Row) -> BatchSummary:
    return BatchSummary(**_summary(row))


def detail(row: Row) -> BatchDetail:
    return BatchDetail(
        **_summary(row),
        percent_complete=percent_complete(row),
        eta_seconds=eta_seconds(row),
        finalized_cost_micros=_finalized(row),
        version=row["position"],
    )


def status(row: Row, statuses: Sequence[ExecutionStatus]) -> BatchStatusResponse:
    return BatchStatusResponse(
        batch_id=row["batch_id"],
        status=row["status"],
        statuses=list(statuses),
        total=row["total"],
        counts=_counts(row),
        percent_complete=percent_complete(row),
        eta_seconds=eta_seconds(row),
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        total_cost_micros=row["total_cost_micros"],
        finalized_cost_micros=_finalized(row),
    )


def execution(row: Row) -> BatchExecution:
    duration_ms = row["duration_ms"]
    return BatchExecution(
        execution_id=row["execution_id"],
        index=row["batch_index"],
        status=row["status"],
        batch_metadata=BatchItemMetadata(input_file=row["input_file"]),
        exit_code=row["exit_code"],
        failure_reason=row["failure_reason"],
        execution_error=row["execution_error"],
        duration_seconds=None if duration_ms is None else duration_ms / 1000,
        cost_micros=row["cost_micros"],
        retry_of=row["retry_of"],
        superseded_by=row["superseded_by"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
    )


def percent_complete(row: Row) -> float:
    """100 × terminal ÷ total, with one decimal."""
    return round(100 * _terminal(row) / row["total"], 1) if row["total"] else 0.0


def eta_seconds(row: Row) -> int | None:
    """Remaining × mean duration of the ended ones ÷ max(1, running): None before there is a duration, 0 when done."""
    remaining = row["total"] - _terminal(row)
    if not remaining:
        return 0
    if not row["timed"]:
        return None
    mean_s: float = row["timed_ms"] / row["timed"] / 1000
    running: int = row["running"]
    left: int = remaining
    return ceil(left * mean_s / max(1, running))


def is_over(row: Row) -> bool:
    return bool(_terminal(row) == row["total"])


def is_whole(row: Row) -> bool:
    """Whether every execution is counted already; those of a large batch reach the read side in several pages."""
    return bool(sum(row[name] for name in STATUSES) == row["total"])


def _terminal(row: Row) -> int:
    return sum(row[name] for name in TERMINAL)


def _finalized(row: Row) -> int | None:
    return row["total_cost_micros"] if is_over(row) else None


def _counts(row: Row) -> ExecutionCounts:
    return ExecutionCounts(**{name: row[name] for name in STATUSES})


def _summary(row: Row) -> dict[str, Any]:
    same = ("batch_id", "name", "status", "total", "max_parallel", "fail_fast", "failures_max", "total_cost_micros",
            "created_at", "started_at", "completed_at", "created_by")  # fmt: skip
    metadata = row["user_metadata"]
    return {
        **{name: row[name] for name in same},
        "counts": _counts(row),
        "cost_display": display(row["total_cost_micros"]),
        "user_metadata": None if metadata is None else msgspec.json.decode(metadata),
    }
