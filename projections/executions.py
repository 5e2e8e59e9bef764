"""Which executions exist, and where does each one stand?"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any, Final

import msgspec

from rgrid.executions.events import (
    AttemptEnded,
    ExecutionCancelled,
    ExecutionClaimed,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionQueued,
    ExecutionSubmitted,
    ExecutionTimedOut,
)
from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.paging import Key, Queryable, Rows, Where, Window, select
from rgrid.postgres.pool import Connection
from rgrid.subscriptions.projection import Projection

KEYS: Final = {
    "created_at": Key("created_at", "moment"),
    "started_at": Key("started_at", "moment", nullable=True),
    "completed_at": Key("completed_at", "moment", nullable=True),
    "duration_ms": Key("duration_ms", "number", nullable=True),
    "cost_micros": Key("cost_micros", "number"),
    "execution_id": Key("execution_id"),
}
OVERDUE_MAX: Final = 500
_SUMMARY: Final = (
    "execution_id, name, status, failure_reason, runtime, batch_id, batch_index, exit_code, created_at, queued_at,"
    " started_at, completed_at, duration_ms, duration_ms / 1000.0::float8 as duration_seconds, cost_micros,"
    " retry_count, retry_of, user_metadata, created_by"
)
_FIXED: Final = (
    ("execution_id", "text"), ("name", "text"), ("runtime", "text"), ("batch_id", "text"), ("batch_index", "int"),
    ("created_at", "timestamptz"), ("retry_of", "text"), ("user_metadata", "jsonb"), ("created_by", "text"),
    ("inputs_deadline", "timestamptz"),
)  # fmt: skip
_CHANGED: Final = (
    ("status", "text"), ("failure_reason", "text"), ("exit_code", "int"), ("queued_at", "timestamptz"),
    ("started_at", "timestamptz"), ("completed_at", "timestamptz"), ("duration_ms", "bigint"), ("retry_count", "int"),
)  # fmt: skip
_INSERT: Final = (
    f"insert into executions ({', '.join(name for name, _ in (*_FIXED, *_CHANGED))}, cost_micros)"  # noqa: S608
    " select * from unnest("
    + ", ".join(f"${n + 1}::{kind}[]" for n, (_, kind) in enumerate((*_FIXED, *_CHANGED, ("cost", "bigint"))))
    + ")"
)
_UPDATE: Final = (
    "update executions e set "  # noqa: S608
    + ", ".join(f"{name} = coalesce(u.{name}, e.{name})" for name, _ in _CHANGED)
    + ", cost_micros = e.cost_micros + u.cost from unnest($1::text[], $2::bigint[], "
    + ", ".join(f"${n + 3}::{kind}[]" for n, (_, kind) in enumerate(_CHANGED))
    + ") as u(execution_id, cost, "
    + ", ".join(name for name, _ in _CHANGED)
    + ") where e.execution_id = u.execution_id"
)


async def project(connection: Connection, batch: Sequence[AnyRecorded]) -> None:
    """Two statements a batch, whatever its size: what is new goes in as it stands at the batch's end, and all changes
    of an execution that was there are merged into one."""
    fresh: dict[str, dict[str, Any]] = {}
    changes: dict[str, dict[str, Any]] = {}
    for at in batch:
        if isinstance(at.event, ExecutionSubmitted):
            fresh[at.entity_id] = _fresh(at.entity_id, at.event)
        else:
            merged = fresh.get(at.entity_id)
            if merged is None:
                merged = changes.setdefault(at.entity_id, {"cost": 0})
            change = _change(at)
            merged["cost"] += change.pop("cost", 0)
            merged |= change
    if fresh:
        columns = [name for name, _ in (*_FIXED, *_CHANGED)]
        await connection.execute(
            _INSERT,
            *([row.get(name) for row in fresh.values()] for name in columns),
            [r["cost"] for r in fresh.values()],
        )
    if changes:
        await connection.execute(
            _UPDATE,
            list(changes),
            [change["cost"] for change in changes.values()],
            *([change.get(name) for change in changes.values()] for name, _ in _CHANGED),
        )


def _fresh(execution_id: str, event: ExecutionSubmitted) -> dict[str, Any]:
    metadata = event.user_metadata
    return {
        "execution_id": execution_id,
        "name": event.name,
        "status": "awaiting_inputs",
        "retry_count": 0,
        "cost": 0,
        "runtime": event.runtime,
        "batch_id": event.batch_id,
        "batch_index": event.batch_index,
        "created_at": event.submitted_at,
        "retry_of": event.retry_of,
        "user_metadata": None if metadata is None else msgspec.json.encode(metadata).decode(),
        "created_by": event.created_by,
        "inputs_deadline": event.inputs_deadline,
    }


def _change(at: AnyRecorded) -> dict[str, Any]:
    match at.event:
        case ExecutionQueued(attempt=attempt, queued_at=queued_at):
            return {"status": "queued", "queued_at": queued_at, "retry_count": attempt - 1}
        case ExecutionClaimed(claimed_at=claimed_at):
            return {"status": "running", "started_at": claimed_at}
        case AttemptEnded(duration_ms=duration_ms, cost_micros=cost):
            return {"duration_ms": duration_ms, "cost": cost}
        case ExecutionCompleted(completed_at=completed_at):
            return {"status": "completed", "exit_code": 0, "completed_at": completed_at}
        case ExecutionFailed(failure_reason=reason, exit_code=exit_code, completed_at=completed_at):
            ended = {"status": "failed", "failure_reason": reason, "completed_at": completed_at}
            return ended if exit_code is None else {**ended, "exit_code": exit_code}
        case ExecutionTimedOut(completed_at=completed_at):
            return {"status": "timed_out", "failure_reason": "timeout", "completed_at": completed_at}
        case ExecutionCancelled(completed_at=completed_at):
            return {"status": "cancelled", "failure_reason": "cancelled", "completed_at": completed_at}
    raise AssertionError(at.topic)


PROJECTION: Final = Projection(
    name="executions",
    version=1,
    on=(
        ExecutionSubmitted,
        ExecutionQueued,
        ExecutionClaimed,
        AttemptEnded,
        ExecutionCompleted,
        ExecutionFailed,
        ExecutionTimedOut,
        ExecutionCancelled,
    ),
    ddl=files("projections") / "executions.sql",
    on_batch=project,
)


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of executions may be narrowed to; None means any."""

    status: str | None = None
    failure_reason: str | None = None
    batch_id: str | None = None
    runtime: str | None = None
    name: str | None = None
    metadata: Mapping[str, str] | None = None
    since: datetime | None = None
    until: datetime | None = None


async def page(connection: Queryable, wanted: Filter, window: Window) -> Rows:
    """Rows with the columns of `ExecutionSummary`."""
    where = Where()
    for column in ("status", "failure_reason", "batch_id", "runtime", "name"):
        where.equal(column, getattr(wanted, column))
    if wanted.metadata:
        where.add("user_metadata @> {}::jsonb", msgspec.json.encode(wanted.metadata).decode())
    if wanted.since is not None:
        where.add("created_at >= {}", wanted.since)
    if wanted.until is not None:
        where.add("created_at < {}", wanted.until)
    return await select(connection, columns=_SUMMARY, source="executions", where=where, window=window)


async def exists(connection: Queryable, execution_id: str) -> bool:
    return bool(await connection.fetchval("select true from executions where execution_id = $1", execution_id))


async def overdue_inputs(connection: Queryable, now: datetime) -> list[str]:
    """Executions still waiting for inputs after their deadline."""
    rows = await connection.fetch(
        "select execution_id from executions where status = 'awaiting_inputs' and inputs_deadline <= $1"
        " order by inputs_deadline limit $2",
        now,
        OVERDUE_MAX,
    )
    return [row["execution_id"] for row in rows]
