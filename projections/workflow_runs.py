"""Which workflow runs exist, and where does each one stand?"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from importlib.resources import files
from typing import Any, Final
from uuid import UUID

import msgspec

from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.paging import Key, Queryable, Rows, Where, Window, select
from rgrid.postgres.periods import DAY_HOURS, HOUR_HOURS, Piece, cut
from rgrid.postgres.pool import Connection
from rgrid.subscriptions.projection import Projection
from rgrid.workflows.events import (
    RunCancelRequested,
    RunEnded,
    RunTimedOut,
    RunTriggered,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
)

KEYS: Final = {
    "created_at": Key("created_at", "moment"),
    "started_at": Key("started_at", "moment", nullable=True),
    "completed_at": Key("completed_at", "moment", nullable=True),
    "duration_ms": Key("duration_ms", "number", nullable=True),
    "workflow_name": Key("workflow_name"),
    "run_id": Key("run_id"),
}
STATUSES: Final = ("PENDING", "RUNNING", "CANCELLING", "COMPLETED", "PARTIAL", "FAILED", "CANCELLED")
GATHERED_MAX: Final = 2_000
"""So many matches are sorted rather than looked for in the order of the list."""
FACETS: Final = ("workflow_name", "domain", "triggered_by", "parent_run_id", "schedule_id")
_FIXED: Final = (
    ("run_id", "text"), ("workflow_name", "text"), ("workflow_version", "int"), ("domain", "text"),
    ("partition", "text"), ("trigger", "text"), ("triggered_by", "text"), ("parent_run_id", "text"),
    ("schedule_id", "text"), ("retry_of", "text"), ("created_at", "timestamptz"), ("total_steps", "int"),
    ("facets", "jsonb"),
)  # fmt: skip
_CHANGED: Final = (
    ("status", "text"), ("started_at", "timestamptz"), ("completed_at", "timestamptz"), ("error", "text"),
)  # fmt: skip
_COUNTED: Final = ("completed_steps", "failed_steps", "skipped_steps")
_COLUMNS: Final = (
    *_FIXED, *_CHANGED, *((name, "int") for name in _COUNTED), ("is_timed_out", "boolean"), ("retried", "jsonb"),
)  # fmt: skip
_SUMMARY: Final = (
    ", ".join(name for name, _ in _COLUMNS if name != "facets")
    + ", duration_ms, duration_ms / 1000.0::float8 as duration_seconds"
)
_EVERYTHING: Final = UUID(int=0)
"""The facet that every run has."""
# Facets travel as JSON, because unnest would flatten an array of arrays.
_INSERT: Final = (
    f"insert into workflow_runs ({', '.join(name for name, _ in _COLUMNS)}, duration_ms) select "  # noqa: S608
    + ", ".join(
        "array(select jsonb_array_elements_text(facets)::uuid)" if name == "facets" else name for name, _ in _COLUMNS
    )
    + ", (extract(epoch from completed_at - started_at) * 1000)::bigint from unnest("
    + ", ".join(f"${n}::{kind}[]" for n, (_, kind) in enumerate(_COLUMNS, 1))
    + f") as u({', '.join(name for name, _ in _COLUMNS)})"
)
_MOVES: Final = (
    ("run_id", "text"), *_CHANGED, *((name, "int") for name in _COUNTED), ("is_timed_out", "boolean"),
    ("is_cancelling", "boolean"), ("tried", "jsonb"), ("retried", "jsonb"),
)  # fmt: skip
"""A batch's changes of one run. `tried` are the steps whose next try is no longer waited for, `retried` those of
which it is."""
_STATUS: Final = """coalesce(u.status, case
    when u.is_cancelling and not r.is_timed_out then 'CANCELLING'
    when r.status = 'PENDING' and u.started_at is not null then 'RUNNING'
    else r.status end)"""
_RETRIED: Final = "(r.retried - array(select jsonb_array_elements_text(u.tried))) || u.retried"
# A run starts once: what comes later in the log changes nothing of that. What waits for another try when the run ends
# has failed.
_UPDATE: Final = (
    f"update workflow_runs r set status = {_STATUS},"  # noqa: S608 -- constants
    " started_at = coalesce(r.started_at, u.started_at), completed_at = u.completed_at, error = u.error,"
    " duration_ms = (extract(epoch from u.completed_at - coalesce(r.started_at, u.started_at)) * 1000)::bigint,"
    f" retried = {_RETRIED}, is_timed_out = r.is_timed_out or u.is_timed_out,"
    " completed_steps = r.completed_steps + u.completed_steps, skipped_steps = r.skipped_steps + u.skipped_steps,"
    " failed_steps = r.failed_steps + u.failed_steps"
    f" + case when u.completed_at is null then 0 else jsonb_array_length({_RETRIED}) end from unnest("
    + ", ".join(f"${n}::{kind}[]" for n, (_, kind) in enumerate(_MOVES, 1))
    + f") as u({', '.join(name for name, _ in _MOVES)}) where r.run_id = u.run_id"
)
# Run when the new runs are there and before the others change, so that the rows tell what has been counted.
_COUNT: Final = f"""
    with counted as (
    insert into workflow_runs_counts as c (facet, hours, bucket, status, trigger, matches)
    select g.facet, g.hours, date_trunc(case g.hours when {DAY_HOURS} then 'day' else 'hour' end, r.created_at, 'UTC'),
           d.status, r.trigger, sum(d.delta)
    from unnest($1::text[], $2::text[], $3::timestamptz[], $4::bool[], $5::bool[])
        as u(run_id, status, started_at, is_cancelling, fresh)
    join workflow_runs r on r.run_id = u.run_id
    cross join lateral (values ({_STATUS}, 1), (r.status, -1)) as d(status, delta)
    cross join lateral (select unnest(r.facets), {DAY_HOURS} union all
                        values ('{_EVERYTHING}'::uuid, {DAY_HOURS}), ('{_EVERYTHING}', {HOUR_HOURS})) as g(facet, hours)
    where case when u.fresh then d.delta > 0 else {_STATUS} <> r.status end
    group by 1, 2, 3, 4, 5 having sum(d.delta) <> 0
    on conflict (facet, hours, bucket, status, trigger) do update set matches = c.matches + excluded.matches
    returning c.*)
    select facet, hours, bucket, status, trigger from counted where matches = 0
"""  # noqa: S608
_FORGET: Final = """
    delete from workflow_runs_counts c
    using unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::text[], $5::text[])
        as z(facet, hours, bucket, status, trigger)
    where c.facet = z.facet and c.hours = z.hours and c.bucket = z.bucket and c.status = z.status
      and c.trigger = z.trigger
"""


async def project(connection: Connection, batch: Sequence[AnyRecorded]) -> None:
    """A few statements a batch, whatever its size: what is new goes in as it stands at the batch's end, all changes
    of a run that was there are merged into one, and the counters move by what both come to."""
    fresh: dict[str, dict[str, Any]] = {}
    changes: dict[str, dict[str, Any]] = {}
    for at in batch:
        if isinstance(at.event, RunTriggered):
            fresh[at.entity_id] = _fresh(at.entity_id, at.event)
            continue
        merged = fresh.get(at.entity_id)
        if merged is None:
            merged = changes.setdefault(at.entity_id, _unmoved(at.entity_id))
        _merge(merged, at.event)
    for row in (*fresh.values(), *changes.values()):
        _close(row)
    if fresh:
        await connection.execute(_INSERT, *([row.get(name) for row in fresh.values()] for name, _ in _COLUMNS))
    await _count(connection, fresh, changes)
    if changes:
        await connection.execute(_UPDATE, *([row.get(name) for row in changes.values()] for name, _ in _MOVES))


async def _count(
    connection: Connection, fresh: Mapping[str, dict[str, Any]], moved: Mapping[str, dict[str, Any]]
) -> None:
    rows = [*fresh.values(), *moved.values()]
    if rows:
        zeros = await connection.fetch(
            _COUNT,
            [*fresh, *moved],
            [row.get("status") for row in rows],
            [row.get("started_at") for row in rows],
            [row["is_cancelling"] for row in rows],
            [True] * len(fresh) + [False] * len(moved),
        )
        if zeros:
            await connection.execute(_FORGET, *zip(*zeros, strict=True))


def _facet(kind: str, value: str) -> UUID:
    """What is counted by, as a number of one size whatever its length."""
    return UUID(bytes=blake2b(msgspec.json.encode((kind, value)), digest_size=16).digest())


def _facets(values: Mapping[str, Any]) -> list[UUID]:
    return [_facet(kind, values[kind]) for kind in FACETS if values[kind] is not None]


def _fresh(run_id: str, event: RunTriggered) -> dict[str, Any]:
    row: dict[str, Any] = {
        "run_id": run_id,
        "workflow_name": event.workflow_name,
        "workflow_version": event.workflow_version,
        "domain": event.domain,
        "partition": event.partition,
        "trigger": event.trigger,
        "triggered_by": event.triggered_by,
        "parent_run_id": None if event.parent is None else event.parent.run_id,
        "schedule_id": event.schedule_id,
        "retry_of": event.retry_of,
        "created_at": event.triggered_at,
        "total_steps": len(event.outlines),
        **_unmoved(run_id),
        "status": "PENDING",
    }
    return {**row, "facets": msgspec.json.encode(_facets(row)).decode()}


def _unmoved(run_id: str) -> dict[str, Any]:
    return {
        "run_id": run_id,
        **dict.fromkeys(_COUNTED, 0),
        "is_timed_out": False,
        "is_cancelling": False,
        "waits": {},
    }


def _merge(row: dict[str, Any], event: object) -> None:
    """`waits` says of the steps that something happened to whether their next try is waited for."""
    if isinstance(event, StepStarted | StepCompleted | StepFailed | StepSkipped | StepCancelled):
        row["waits"][event.step] = isinstance(event, StepFailed) and event.next_attempt_at is not None
    match event:
        case StepStarted(started_at=moment):
            _starts(row, moment)
        case StepCompleted(completed_at=moment):
            # Choosing takes no time: a choice may end without having started.
            _starts(row, moment)
            row["completed_steps"] += 1
        case StepFailed(failed_at=moment):
            _starts(row, moment)
            row["failed_steps"] += event.next_attempt_at is None
        case StepSkipped():
            row["skipped_steps"] += 1
        case RunTimedOut():
            row["is_timed_out"] = True
        case RunCancelRequested():
            # What has run out of time ends FAILED, whoever wants it cancelled then.
            row["is_cancelling"] |= not row["is_timed_out"]
        case RunEnded():
            row.update(status=event.status, completed_at=event.ended_at, error=event.error)


def _starts(row: dict[str, Any], moment: datetime) -> None:
    """What ran before this batch may stand anywhere by now, so only the database can say whether it starts here."""
    if row.get("started_at") is None:
        row["started_at"] = moment
    if row.get("status") == "PENDING":
        row["status"] = "RUNNING"


def _close(row: dict[str, Any]) -> None:
    """What the batch comes to, once all of it was merged."""
    waits = row.pop("waits")
    retried = [step for step, is_waited in waits.items() if is_waited]
    row["tried"], row["retried"] = msgspec.json.encode(list(waits)).decode(), msgspec.json.encode(retried).decode()
    if row.get("status") in ("PENDING", "RUNNING") and row["is_cancelling"]:
        row["status"] = "CANCELLING"
    if "workflow_name" in row and row.get("completed_at") is not None:
        row["failed_steps"] += len(retried)


PROJECTION: Final = Projection(
    name="workflow_runs",
    version=1,
    on=(
        RunTriggered,
        StepStarted,
        StepCompleted,
        StepFailed,
        StepSkipped,
        StepCancelled,
        RunTimedOut,
        RunCancelRequested,
        RunEnded,
    ),
    ddl=files("projections") / "workflow_runs.sql",
    on_batch=project,
)


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of runs may be narrowed to; None means any."""

    status: str | None = None
    workflow_name: str | None = None
    domain: str | None = None
    trigger: str | None = None
    triggered_by: str | None = None
    parent_run_id: str | None = None
    schedule_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


_EQUAL: Final = ("status", "trigger", *FACETS)


async def page(connection: Queryable, wanted: Filter, window: Window) -> Rows:
    """Rows with the columns of a run's summary."""
    total = await _total(connection, wanted)
    where = _where(wanted, wanted.since, wanted.until)
    source = "workflow_runs"
    if total <= GATHERED_MAX and where.sql:
        # Behind `offset 0` the database looks for the matches by the index that finds them, not by the one that
        # is in order: few matches may lie anywhere in that.
        source, where = f"(select * from workflow_runs{where.sql} offset 0) as gathered", Where(where.args)  # noqa: S608
    return await select(connection, columns=_SUMMARY, source=source, where=where, window=window, total=total)


async def oldest(
    connection: Queryable, wanted: Filter, statuses: Sequence[str], limit: int, *, to_retry: bool = False
) -> tuple[list[tuple[str, str]], int]:
    """(run, status) of the oldest `limit` matches that have one of these statuses, and how many there are in all.
    `to_retry` leaves out those that were run again, and child runs that nobody has asked for: when the run above them
    is run again, it starts them again."""
    where = _where(wanted, wanted.since, wanted.until)
    where.add("status = any({})", list(statuses))
    if to_retry:
        where.add("not exists (select from workflow_runs n where n.retry_of = r.run_id)")
        if wanted.parent_run_id is None:
            where.add("parent_run_id is null")
    total: int = await connection.fetchval(f"select count(*) from workflow_runs r{where.sql}", *where.args)  # noqa: S608
    rows = await connection.fetch(
        f"select run_id, status from workflow_runs r{where.sql} order by created_at, run_id limit {limit:d}",  # noqa: S608
        *where.args,
    )
    return [(row["run_id"], row["status"]) for row in rows], total


async def active(connection: Queryable, after: str, limit: int) -> list[str]:
    """Runs that haven't ended, in the order of their ids, behind one of them."""
    rows = await connection.fetch(
        "select run_id from workflow_runs where run_id > $1 and status in ('PENDING', 'RUNNING', 'CANCELLING')"
        " order by run_id limit $2",
        after,
        limit,
    )
    return [row["run_id"] for row in rows]


def _where(wanted: Filter, since: datetime | None, until: datetime | None, args: Sequence[Any] = ()) -> Where:
    where = Where(args)
    for column in _EQUAL:
        where.equal(column, getattr(wanted, column))
    if since is not None:
        where.add("created_at >= {}", since)
    if until is not None:
        where.add("created_at < {}", until)
    return where


async def _total(connection: Queryable, wanted: Filter) -> int:
    """Exact: sums of counters and, for what they can't tell, rows found through an index, all in one snapshot. One
    facet is counted for; of several, the rows that have them all are."""
    facets = _facets({name: getattr(wanted, name) for name in FACETS})
    buckets = [] if len(facets) > 1 else [DAY_HOURS] if facets else [DAY_HOURS, HOUR_HOURS]
    parts: list[str] = []
    args: list[Any] = []
    for piece in cut(wanted.since, wanted.until, buckets):
        if piece.hours == 0:
            source, counted = "workflow_runs", "count(*)"
            where = _where(wanted, piece.begin, piece.end, args)
        else:
            source, counted = "workflow_runs_counts", "coalesce(sum(matches), 0)"
            where = _counters(wanted, facets[0] if facets else _EVERYTHING, piece, args)
        parts.append(f"{'+' if piece.sign > 0 else '-'} (select {counted} from {source}{where.sql})")  # noqa: S608
        args = where.args
    total: int = await connection.fetchval(f"select (0 {' '.join(parts)})::bigint", *args)
    return total


def _counters(wanted: Filter, facet: UUID, piece: Piece, args: Sequence[Any]) -> Where:
    where = Where(args)
    where.equal("facet", facet)
    where.equal("hours", piece.hours)
    where.equal("status", wanted.status)
    where.equal("trigger", wanted.trigger)
    if piece.begin is not None:
        where.add("bucket >= {}", piece.begin)
    if piece.end is not None:
        where.add("bucket < {}", piece.end)
    return where


async def by_status(connection: Queryable) -> dict[str, int]:
    """How many runs stand how, of all there ever were."""
    rows = await connection.fetch(
        "select status, sum(matches)::bigint as matches from workflow_runs_counts where facet = $1 and hours = $2"
        " group by status",
        _EVERYTHING,
        DAY_HOURS,
    )
    return {row["status"]: row["matches"] for row in rows}
