"""Which schedules are there, what is due, and how did their runs go?"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from importlib.resources import files
from typing import Any, Final

import msgspec

from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.paging import Key, Queryable, Rows, Where, Window, select
from rgrid.postgres.pool import Connection
from rgrid.schedules.events import (
    DueFired,
    DueSkipped,
    DueTimesMissed,
    Rules,
    ScheduleCreated,
    ScheduleDeleted,
    ScheduleDisabled,
    ScheduleEnabled,
    ScheduleRevised,
    ScheduleRunEnded,
    ScheduleRunStarted,
    Target,
    Timing,
)
from rgrid.subscriptions.projection import Projection

DUE_MAX: Final = 500
USERS_MAX: Final = 100
NEXT_MAX: Final = 100
FAILURES: Final = ("FAILED", "PARTIAL")
KEYS: Final = {
    "created_at": Key("created_at", "moment"),
    "name": Key("name"),
    "next_run_at": Key("next_run_at", "moment", nullable=True),
    "last_run_at": Key("last_run_at", "moment", nullable=True),
    "schedule_id": Key("schedule_id"),
}
_TIMES: Final = ("cron", "interval_s", "run_at", "timezone", "dst_gap", "dst_fold", "start_at", "end_at")


@dataclass(slots=True)
class Standing:
    """What firing changes. `waiting` are runs that have not begun, `last_run_id` is the one that began last, or failed
    to, and `version` that of the stream."""

    schedule_id: str
    enabled: bool = True
    next_run_at: datetime | None = None
    waiting: list[str] = field(default_factory=list)
    last_run_id: str | None = None
    last_run_at: datetime | None = None
    last_run_status: str | None = None
    run_count: int = 0
    success_count: int = 0
    failure_count: int = 0
    consecutive_failures: int = 0
    version: int = 0

    def take(self, at: AnyRecorded) -> None:
        self.version = at.version
        match at.event:
            case ScheduleCreated(enabled=enabled, next_due_at=next_due_at):
                self.enabled, self.next_run_at = enabled, next_due_at
            case ScheduleRevised(next_due_at=next_due_at):
                self.next_run_at = next_due_at
            case ScheduleEnabled(next_due_at=next_due_at):
                self.enabled, self.next_run_at = True, next_due_at
            case ScheduleDisabled(dropped=dropped) | ScheduleDeleted(dropped=dropped):
                self.enabled, self.next_run_at = False, None
                self.waiting = [one for one in self.waiting if one not in dropped]
            case DueFired() as event:
                self.run_count += 1
                self.waiting.append(event.schedule_run_id)
                self.next_run_at = event.next_due_at
            case DueSkipped(next_due_at=next_due_at) | DueTimesMissed(next_due_at=next_due_at):
                self.next_run_at = next_due_at
            case ScheduleRunStarted() as event:
                self._last(event.schedule_run_id, event.started_at, "RUNNING")
            case ScheduleRunEnded() as event:
                self._ended(event)

    def _last(self, run_id: str, began_at: datetime, status: str) -> None:
        self.last_run_id, self.last_run_at, self.last_run_status = run_id, began_at, status
        if run_id in self.waiting:
            self.waiting.remove(run_id)

    def _ended(self, event: ScheduleRunEnded) -> None:
        if event.schedule_run_id in self.waiting and event.status == "CANCELLED":
            self.waiting.remove(event.schedule_run_id)
        elif event.schedule_run_id in self.waiting:
            self._last(event.schedule_run_id, event.ended_at, event.status)
        elif event.schedule_run_id == self.last_run_id:
            self.last_run_status = event.status
        if event.status == "COMPLETED":
            self.success_count += 1
            self.consecutive_failures = 0
        elif event.status in FAILURES:
            self.failure_count += 1
            self.consecutive_failures += 1


_STANDING: Final = tuple(one.name for one in fields(Standing))
_TYPES: Final = {
    "enabled": "boolean", "next_run_at": "timestamptz", "last_run_at": "timestamptz", "run_count": "bigint",
    "success_count": "bigint", "failure_count": "bigint", "consecutive_failures": "bigint", "version": "bigint",
    "waiting": "jsonb",
}  # fmt: skip
_WRITE: Final = (
    "update schedules s set "  # noqa: S608 -- constants
    + ", ".join(f"{name} = u.{name}" for name in _STANDING[1:])
    + " from unnest("
    + ", ".join(f"${number}::{_TYPES.get(name, 'text')}[]" for number, name in enumerate(_STANDING, 1))
    + f") as u({', '.join(_STANDING)}) where s.schedule_id = u.schedule_id"
)
_ALWAYS: Final = (ScheduleCreated, ScheduleRevised, ScheduleEnabled, ScheduleDisabled, ScheduleDeleted)


def _held(target: Target, timing: Timing, rules: Rules, description: str | None, tags: list[str]) -> dict[str, Any]:
    """The columns of what somebody set."""
    return {
        "target_type": target.type,
        "target_name": target.name,
        "params_sha256": target.params_sha256,
        "params_size_bytes": target.params_size_bytes,
        **{name: getattr(timing, name) for name in _TIMES},
        "exclusions": msgspec.json.encode(timing.exclusions).decode(),
        **{name: getattr(rules, name) for name in Rules.__struct_fields__},
        "description": description,
        "tags": tags,
    }


def changed(at: AnyRecorded) -> dict[str, Any]:
    """The columns that an event sets, but for those of `Standing`."""
    match at.event:
        case ScheduleCreated() as event:
            held = _held(event.target, event.timing, event.rules, event.description, event.tags)
            made = {"name": event.name, "created_by": event.created_by, "created_at": event.created_at}
            return {**held, **made, "updated_at": event.created_at, "anchored_at": event.created_at}
        case ScheduleRevised() as event:
            held = _held(event.target, event.timing, event.rules, event.description, event.tags)
            return {**held, "updated_at": event.revised_at}
        case ScheduleEnabled(enabled_at=enabled_at):
            return {"note": None, "updated_at": enabled_at}
        case ScheduleDisabled(note=note, disabled_at=disabled_at):
            return {"note": note, "updated_at": disabled_at}
        case ScheduleDeleted(deleted_at=deleted_at):
            return {"deleted_at": deleted_at, "updated_at": deleted_at}
    return {}


async def project(connection: Connection, batch: Sequence[AnyRecorded]) -> None:
    """What people set is written event by event; what firing changes, once for all schedules of the batch."""
    for at in batch:
        if isinstance(at.event, _ALWAYS):
            await _set(connection, at)
    touched = list({at.entity_id for at in batch})
    rows = await connection.fetch(
        f"select {', '.join(_STANDING)} from schedules where schedule_id = any($1)",  # noqa: S608
        touched,
    )
    standing = {row["schedule_id"]: _standing(dict(row)) for row in rows}
    for at in batch:
        standing[at.entity_id].take(at)
    columns: list[list[Any]] = [[getattr(one, name) for one in standing.values()] for name in _STANDING]
    waiting = _STANDING.index("waiting")
    columns[waiting] = [msgspec.json.encode(one).decode() for one in columns[waiting]]
    await connection.execute(_WRITE, *columns)


async def _set(connection: Connection, at: AnyRecorded) -> None:
    values = changed(at)
    names = list(values)
    if isinstance(at.event, ScheduleCreated):
        marks = ", ".join(f"${number}" for number in range(1, len(names) + 2))
        query = f"insert into schedules (schedule_id, {', '.join(names)}) values ({marks})"  # noqa: S608 -- constants
    else:
        sets = ", ".join(f"{name} = ${number}" for number, name in enumerate(names, 2))
        query = f"update schedules set {sets} where schedule_id = $1"  # noqa: S608 -- constants
    if isinstance(at.event, ScheduleRevised):
        # An interval that was changed counts from its change.
        await connection.execute(
            "update schedules set anchored_at = $2 where schedule_id = $1 and interval_s is distinct from $3",
            at.entity_id,
            at.event.revised_at,
            at.event.timing.interval_s,
        )
    await connection.execute(query, at.entity_id, *values.values())


def _standing(row: Mapping[str, Any]) -> Standing:
    return Standing(**{**row, "waiting": msgspec.json.decode(row["waiting"])})


def fold(events: Sequence[AnyRecorded]) -> dict[str, Any] | None:
    """The row of one schedule after the events of its stream; None when there are none, or it is deleted."""
    if not events or isinstance(events[-1].event, ScheduleDeleted):
        return None
    standing = Standing(events[0].entity_id)
    row: dict[str, Any] = {}
    for at in events:
        standing.take(at)
        row |= changed(at)
    return row | {"deleted_at": None, "note": row.get("note")} | asdict(standing)


PROJECTION: Final = Projection(
    name="schedules",
    version=1,
    on=(
        ScheduleCreated,
        ScheduleRevised,
        ScheduleEnabled,
        ScheduleDisabled,
        ScheduleDeleted,
        DueFired,
        DueSkipped,
        DueTimesMissed,
        ScheduleRunStarted,
        ScheduleRunEnded,
    ),
    ddl=files("projections") / "schedules.sql",
    on_batch=project,
)


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of schedules may be narrowed to; None means any."""

    name: str | None = None
    enabled: bool | None = None
    target_type: str | None = None
    target_name: str | None = None
    tag: str | None = None


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule that has something due."""

    schedule_id: str
    due_at: datetime


async def page(connection: Queryable, wanted: Filter, window: Window) -> Rows:
    """Rows of the whole table, without those that were deleted."""
    where = Where()
    where.add("deleted_at is null")
    for column in ("name", "enabled", "target_type", "target_name"):
        where.equal(column, getattr(wanted, column))
    if wanted.tag is not None:
        where.add("tags @> array[{}::text]", wanted.tag)
    return await select(connection, columns="*", source="schedules", where=where, window=window)


async def get(connection: Queryable, schedule_id: str) -> Mapping[str, Any] | None:
    """One schedule; None when there is none, or it is deleted."""
    row = await connection.fetchrow(
        "select * from schedules where schedule_id = $1 and deleted_at is null", schedule_id
    )  # fmt: skip
    return None if row is None else dict(row)


async def due(connection: Queryable, moment: datetime, after: Due | None = None) -> list[Due]:
    """Up to DUE_MAX of what is due, the oldest first, after the last one of the page before."""
    rows = await connection.fetch(
        "select schedule_id, next_run_at as due_at from schedules where next_run_at <= $1"
        " and ($2::timestamptz is null or (next_run_at, schedule_id) > ($2, $3)) order by next_run_at, schedule_id"
        " limit $4",
        moment,
        None if after is None else after.due_at,
        None if after is None else after.schedule_id,
        DUE_MAX,
    )
    return [Due(**dict(row)) for row in rows]


async def lag_s(connection: Queryable, moment: datetime) -> float:
    """For how long the oldest due time has waited for its decision; 0 when nothing is due."""
    oldest: datetime | None = await connection.fetchval("select min(next_run_at) from schedules")
    return 0.0 if oldest is None else max(0.0, (moment - oldest).total_seconds())


async def soonest(connection: Queryable, count: int) -> list[Mapping[str, Any]]:
    """The enabled schedules that are due next, the soonest first."""
    assert count <= NEXT_MAX
    rows = await connection.fetch(
        "select * from schedules where next_run_at is not null order by next_run_at, schedule_id limit $1", count
    )
    return [dict(row) for row in rows]


async def users_of(connection: Queryable, target_type: str, target_name: str) -> list[str]:
    """The names of the enabled schedules that start this target, no more than USERS_MAX."""
    rows = await connection.fetch(
        "select name from schedules where target_type = $1 and target_name = $2 and enabled and deleted_at is null"
        " order by name limit $3",
        target_type,
        target_name,
        USERS_MAX,
    )
    return [row["name"] for row in rows]
