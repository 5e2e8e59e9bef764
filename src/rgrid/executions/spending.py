"""Keeps the month within its limit: counts, in the transaction of every append, what is used and what is kept aside.

Whatever submits or ends an execution is counted, because the events themselves are, under the append lock. While there
is no limit nothing is counted and an append costs nothing more: a process looks once a second whether it shall count.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final, TypeAlias

import msgspec

from rgrid.eventstore.append import Rider
from rgrid.executions.events import (
    AttemptEnded,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionSubmitted,
    ExecutionTimedOut,
)
from rgrid.kernel.clock import monotonic_ms
from rgrid.kernel.errors import SpendingLimit
from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.pool import Connection, Pool

Queryable: TypeAlias = "Connection | Pool"
LOOK_EVERY_MS: Final = 1_000
ANNOUNCED_S: Final = 1.1
"""After so long every process has seen an announcement by the time of its next append."""
NOT_COUNTED: Final = "spending_limit_not_counted"
"""The constraint that refuses a limit while nobody counts."""
_LOCK: Final = "select pg_advisory_xact_lock(824177293)"
_FINAL: Final = (ExecutionCompleted, ExecutionFailed, ExecutionTimedOut, ExecutionCancelled)
_COUNT: Final = """
    update rgrid.spending s set
        month = greatest(s.month, $1),
        used_micros = case when $1 > s.month then 0 else s.used_micros end + coalesce((
            select sum(c.micros) from unnest($2::date[], $3::bigint[]) as c(month, micros)
            where c.month = greatest(s.month, $1)), 0)::bigint,
        reserved_micros = s.reserved_micros + $4
    where counting
    returning used_micros, reserved_micros, limit_micros
"""


class _Reserved(msgspec.Struct, frozen=True):
    reserved_micros: int = 0


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What counts against the limit, None where nobody counts or there is none."""

    counting: bool
    limit_micros: int | None
    threshold_percent: int | None
    used_micros: int
    reserved_micros: int


class Spending:
    """One process' part in it."""

    def __init__(self) -> None:
        self._counts = False
        self._looked_ms = -LOOK_EVERY_MS

    async def count(self, connection: Connection, recorded: Sequence[AnyRecorded]) -> None:
        """Called by the event writer with all events of a batch, in its transaction, under the append lock. Raises
        SpendingLimit when what they submit is more than the month has left."""
        if not await self._shall_count(connection):
            return
        submitted = [at for at in recorded if isinstance(at.event, ExecutionSubmitted)]
        ended = [at for at in recorded if isinstance(at.event, AttemptEnded)]
        final = [at.stream_id for at in recorded if isinstance(at.event, _FINAL)]
        if not submitted and not ended and not final:
            return
        asked = sum(at.event.reserved_micros for at in submitted)
        free = await _reserved_by(connection, final) if final else 0
        months = [month_of(at.event.ended_at) for at in ended]
        newest = max([*months, *(month_of(at.event.submitted_at) for at in submitted)], default=date.min)
        row = await connection.fetchrow(_COUNT, newest, months, [at.event.cost_micros for at in ended], asked - free)
        if row is None or not submitted or row["limit_micros"] is None:
            return
        _check(row["used_micros"], row["reserved_micros"] - asked, asked, row["limit_micros"])

    async def _shall_count(self, connection: Connection) -> bool:
        if monotonic_ms() - self._looked_ms >= LOOK_EVERY_MS:
            looked_ms = monotonic_ms()
            self._counts = await connection.fetchval("select announced from rgrid.spending")
            self._looked_ms = looked_ms
        return self._counts

    async def allow(self, pool: Pool, requested_micros: int, now: datetime) -> None:
        """Raises SpendingLimit when the month has too little left for this now. The append decides; asking first spares
        the rest of the work, and keeps what can't be accepted out of everybody else's commits."""
        if not self._counts:
            return
        found = await spent(pool, now)
        if found.limit_micros is not None:
            _check(found.used_micros, found.reserved_micros, requested_micros, found.limit_micros)

    async def announce(self, pool: Pool) -> None:
        """Returns when every process counts from its next append on."""
        if not await pool.fetchval("select counting from rgrid.spending"):
            await pool.execute("update rgrid.spending set announced = true")
            await asyncio.sleep(ANNOUNCED_S)
        self._counts = True


async def begin(connection: Connection, month: date, used_micros: int, reserved_micros: int) -> None:
    """Count from these figures on. The caller holds the append lock (`hold`) since before it learned them."""
    await connection.execute(
        "update rgrid.spending set announced = true, counting = true, month = $1, used_micros = $2,"
        " reserved_micros = $3 where not counting",
        month,
        used_micros,
        reserved_micros,
    )


async def hold(connection: Connection) -> None:
    """Nobody appends until this transaction ends."""
    await connection.execute(_LOCK)


def limit_set(limit_micros: int, threshold_percent: int) -> Rider:
    """Commits with BudgetLimitSet. Violates NOT_COUNTED when nobody counts."""
    return Rider(
        "update rgrid.spending set limit_micros = $1, threshold_percent = $2",
        (limit_micros, threshold_percent),
        takes_position=False,
    )


def limit_removed() -> Rider:
    """Commits with BudgetLimitRemoved; nothing is counted any more."""
    return Rider(
        "update rgrid.spending set limit_micros = null, threshold_percent = null, counting = false, announced = false",
        takes_position=False,
    )


async def spent(connection: Queryable, now: datetime) -> Spent:
    """The figures of the present month."""
    row = await connection.fetchrow(
        "select counting, limit_micros, threshold_percent, reserved_micros,"
        " case when month < $1 then 0 else used_micros end as used_micros from rgrid.spending",
        month_of(now),
    )
    assert row is not None, "the migration makes the one row"
    return Spent(**dict(row))


async def _reserved_by(connection: Connection, streams: Iterable[str]) -> int:
    """What executions had kept aside, from the first event of each."""
    rows = await connection.fetch(
        "select state from rgrid.stored_events where originator_id = any($1) and originator_version = 1", list(streams)
    )
    return sum(msgspec.json.decode(row["state"], type=_Reserved).reserved_micros for row in rows)


def _check(used: int, reserved: int, requested: int, limit: int) -> None:
    if requested and used + reserved + requested > limit:
        extra: dict[str, Any] = {
            "current_usage_micros": used,
            "reserved_micros": reserved,
            "requested_micros": requested,
            "monthly_limit_micros": limit,
        }
        raise SpendingLimit(
            f"This would overshoot the monthly limit: {used} micros are used, {reserved} kept aside for what has not"
            f" ended, {requested} asked for, and the limit is {limit}.",
            extra=extra,
        )


def month_of(moment: datetime) -> date:
    """The first day of the UTC month."""
    return moment.astimezone(UTC).date().replace(day=1)
