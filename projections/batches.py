"""Which batches are there, how far is each, and how does each of its executions stand?

State and counts go by the latest execution of each index, cost by all of them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from importlib.resources import files
from typing import Any, Final, Literal

import msgspec

from rgrid.executions.batch_events import BatchCancelRequested, BatchCreated, BatchEnded, BatchFailedFast, BatchRetried
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

State = Literal["pending", "running", "completed", "partial", "failed", "cancelling", "cancelled"]
STATUSES: Final = ("awaiting_inputs", "queued", "running", "completed", "failed", "cancelled", "timed_out")
TERMINAL: Final = ("completed", "failed", "cancelled", "timed_out")
UNFINISHED_MAX: Final = 100_000
ENDED_MAX: Final = 500
RETRIED_MAX: Final = 10_000
KEYS: Final = {
    "created_at": Key("created_at", "moment"),
    "completed_at": Key("completed_at", "moment", nullable=True),
    "total": Key("total", "number"),
    "batch_id": Key("batch_id"),
}
ITEM_KEYS: Final = (Key("batch_index", "number"), Key("position", "number"))


def state_of(counts: Mapping[str, int], total: int, begun: int, *, cancel_asked: bool) -> State:
    """Where a batch stands by the latest executions of its indexes; `begun` of them were ever started."""
    if sum(counts[status] for status in TERMINAL) < total:
        return "cancelling" if cancel_asked else "running" if begun else "pending"
    if counts["completed"] == total:
        return "completed"
    if cancel_asked or counts["cancelled"] == total:
        return "cancelled"
    return "partial" if counts["completed"] else "failed"


@dataclass(slots=True)
class _Item:
    execution_id: str
    batch_id: str
    batch_index: int
    position: int
    created_at: datetime
    input_file: str | None = None
    retry_of: str | None = None
    is_latest: bool = True
    status: str = "awaiting_inputs"
    superseded_by: str | None = None
    exit_code: int | None = None
    failure_reason: str | None = None
    execution_error: str | None = None
    duration_ms: int | None = None
    cost_micros: int = 0
    started_at: datetime | None = None
    completed_at: datetime | None = None


@dataclass(slots=True)
class _Batch:
    batch_id: str
    is_open: bool
    created_by: str
    created_at: datetime
    name: str | None = None
    max_parallel: int | None = None
    fail_fast: bool = False
    failures_max: int | None = None
    user_metadata: str | None = None
    cancel_asked: bool = False
    started_at: datetime | None = None
    last_ended_at: datetime | None = None
    begun: int = 0
    timed: int = 0
    timed_ms: int = 0
    total_cost_micros: int = 0
    position: int = 0
    declared: int = 0
    submitted: int = 0
    end_is_told: bool = False
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))

    def weigh(self, item: _Item, by: int) -> None:
        """Counts a latest execution in (1) or out (-1)."""
        self.counts[item.status] += by
        self.begun += by if item.started_at else 0
        if item.completed_at and item.duration_ms is not None:
            self.timed += by
            self.timed_ms += by * item.duration_ms

    def row(self) -> list[Any]:
        # The executions of a large batch come in several pages; it has all of them from its first event on.
        total = max(self.declared, sum(self.counts.values()))
        is_over = sum(self.counts[status] for status in TERMINAL) == total
        status = state_of(self.counts, total, self.begun, cancel_asked=self.cancel_asked)
        own = [getattr(self, name) for name in _BATCH_FIELDS]
        return [*own, *self.counts.values(), total, status, self.last_ended_at if is_over else None]


_BATCH_FIELDS: Final = tuple(one.name for one in fields(_Batch) if one.name != "counts")
_BATCH_COLUMNS: Final = (*_BATCH_FIELDS, *STATUSES, "total", "status", "completed_at")
_ITEM_TYPES: Final = {"batch_index": "int", "exit_code": "int", "position": "bigint", "duration_ms": "bigint",
                      "cost_micros": "bigint", "is_latest": "boolean"}  # fmt: skip
_ITEM_COLUMNS: Final = tuple(
    (one.name, _ITEM_TYPES.get(one.name, "timestamptz" if one.name.endswith("_at") else "text"))
    for one in fields(_Item)
)
_ITEM_NAMES: Final = ", ".join(name for name, _ in _ITEM_COLUMNS)
_WRITE_ITEMS: Final = (
    f"insert into batch_items ({_ITEM_NAMES}) select * from unnest("  # noqa: S608 -- constants
    + ", ".join(f"${number}::{kind}[]" for number, (_, kind) in enumerate(_ITEM_COLUMNS, 1))
    + ") on conflict (execution_id) do update set "
    + ", ".join(f"{name} = excluded.{name}" for name, _ in _ITEM_COLUMNS[1:])
)
_WRITE_BATCH: Final = (
    f"insert into batches ({', '.join(_BATCH_COLUMNS)}) values ("  # noqa: S608 -- constants
    + ", ".join(f"${number}" for number in range(1, len(_BATCH_COLUMNS) + 1))
    + ") on conflict (batch_id) do update set "
    + ", ".join(f"{name} = excluded.{name}" for name in _BATCH_COLUMNS[1:])
)
_KNOWN_ITEMS: Final = f"""
    select {_ITEM_NAMES} from batch_items where execution_id = any($1)
    union
    select {", ".join(f"l.{name}" for name, _ in _ITEM_COLUMNS)} from batch_items o
    join batch_items l on l.batch_id = o.batch_id and l.batch_index = o.batch_index and l.is_latest
    where o.execution_id = any($2)
"""  # noqa: S608 -- constants


class _Page:
    """The rows that a page of events touches: read at once, changed in memory, written at once."""

    def __init__(self) -> None:
        self.items: dict[str, _Item] = {}
        self.latest: dict[tuple[str, int], _Item] = {}
        self.batches: dict[str, _Batch] = {}
        self.changed_items: dict[str, _Item] = {}
        self.changed_batches: dict[str, _Batch] = {}

    async def read(self, connection: Connection, events: Sequence[AnyRecorded]) -> None:
        retried = [at.event.retry_of for at in events if isinstance(at.event, ExecutionSubmitted) and at.event.retry_of]
        touched = {at.entity_id for at in events if not isinstance(at.event, ExecutionSubmitted | _OF_BATCHES)}
        if touched or retried:
            for row in await connection.fetch(_KNOWN_ITEMS, [*touched, *retried], retried):
                self._know(_Item(**dict(row)))
        wanted = {item.batch_id for item in self.items.values()}
        wanted |= {at.entity_id for at in events if isinstance(at.event, _OF_BATCHES)}
        wanted |= {at.event.batch_id for at in events if isinstance(at.event, ExecutionSubmitted) and at.event.batch_id}
        columns = ", ".join((*_BATCH_FIELDS, *STATUSES))
        query = f"select {columns} from batches where batch_id = any($1)"  # noqa: S608 -- constants
        for row in await connection.fetch(query, list(wanted)) if wanted else ():
            counts = {status: row[status] for status in STATUSES}
            batch = _Batch(**{name: row[name] for name in _BATCH_FIELDS}, counts=counts)
            self.batches[batch.batch_id] = batch

    async def write(self, connection: Connection) -> None:
        if self.changed_items:
            items = list(self.changed_items.values())
            columns = ([getattr(item, name) for item in items] for name, _ in _ITEM_COLUMNS)
            await connection.execute(_WRITE_ITEMS, *columns)
        if self.changed_batches:
            await connection.executemany(_WRITE_BATCH, [batch.row() for batch in self.changed_batches.values()])

    def take(self, at: AnyRecorded) -> None:
        if isinstance(at.event, _OF_BATCHES):
            self._of_batch(at)
        elif isinstance(at.event, ExecutionSubmitted):
            if at.event.batch_id is not None:
                self._submitted(at, at.event, at.event.batch_id)
        elif (item := self.items.get(at.entity_id)) is not None:
            batch = self._touch(item.batch_id, at)
            self.changed_items[item.execution_id] = item
            if item.is_latest:
                batch.weigh(item, -1)
            self._change(batch, item, at.event)
            if item.is_latest:
                batch.weigh(item, 1)

    def _of_batch(self, at: AnyRecorded) -> None:
        event = at.event
        if isinstance(event, BatchCreated):
            metadata = event.user_metadata
            self.batches[at.entity_id] = _Batch(
                batch_id=at.entity_id,
                is_open=False,
                created_by=event.created_by,
                created_at=event.created_at,
                name=event.name,
                max_parallel=event.max_parallel,
                fail_fast=event.fail_fast,
                failures_max=event.failures_max,
                declared=event.total,
                user_metadata=None if metadata is None else msgspec.json.encode(metadata).decode(),
            )
        batch = self._touch(at.entity_id, at)
        if isinstance(event, BatchCancelRequested):
            batch.cancel_asked = True
        if isinstance(event, BatchRetried | BatchEnded):
            batch.end_is_told = isinstance(event, BatchEnded)

    def _submitted(self, at: AnyRecorded, event: ExecutionSubmitted, batch_id: str) -> None:
        if batch_id not in self.batches:
            self.batches[batch_id] = _Batch(
                batch_id=batch_id, is_open=True, created_by=event.created_by, created_at=event.submitted_at
            )
        batch = self._touch(batch_id, at)
        # What comes after a cancel is not cancelled by it.
        batch.cancel_asked = False
        batch.submitted += 1
        original = self.items.get(event.retry_of or "")
        index = event.batch_index
        if index is None:
            index = original.batch_index if original else sum(batch.counts.values())
        before = self.latest.get((batch_id, index))
        if before is not None:
            batch.weigh(before, -1)
            before.is_latest, before.superseded_by = False, at.entity_id
            self.changed_items[before.execution_id] = before
        item = _Item(
            execution_id=at.entity_id,
            batch_id=batch_id,
            batch_index=index,
            position=at.position,
            created_at=event.submitted_at,
            input_file=event.inputs[0].name if event.inputs else next((arg for arg in event.args if "." in arg), None),
            retry_of=event.retry_of,
        )
        self._know(item)
        self.changed_items[item.execution_id] = item
        batch.weigh(item, 1)

    def _change(self, batch: _Batch, item: _Item, event: object) -> None:
        match event:
            case ExecutionQueued():
                item.status = "queued"
            case ExecutionClaimed(claimed_at=claimed_at):
                item.status, item.started_at = "running", claimed_at
                batch.started_at = min(batch.started_at or claimed_at, claimed_at)
            case AttemptEnded():
                item.duration_ms = event.duration_ms
                item.execution_error = event.error
                item.cost_micros += event.cost_micros
                batch.total_cost_micros += event.cost_micros
            case ExecutionCompleted():
                item.status, item.exit_code, item.execution_error = "completed", 0, None
            case ExecutionFailed():
                item.status, item.failure_reason = "failed", event.failure_reason
                item.exit_code, item.execution_error = event.exit_code, event.error
            case ExecutionTimedOut():
                item.status, item.failure_reason, item.execution_error = "timed_out", "timeout", event.error
            case ExecutionCancelled():
                item.status, item.failure_reason, item.execution_error = "cancelled", "cancelled", event.reason
        if isinstance(event, _ENDS):
            item.completed_at = event.completed_at
            batch.last_ended_at = max(batch.last_ended_at or event.completed_at, event.completed_at)

    def _know(self, item: _Item) -> None:
        self.items[item.execution_id] = item
        if item.is_latest:
            self.latest[item.batch_id, item.batch_index] = item

    def _touch(self, batch_id: str, at: AnyRecorded) -> _Batch:
        batch = self.batches[batch_id]
        batch.position = at.position
        self.changed_batches[batch_id] = batch
        return batch


async def project(connection: Connection, events: Sequence[AnyRecorded]) -> None:
    page = _Page()
    await page.read(connection, events)
    for at in events:
        page.take(at)
    await page.write(connection)


_OF_BATCHES: Final = BatchCreated | BatchCancelRequested | BatchFailedFast | BatchRetried | BatchEnded
_ENDS: Final = ExecutionCompleted | ExecutionFailed | ExecutionTimedOut | ExecutionCancelled
PROJECTION: Final = Projection(
    name="batches",
    version=2,
    on=(
        BatchCreated,
        BatchCancelRequested,
        BatchFailedFast,
        BatchRetried,
        BatchEnded,
        ExecutionSubmitted,
        ExecutionQueued,
        ExecutionClaimed,
        AttemptEnded,
        ExecutionCompleted,
        ExecutionFailed,
        ExecutionTimedOut,
        ExecutionCancelled,
    ),
    ddl=files("projections") / "batches.sql",
    on_batch=project,
)


async def page(
    connection: Queryable, status: str | None, since: datetime | None, until: datetime | None, window: Window
) -> Rows:
    where = Where()
    where.equal("status", status)
    if since is not None:
        where.add("created_at >= {}", since)
    if until is not None:
        where.add("created_at < {}", until)
    return await select(connection, columns="*", source="batches", where=where, window=window)


async def get(connection: Queryable, batch_id: str) -> Mapping[str, Any] | None:
    """One batch; `position` grows with each change of it."""
    row = await connection.fetchrow("select * from batches where batch_id = $1", batch_id)
    return None if row is None else dict(row)


async def ended(connection: Queryable) -> list[dict[str, Any]]:
    """Batches of which all has ended and of which that has not been said, the oldest first."""
    rows = await connection.fetch(
        "select batch_id, submitted, status, total, completed, failed, timed_out, cancelled, total_cost_micros,"
        " completed_at from batches where completed_at is not null and not end_is_told and not is_open"
        " order by completed_at limit $1",
        ENDED_MAX,
    )
    return [dict(row) for row in rows]


async def statuses(connection: Queryable, batch_id: str) -> list[str]:
    """Of the latest execution of each index, in the order of the indexes."""
    rows = await connection.fetch(
        "select status from batch_items where batch_id = $1 and is_latest order by batch_index", batch_id
    )
    return [row["status"] for row in rows]


async def items(
    connection: Queryable, batch_id: str, status: str | None, window: Window, *, include_superseded: bool
) -> Rows:
    where = Where()
    where.equal("batch_id", batch_id)
    where.equal("status", status)
    if not include_superseded:
        where.add("is_latest")
    return await select(connection, columns=_ITEM_NAMES, source="batch_items", where=where, window=window)


async def unfinished(connection: Queryable, batch_id: str, to_position: int) -> list[str]:
    """Its executions that haven't ended and were submitted up to a position."""
    rows = await connection.fetch(
        "select execution_id from batch_items where batch_id = $1 and completed_at is null and position <= $2"
        " order by position limit $3",
        batch_id,
        to_position,
        UNFINISHED_MAX,
    )
    return [row["execution_id"] for row in rows]


async def latest(connection: Queryable, batch_id: str, wanted: Collection[str]) -> list[tuple[str, int]]:
    """(execution, index) of the latest executions with one of these statuses, in the order of their indexes."""
    rows = await connection.fetch(
        "select execution_id, batch_index from batch_items where batch_id = $1 and is_latest and status = any($2)"
        " order by batch_index limit $3",
        batch_id,
        list(wanted),
        RETRIED_MAX,
    )
    return [(row["execution_id"], row["batch_index"]) for row in rows]
