"""When each worker was last heard. An operational table: written every few seconds, worth nothing afterwards."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from rgrid.postgres.paging import Queryable

FORGET_AFTER_S: Final = 7 * 86_400
FORGOTTEN_MAX: Final = 1_000


async def record(connection: Queryable, worker_id: str) -> None:
    """A sign of life, at the database's time: workers' clocks may differ."""
    await connection.execute(
        "insert into rgrid.worker_heartbeats (worker_id, last_heartbeat_at) values ($1, clock_timestamp())"
        " on conflict (worker_id) do update set last_heartbeat_at = excluded.last_heartbeat_at",
        worker_id,
    )


async def last(connection: Queryable, worker_ids: Sequence[str]) -> dict[str, datetime]:
    """The last sign of life of those of these workers that ever gave one."""
    rows = await connection.fetch(
        "select worker_id, last_heartbeat_at from rgrid.worker_heartbeats where worker_id = any($1)", list(worker_ids)
    )
    return {row["worker_id"]: row["last_heartbeat_at"] for row in rows}


async def forget_old(connection: Queryable) -> int:
    """Drop those of workers that were not heard for a week, some at a time; says how many."""
    status = await connection.execute(
        "delete from rgrid.worker_heartbeats where worker_id in (select worker_id from rgrid.worker_heartbeats"
        " where last_heartbeat_at < clock_timestamp() - make_interval(secs => $1) limit $2)",
        FORGET_AFTER_S,
        FORGOTTEN_MAX,
    )
    return int(status.rpartition(" ")[2])
