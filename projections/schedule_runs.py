"""What became of every due time of every schedule, and of the runs that somebody asked for?"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
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
    ScheduleCreated,
    ScheduleDeleted,
    ScheduleDisabled,
    ScheduleRunEnded,
    ScheduleRunReleased,
    ScheduleRunStarted,
    run_id_of,
)
from rgrid.subscriptions.projection import Projection

OPEN_MAX: Final = 1_000
LAST_MAX: Final = 20
MISSED: Final = "misfire"
KEYS: Final = {
    "scheduled_at": Key("scheduled_at", "moment"),
    "started_at": Key("started_at", "moment", nullable=True),
    "schedule_run_id": Key("schedule_run_id"),
}


@dataclass(slots=True)
class _Run:
    schedule_run_id: str
    schedule_id: str
    scheduled_at: datetime
    trigger: str = "SCHEDULE"
    status: str = "PENDING"
    backfill_id: str | None = None
    start_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    target_id: str | None = None
    error: str | None = None
    skip_reason: str | None = None
    is_delayed: bool = False


_TYPES: Final = {"is_delayed": "boolean"}
_NAMES: Final = tuple(one.name for one in fields(_Run))
_WRITE: Final = (
    f"insert into schedule_runs ({', '.join(_NAMES)}) select * from unnest("  # noqa: S608 -- constants
    + ", ".join(
        f"${n}::{_TYPES.get(name, 'timestamptz' if name.endswith('_at') else 'text')}[]"
        for n, name in enumerate(_NAMES, 1)
    )
    + ") on conflict (schedule_run_id) do update set "
    + ", ".join(f"{name} = excluded.{name}" for name in _NAMES[1:])
)


async def project(connection: Connection, batch: Sequence[AnyRecorded]) -> None:
    """The runs that a batch touches are read at once, changed in memory and written at once."""
    owners = [(at.entity_id, at.event.name, at.event.target.type) for at in batch if type(at.event) is ScheduleCreated]
    if owners:
        await connection.execute(
            "insert into schedule_run_owners select * from unnest($1::text[], $2::text[], $3::text[])",
            *zip(*owners, strict=True),
        )
    known = [run_id for at in batch for run_id in _touched(at)]
    runs: dict[str, _Run] = {}
    if known:
        query = f"select {', '.join(_NAMES)} from schedule_runs where schedule_run_id = any($1)"  # noqa: S608
        rows = await connection.fetch(query, known)
        runs = {row["schedule_run_id"]: _Run(**dict(row)) for row in rows}
    changed: dict[str, _Run] = {}
    for at in batch:
        for run in _changed(at, runs):
            changed[run.schedule_run_id] = runs[run.schedule_run_id] = run
    if changed:
        await connection.execute(_WRITE, *([getattr(run, name) for run in changed.values()] for name in _NAMES))


def _touched(at: AnyRecorded) -> Collection[str]:
    """The runs that are there already, as far as an event knows."""
    match at.event:
        case ScheduleRunReleased() | ScheduleRunStarted() | ScheduleRunEnded():
            return (at.event.schedule_run_id,)
        case ScheduleDisabled(dropped=dropped) | ScheduleDeleted(dropped=dropped):
            return dropped
    return ()


def _changed(at: AnyRecorded, runs: Mapping[str, _Run]) -> Iterable[_Run]:
    schedule_id = at.entity_id
    match at.event:
        case DueFired() as event:
            run = _Run(event.schedule_run_id, schedule_id, event.due_at, trigger=event.trigger)
            run.backfill_id = event.backfill_id
            if event.decision == "fired":
                run.start_at, run.is_delayed = event.start_at, event.start_at > event.decided_at
            yield run
        case DueSkipped() as event:
            yield _Run(
                event.schedule_run_id, schedule_id, event.due_at, status="SKIPPED", completed_at=event.decided_at,
                skip_reason=event.reason,
            )  # fmt: skip
        case DueTimesMissed() as event:
            yield from _missed(schedule_id, event)
        case ScheduleRunReleased() as event:
            run = runs[event.schedule_run_id]
            run.start_at, run.is_delayed = event.start_at, event.start_at > event.released_at
            yield run
        case ScheduleRunStarted() as event:
            run = runs[event.schedule_run_id]
            run.status, run.started_at, run.target_id = "RUNNING", event.started_at, event.target_id
            yield run
        case ScheduleRunEnded() as event:
            run = runs[event.schedule_run_id]
            run.status, run.completed_at, run.error = event.status, event.ended_at, event.error
            yield run
        case ScheduleDisabled(dropped=dropped, disabled_at=moment):
            yield from _dropped(runs, dropped, "disabled", moment)
        case ScheduleDeleted(dropped=dropped, deleted_at=moment):
            yield from _dropped(runs, dropped, "deleted", moment)


def _missed(schedule_id: str, event: DueTimesMissed) -> Iterable[_Run]:
    for index, due_at in enumerate(event.due_at):
        reason = MISSED if index or not event.more else f"{MISSED}, as were {event.more} times before it"
        yield _Run(
            run_id_of(schedule_id, due_at), schedule_id, due_at, status="MISSED", completed_at=event.decided_at,
            skip_reason=reason,
        )  # fmt: skip


def _dropped(runs: Mapping[str, _Run], dropped: Sequence[str], reason: str, moment: datetime) -> Iterable[_Run]:
    for run_id in dropped:
        if (run := runs.get(run_id)) is not None:
            run.status, run.completed_at, run.skip_reason = "CANCELLED", moment, reason
            yield run


PROJECTION: Final = Projection(
    name="schedule_runs",
    version=1,
    on=(
        ScheduleCreated,
        ScheduleDisabled,
        ScheduleDeleted,
        DueFired,
        DueSkipped,
        DueTimesMissed,
        ScheduleRunReleased,
        ScheduleRunStarted,
        ScheduleRunEnded,
    ),
    ddl=files("projections") / "schedule_runs.sql",
    on_batch=project,
)


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of runs may be narrowed to; None means any."""

    schedule_id: str | None = None
    status: str | None = None
    trigger: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def page(connection: Queryable, wanted: Filter, window: Window) -> Rows:
    """Rows with the name and the target type of their schedule."""
    where = Where()
    for column in ("schedule_id", "status", "trigger"):
        where.equal(column, getattr(wanted, column))
    if wanted.since is not None:
        where.add("scheduled_at >= {}", wanted.since)
    if wanted.until is not None:
        where.add("scheduled_at < {}", wanted.until)
    found = await select(connection, columns="*", source="schedule_runs", where=where, window=window)
    owners = await connection.fetch(
        "select * from schedule_run_owners where schedule_id = any($1)",
        list({row["schedule_id"] for row in found.rows}),
    )
    by_id = {row["schedule_id"]: dict(row) for row in owners}
    return Rows(rows=[{**row, **by_id[row["schedule_id"]]} for row in found.rows], total=found.total)


async def is_known(connection: Queryable, schedule_id: str) -> bool:
    """Whether there is such a schedule, or was."""
    known = await connection.fetchval("select true from schedule_run_owners where schedule_id = $1", schedule_id)
    return bool(known)


async def done_or_under_way(connection: Queryable, schedule_id: str, first: datetime, last: datetime) -> set[datetime]:
    """The due times from `first` to `last` that need not run once more: a run is there and hasn't failed."""
    rows = await connection.fetch(
        "select distinct scheduled_at from schedule_runs where schedule_id = $1 and scheduled_at between $2 and $3"
        " and trigger <> 'MANUAL' and status in ('PENDING', 'RUNNING', 'COMPLETED')",
        schedule_id,
        first,
        last,
    )
    return {row["scheduled_at"] for row in rows}


async def late(connection: Queryable, moment: datetime, longest: datetime) -> list[tuple[str, str]]:
    """(schedule, run) of what was put off to a moment before this one and hasn't begun, and of everything that was to
    begin before `longest`: whoever should have begun it has not."""
    rows = await connection.fetch(
        "select schedule_id, schedule_run_id from schedule_runs where status = 'PENDING'"
        " and ((is_delayed and start_at <= $1) or start_at <= $2) order by start_at limit $3",
        moment,
        longest,
        OPEN_MAX,
    )
    return [(row["schedule_id"], row["schedule_run_id"]) for row in rows]


async def running_since(connection: Queryable, moment: datetime, after: str = "") -> list[Mapping[str, Any]]:
    """Runs that began before a moment and haven't ended, a page of them after a known one."""
    rows = await connection.fetch(
        "select schedule_id, schedule_run_id, target_id from schedule_runs where status = 'RUNNING'"
        " and started_at < $1 and schedule_run_id > $2 order by schedule_run_id limit $3",
        moment,
        after,
        OPEN_MAX,
    )
    return [dict(row) for row in rows]


async def last_targets(connection: Queryable, schedule_id: str) -> list[str]:
    """What the last LAST_MAX completed runs of a schedule had started."""
    rows = await connection.fetch(
        "select target_id from schedule_runs where schedule_id = $1 and status = 'COMPLETED' and target_id is not null"
        " order by scheduled_at desc limit $2",
        schedule_id,
        LAST_MAX,
    )
    return [row["target_id"] for row in rows]
