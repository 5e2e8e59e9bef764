"""What did the attempts cost, by day and by who, what and for whom? And how long did the same take before?"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from importlib.resources import files
from typing import Final, Literal

import msgspec

from rgrid.executions.events import (
    AttemptEnded,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionSubmitted,
    ExecutionTimedOut,
)
from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.paging import Queryable
from rgrid.postgres.pool import Connection
from rgrid.subscriptions.projection import Projection

GROUPS_MAX: Final = 1_000
SAMPLES_MAX: Final = 100
_FINAL: Final = (ExecutionCompleted, ExecutionFailed, ExecutionTimedOut, ExecutionCancelled)


async def project(connection: Connection, batch: Sequence[AnyRecorded]) -> None:
    """At most three statements a batch, whatever its size."""
    await _submitted(connection, [at for at in batch if isinstance(at.event, ExecutionSubmitted)])
    attempts = [at for at in batch if isinstance(at.event, AttemptEnded)]
    if attempts:
        await connection.execute(
            "insert into cost_attempts (execution_id, attempt, day, duration_ms, cost_micros)"
            " select * from unnest($1::text[], $2::int[], $3::date[], $4::bigint[], $5::bigint[])",
            [at.entity_id for at in attempts],
            [at.event.attempt for at in attempts],
            [at.event.ended_at.astimezone(UTC).date() for at in attempts],
            [at.event.duration_ms for at in attempts],
            [at.event.cost_micros for at in attempts],
        )
    ended = [at for at in batch if isinstance(at.event, _FINAL)]
    if ended:
        await connection.execute(
            "update cost_executions e set ended = true, completed_at = u.completed_at, duration_ms ="
            " (select a.duration_ms from cost_attempts a where a.execution_id = e.execution_id"
            " and u.completed_at is not null order by a.attempt desc limit 1)"
            " from unnest($1::text[], $2::timestamptz[]) as u(execution_id, completed_at)"
            " where e.execution_id = u.execution_id",
            [at.entity_id for at in ended],
            [at.event.completed_at if isinstance(at.event, ExecutionCompleted) else None for at in ended],
        )


async def _submitted(connection: Connection, fresh: Sequence[AnyRecorded]) -> None:
    if not fresh:
        return
    metadata = [at.event.user_metadata for at in fresh]
    await connection.execute(
        "insert into cost_executions (execution_id, created_by, batch_id, script_sha256, runtime, user_metadata,"
        " reserved_micros) select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[],"
        " $6::jsonb[], $7::bigint[])",
        [at.entity_id for at in fresh],
        [at.event.created_by for at in fresh],
        [at.event.batch_id for at in fresh],
        [at.event.script_sha256 for at in fresh],
        [at.event.runtime for at in fresh],
        [None if one is None else msgspec.json.encode(one).decode() for one in metadata],
        [at.event.reserved_micros for at in fresh],
    )


PROJECTION: Final = Projection(
    name="costs",
    version=1,
    on=(ExecutionSubmitted, AttemptEnded, *_FINAL),
    ddl=files("projections") / "costs.sql",
    on_batch=project,
)


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """A UTC day in which attempts ended. `executions` counts each execution once."""

    day: date
    executions: int
    duration_ms: int
    cost_micros: int


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """What those that have `name` in common cost; None has the rest, which has no such name."""

    name: str | None
    executions: int
    duration_ms: int
    cost_micros: int


By = Literal["key", "batch", "script", "runtime", "metadata"]
_NAME: Final[dict[By, str]] = {
    "key": "e.created_by",
    "batch": "e.batch_id",
    "script": "e.script_sha256",
    "runtime": "e.runtime",
    "metadata": "e.user_metadata ->> $3",
}


async def by_day(connection: Queryable, first: date, last: date) -> list[Day]:
    """Days with costs, both ends included, newest first."""
    rows = await connection.fetch(
        "select day, count(distinct execution_id)::bigint as executions, sum(duration_ms)::bigint as duration_ms,"
        " sum(cost_micros)::bigint as cost_micros from cost_attempts where day between $1 and $2"
        " group by day order by day desc",
        first,
        last,
    )
    return [Day(**dict(row)) for row in rows]


async def executions_in(connection: Queryable, first: date, last: date) -> int:
    """How many executions had an attempt that ended in these days."""
    count: int = await connection.fetchval(
        "select count(distinct execution_id) from cost_attempts where day between $1 and $2", first, last
    )
    return count


async def by(connection: Queryable, by: By, key: str, first: date, last: date) -> list[Group]:
    """The same costs by something else, the dearest first, at most GROUPS_MAX. `key` is that of the metadata."""
    name = _NAME[by]
    # The text of a parameter that no part of the statement uses has no type otherwise.
    rows = await connection.fetch(
        f"select {name} as name, count(distinct a.execution_id)::bigint as executions,"  # noqa: S608 -- one of five constants
        " sum(a.duration_ms)::bigint as duration_ms, sum(a.cost_micros)::bigint as cost_micros"
        " from cost_attempts a join cost_executions e using (execution_id)"
        " where a.day between $1 and $2 and $3::text is not null"
        " group by 1 order by 4 desc, 1 limit $4",
        first,
        last,
        key,
        GROUPS_MAX,
    )
    return [Group(**dict(row)) for row in rows]


async def used_since(connection: Queryable, first: date) -> int:
    """The cost of all attempts that ended on this day or later."""
    micros: int = await connection.fetchval(
        "select coalesce(sum(cost_micros), 0)::bigint from cost_attempts where day >= $1", first
    )
    return micros


async def reserved(connection: Queryable) -> int:
    """What is kept aside for executions that have not ended."""
    micros: int = await connection.fetchval(
        "select coalesce(sum(reserved_micros), 0)::bigint from cost_executions where not ended"
    )
    return micros


async def samples(
    connection: Queryable, since: datetime, *, script_sha256: str | None = None, runtime: str | None = None
) -> list[int]:
    """How many milliseconds the newest completed executions of a script, or else of a runtime, took; ascending."""
    column, value = ("script_sha256", script_sha256) if script_sha256 is not None else ("runtime", runtime)
    rows = await connection.fetch(
        f"select duration_ms from cost_executions where {column} = $1 and completed_at >= $2"  # noqa: S608 -- two words
        " and duration_ms is not null order by completed_at desc, execution_id desc limit $3",
        value,
        since,
        SAMPLES_MAX,
    )
    return sorted(row["duration_ms"] for row in rows)


async def of_executions(connection: Queryable, execution_ids: Sequence[str]) -> dict[str, int]:
    """What each of these cost in all its attempts; those without any are left out."""
    rows = await connection.fetch(
        "select execution_id, sum(cost_micros)::bigint as cost_micros from cost_attempts where execution_id = any($1)"
        " group by execution_id",
        list(execution_ids),
    )
    return {row["execution_id"]: row["cost_micros"] for row in rows}
