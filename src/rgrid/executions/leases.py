"""Leases: who may speak for a running attempt, until when. An operational table; the log has the claims."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import asyncpg
import msgspec

from rgrid.eventstore.append import Rider

REAPED_MAX: Final = 500


class HeldLease(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `rgrid.leases`; `renewed_at` is the worker's last sign of life for it."""

    execution_id: str
    attempt: int
    fencing_token: int
    worker_id: str
    renewed_at: datetime
    cancel_requested: bool


def take(execution_id: str, attempt: int, fencing_token: int, worker_id: str, ttl_s: float) -> Rider:
    """Commits with the claim. A row left by a lost attempt gives way."""
    return Rider(
        "insert into rgrid.leases as l (execution_id, attempt, fencing_token, worker_id, expires_at)"
        " values ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))"
        " on conflict (execution_id) do update set attempt = excluded.attempt, cancel_requested = false,"
        " fencing_token = excluded.fencing_token, worker_id = excluded.worker_id, claimed_at = clock_timestamp(),"
        " renewed_at = clock_timestamp(), expires_at = excluded.expires_at",
        (execution_id, attempt, fencing_token, worker_id, ttl_s),
        takes_position=False,
    )


def drop(execution_id: str, fencing_token: int) -> Rider:
    """Commits with the attempt's end."""
    return Rider(
        "delete from rgrid.leases where execution_id = $1 and fencing_token = $2",
        (execution_id, fencing_token),
        takes_position=False,
    )


def ask_to_cancel(execution_id: str) -> Rider:
    """Commits with the request to cancel, so that the worker's next look finds it."""
    return Rider(
        "update rgrid.leases set cancel_requested = true where execution_id = $1",
        (execution_id,),
        takes_position=False,
    )


RENEW: Final = """
    update rgrid.leases l
    set renewed_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => $4)
    from unnest($2::text[], $3::bigint[]) as mine(execution_id, fencing_token)
    where l.execution_id = mine.execution_id and l.fencing_token = mine.fencing_token and l.worker_id = $1
    returning l.execution_id, l.fencing_token, l.cancel_requested
"""
"""Parameters: worker, execution ids, fencing tokens, seconds. Rows that don't come back are lost leases."""


async def expired(
    connection: asyncpg.Connection | asyncpg.Pool, dead_workers: Sequence[str], *, only_dead: bool = False
) -> list[HeldLease]:
    """Leases that ran out (unless `only_dead`), and those of workers known to be dead."""
    rows = await connection.fetch(
        "select execution_id, attempt, fencing_token, worker_id, renewed_at, cancel_requested from rgrid.leases"
        " where (expires_at < clock_timestamp() and not $3) or worker_id = any($1) order by expires_at limit $2",
        list(dead_workers),
        REAPED_MAX,
        only_dead,
    )
    return [HeldLease(**dict(row)) for row in rows]


async def to_cancel(connection: asyncpg.Connection | asyncpg.Pool, worker_id: str) -> list[HeldLease]:
    """The worker's attempts that somebody wants stopped."""
    rows = await connection.fetch(
        "select execution_id, attempt, fencing_token, worker_id, renewed_at, cancel_requested from rgrid.leases"
        " where worker_id = $1 and cancel_requested",
        worker_id,
    )
    return [HeldLease(**dict(row)) for row in rows]


async def held(connection: asyncpg.Connection | asyncpg.Pool) -> int:
    """How many attempts are under a lease."""
    count: int = await connection.fetchval("select count(*) from rgrid.leases")
    return count
