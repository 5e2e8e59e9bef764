"""Which executions exist, and where does each one stand?"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from importlib.resources import files
from typing import Any, Final
from uuid import UUID

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
from rgrid.postgres.periods import DAY_HOURS, HOUR_HOURS, Piece, cut
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
    ("inputs_deadline", "timestamptz"), ("facets", "jsonb"),
)  # fmt: skip
_CHANGED: Final = (
    ("status", "text"), ("failure_reason", "text"), ("exit_code", "int"), ("queued_at", "timestamptz"),
    ("started_at", "timestamptz"), ("completed_at", "timestamptz"), ("duration_ms", "bigint"), ("retry_count", "int"),
)  # fmt: skip
_COLUMNS: Final = (*_FIXED, *_CHANGED, ("cost_micros", "bigint"))
_EVERYTHING: Final = UUID(int=0)
"""The facet that every execution has."""
GATHERED_MAX: Final = 2_000
"""So many matches are sorted rather than looked for in the order of the list."""
# Facets travel as JSON, because unnest would flatten an array of arrays.
_INSERT: Final = (
    f"insert into executions ({', '.join(name for name, _ in _COLUMNS)}) select "  # noqa: S608
    + ", ".join(
        "array(select jsonb_array_elements_text(facets)::uuid)" if name == "facets" else name for name, _ in _COLUMNS
    )
    + " from unnest("
    + ", ".join(f"${n}::{kind}[]" for n, (_, kind) in enumerate(_COLUMNS, 1))
    + f") as u({', '.join(name for name, _ in _COLUMNS)})"
)
_UPDATE: Final = (
    "update executions e set "  # noqa: S608
    + ", ".join(f"{name} = coalesce(u.{name}, e.{name})" for name, _ in _CHANGED if name != "failure_reason")
    + ", failure_reason = case when u.status is null then e.failure_reason else u.failure_reason end"
    ", cost_micros = e.cost_micros + u.cost from unnest($1::text[], $2::bigint[], "
    + ", ".join(f"${n + 3}::{kind}[]" for n, (_, kind) in enumerate(_CHANGED))
    + ") as u(execution_id, cost, "
    + ", ".join(name for name, _ in _CHANGED)
    + ") where e.execution_id = u.execution_id"
)
# Run when the new executions are there and before the others change, so that the rows tell what has been counted.
_COUNT: Final = f"""
    with counted as (
    insert into executions_counts as c (facet, hours, bucket, status, failure_reason, runtime, matches)
    select g.facet, g.hours, date_trunc(case g.hours when {DAY_HOURS} then 'day' else 'hour' end, e.created_at, 'UTC'),
           d.status, d.failure_reason, e.runtime, sum(d.delta)
    from unnest($1::text[], $2::text[], $3::text[], $4::bool[]) as u(execution_id, status, failure_reason, fresh)
    join executions e on e.execution_id = u.execution_id
    cross join lateral (values (u.status, coalesce(u.failure_reason, ''), 1),
                               (e.status, coalesce(e.failure_reason, ''), -1)) as d(status, failure_reason, delta)
    cross join lateral (select unnest(e.facets[2:]), {DAY_HOURS} union all
                        values ('{_EVERYTHING}'::uuid, {DAY_HOURS}), ('{_EVERYTHING}', {HOUR_HOURS})) as g(facet, hours)
    where d.delta > 0 or not u.fresh
    group by 1, 2, 3, 4, 5, 6 having sum(d.delta) <> 0
    on conflict (facet, hours, bucket, status, failure_reason, runtime)
        do update set matches = c.matches + excluded.matches
    returning c.*)
    select facet, hours, bucket, status, failure_reason, runtime from counted where matches = 0
"""  # noqa: S608
_FORGET: Final = """
    delete from executions_counts c using unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::text[], $5::text[],
        $6::text[]) as z(facet, hours, bucket, status, failure_reason, runtime)
    where c.facet = z.facet and c.hours = z.hours and c.bucket = z.bucket and c.status = z.status
      and c.failure_reason = z.failure_reason and c.runtime = z.runtime
"""


async def project(connection: Connection, batch: Sequence[AnyRecorded]) -> None:
    """A few statements a batch, whatever its size: what is new goes in as it stands at the batch's end, all changes
    of an execution that was there are merged into one, and the counters move by what both come to."""
    fresh: dict[str, dict[str, Any]] = {}
    changes: dict[str, dict[str, Any]] = {}
    for at in batch:
        if isinstance(at.event, ExecutionSubmitted):
            fresh[at.entity_id] = _fresh(at.entity_id, at.event)
        else:
            merged = fresh.get(at.entity_id)
            if merged is None:
                merged = changes.setdefault(at.entity_id, {"cost_micros": 0})
            change = _change(at)
            if "status" in change:
                merged.pop("failure_reason", None)
            merged["cost_micros"] += change.pop("cost_micros", 0)
            merged |= change
    if fresh:
        await connection.execute(_INSERT, *([row.get(name) for row in fresh.values()] for name, _ in _COLUMNS))
    await _count(connection, fresh, {key: change for key, change in changes.items() if "status" in change})
    if changes:
        await connection.execute(
            _UPDATE,
            list(changes),
            [change["cost_micros"] for change in changes.values()],
            *([change.get(name) for change in changes.values()] for name, _ in _CHANGED),
        )


async def _count(
    connection: Connection, fresh: Mapping[str, dict[str, Any]], moved: Mapping[str, dict[str, Any]]
) -> None:
    rows = [*fresh.values(), *moved.values()]
    if rows:
        zeros = await connection.fetch(
            _COUNT,
            [*fresh, *moved],
            [row["status"] for row in rows],
            [row.get("failure_reason") for row in rows],
            [True] * len(fresh) + [False] * len(moved),
        )
        if zeros:
            await connection.execute(_FORGET, *zip(*zeros, strict=True))


def _facet(kind: str, *values: str) -> UUID:
    """What is counted by: a name, a batch, a runtime or a pair of metadata, as a number of one size whatever its
    length."""
    return UUID(bytes=blake2b(msgspec.json.encode((kind, *values)), digest_size=16).digest())


def _facets(name: str | None, batch_id: str | None, metadata: Mapping[str, str] | None) -> list[UUID]:
    named = (("name", name), ("batch", batch_id))
    facets = [_facet(kind, value) for kind, value in named if value is not None]
    return facets + [_facet("metadata", key, value) for key, value in (metadata or {}).items()]


def _fresh(execution_id: str, event: ExecutionSubmitted) -> dict[str, Any]:
    metadata = event.user_metadata
    facets = _facets(event.name, event.batch_id, metadata)
    return {
        "execution_id": execution_id,
        "name": event.name,
        "status": "awaiting_inputs",
        "retry_count": 0,
        "cost_micros": 0,
        "runtime": event.runtime,
        "batch_id": event.batch_id,
        "batch_index": event.batch_index,
        "created_at": event.submitted_at,
        "retry_of": event.retry_of,
        "user_metadata": None if metadata is None else msgspec.json.encode(metadata).decode(),
        "created_by": event.created_by,
        "inputs_deadline": event.inputs_deadline,
        "facets": msgspec.json.encode([_facet("runtime", event.runtime), *facets]).decode(),
    }


def _change(at: AnyRecorded) -> dict[str, Any]:
    match at.event:
        case ExecutionQueued(attempt=attempt, queued_at=queued_at):
            return {"status": "queued", "queued_at": queued_at, "retry_count": attempt - 1}
        case ExecutionClaimed(claimed_at=claimed_at):
            return {"status": "running", "started_at": claimed_at}
        case AttemptEnded(duration_ms=duration_ms, cost_micros=cost):
            return {"duration_ms": duration_ms, "cost_micros": cost}
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
    version=2,
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
    total = await _total(connection, wanted)
    few = total <= GATHERED_MAX
    where = _where(wanted, wanted.since, wanted.until, by_facets=few)
    source = "executions"
    if few and where.sql:
        # Behind `offset 0` the database looks for the matches by the index that finds them, not by the one that
        # is in order: few matches may lie anywhere in that.
        source, where = f"(select * from executions{where.sql} offset 0) as gathered", Where(where.args)  # noqa: S608
    elif window.keys[0].name == "created_at" and (wanted.metadata or wanted.runtime):
        where = await _within_days(connection, wanted, where)
    return await select(connection, columns=_SUMMARY, source=source, where=where, window=window, total=total)


async def _within_days(connection: Queryable, wanted: Filter, where: Where) -> Where:
    """The same matches, looked for between the days of the first and of the last one only."""
    facets = _facets(wanted.name, wanted.batch_id, wanted.metadata)
    counters = _counters(wanted, facets[0] if facets else _EVERYTHING, Piece(DAY_HOURS, None, None), ())
    days = await connection.fetchrow(
        f"select min(bucket) as first, max(bucket) + interval '1 day' as last from executions_counts{counters.sql}",  # noqa: S608
        *counters.args,
    )
    if days is None or days["first"] is None:
        return where
    # Another batch may have been projected since `where` was counted; what came in by it may miss this page.
    return where.also("created_at >= {}", days["first"]).also("created_at < {}", days["last"])


def _where(
    wanted: Filter, since: datetime | None, until: datetime | None, args: Sequence[Any] = (), *, by_facets: bool
) -> Where:
    """`by_facets`: the index of facets may be used, which reads all that have them. Otherwise they are looked at row
    by row, for who reads a part of the list in its order."""
    where = Where(args)
    for column in ("status", "failure_reason", "batch_id", "name"):
        where.equal(column, getattr(wanted, column))
    facets = [] if wanted.runtime is None else [_facet("runtime", wanted.runtime)]
    if facets := facets + _facets(None, None, wanted.metadata):
        where.add("facets @> {}::uuid[]" if by_facets else "(facets @> {}::uuid[]) is true", facets)
    if since is not None:
        where.add("created_at >= {}", since)
    if until is not None:
        where.add("created_at < {}", until)
    return where


async def _total(connection: Queryable, wanted: Filter) -> int:
    """Exact: sums of counters and, for what they can't tell, rows found through an index, all in one snapshot. One
    name, batch or pair of metadata is counted for; of several, the rows that have them all are."""
    facets = _facets(wanted.name, wanted.batch_id, wanted.metadata)
    buckets = [] if len(facets) > 1 else [DAY_HOURS] if facets else [DAY_HOURS, HOUR_HOURS]
    parts: list[str] = []
    args: list[Any] = []
    for piece in cut(wanted.since, wanted.until, buckets):
        if piece.hours == 0:
            source, counted = "executions", "count(*)"
            where = _where(wanted, piece.begin, piece.end, args, by_facets=not buckets)
        else:
            source, counted = "executions_counts", "coalesce(sum(matches), 0)"
            where = _counters(wanted, facets[0] if facets else _EVERYTHING, piece, args)
        parts.append(f"{'+' if piece.sign > 0 else '-'} (select {counted} from {source}{where.sql})")  # noqa: S608
        args = where.args
    total: int = await connection.fetchval(f"select (0 {' '.join(parts)})::bigint", *args)
    return total


def _counters(wanted: Filter, facet: UUID, piece: Piece, args: Sequence[Any]) -> Where:
    where = Where(args)
    where.equal("facet", facet)
    where.equal("hours", piece.hours)
    for column in ("status", "failure_reason", "runtime"):
        where.equal(column, getattr(wanted, column))
    if piece.begin is not None:
        where.add("bucket >= {}", piece.begin)
    if piece.end is not None:
        where.add("bucket < {}", piece.end)
    return where


async def average_cost(connection: Queryable, execution_ids: Sequence[str]) -> int | None:
    """What these executions cost on average, in micros; None when there are none."""
    average: int | None = await connection.fetchval(
        "select round(avg(cost_micros))::bigint from executions where execution_id = any($1)", list(execution_ids)
    )
    return average


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
