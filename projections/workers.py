"""Which workers are there, and how is each of them? Heartbeats and leases are looked up, not projected."""

from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from typing import Any, Final, Literal

import asyncpg
import msgspec

from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.paging import Key, Queryable, Rows, Where, Window, select
from rgrid.runners.events import (
    WorkerDrainRequested,
    WorkerLost,
    WorkerRegistered,
    WorkerReturned,
    WorkerStopped,
)
from rgrid.subscriptions.projection import Projection

KEYS: Final = {
    "started_at": Key("started_at", "moment"),
    "last_heartbeat_at": Key("last_heartbeat_at", "moment"),
    "hostname": Key("hostname"),
    "worker_id": Key("worker_id"),
}
WATCHED_MAX: Final = 10_000
_COLUMNS: Final = (
    "worker_id, status, hostname, runner_kind, sandbox_level, slots, runtimes, version, started_at, stopped_at,"
    " last_heartbeat_at, changes,"
    " array(select l.execution_id from rgrid.leases l where l.worker_id = seen.worker_id"
    " order by l.claimed_at, l.execution_id) as current_executions"
)
# Of a worker that ended, the log says when it was last heard; of a living one, the heartbeats do.
_SEEN: Final = (
    "(select w.*, case when w.status in ('lost', 'stopped') then w.heard_at"
    " else greatest(w.started_at, h.last_heartbeat_at) end as last_heartbeat_at"
    " from workers w left join rgrid.worker_heartbeats h using (worker_id)) as seen"
)


async def registered(connection: asyncpg.Connection, event: WorkerRegistered, at: AnyRecorded) -> None:
    await connection.execute(
        "insert into workers (worker_id, status, hostname, pid, boot_id, process_started_ticks, runner_kind,"
        " sandbox_level, slots, runtimes, version, started_at, changes)"
        " values ($1, 'active', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        at.entity_id,
        event.hostname,
        event.pid,
        event.boot_id,
        event.process_started_ticks,
        event.runner_kind,
        event.sandbox_level,
        event.slots,
        event.runtimes,
        event.version,
        event.registered_at,
        at.version,
    )


async def drain_requested(connection: asyncpg.Connection, event: WorkerDrainRequested, at: AnyRecorded) -> None:
    await connection.execute(
        "update workers set status = 'draining', draining = true, changes = $2 where worker_id = $1",
        at.entity_id,
        at.version,
    )


async def stopped(connection: asyncpg.Connection, event: WorkerStopped, at: AnyRecorded) -> None:
    await connection.execute(
        "update workers set status = 'stopped', stopped_at = $3, heard_at = $3, changes = $2 where worker_id = $1",
        at.entity_id,
        at.version,
        event.stopped_at,
    )


async def lost(connection: asyncpg.Connection, event: WorkerLost, at: AnyRecorded) -> None:
    await connection.execute(
        "update workers set status = 'lost', lost_at = $3, heard_at = $4, changes = $2 where worker_id = $1",
        at.entity_id,
        at.version,
        event.lost_at,
        event.last_heartbeat_at,
    )


async def returned(connection: asyncpg.Connection, event: WorkerReturned, at: AnyRecorded) -> None:
    await connection.execute(
        "update workers set status = case when draining then 'draining' else 'active' end, lost_at = null,"
        " heard_at = null, changes = $2 where worker_id = $1",
        at.entity_id,
        at.version,
    )


PROJECTION: Final = Projection(
    name="workers",
    version=1,
    on={
        WorkerRegistered: registered,
        WorkerDrainRequested: drain_requested,
        WorkerStopped: stopped,
        WorkerLost: lost,
        WorkerReturned: returned,
    },
    ddl=files("projections") / "workers.sql",
)


class LiveWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker to keep an eye on. `silent_s` is how long it was not heard, by the database's clock."""

    worker_id: str
    status: Literal["active", "draining", "lost"]
    hostname: str
    boot_id: str
    pid: int
    process_started_ticks: int
    last_heartbeat_at: datetime
    silent_s: float


async def page(connection: Queryable, status: str | None, window: Window) -> Rows:
    """Rows of the columns that `get` answers with."""
    where = Where()
    where.equal("status", status)
    return await select(connection, columns=_COLUMNS, source=_SEEN, where=where, window=window)


async def get(connection: Queryable, worker_id: str) -> Mapping[str, Any] | None:
    """One worker; `changes` is its version."""
    row = await connection.fetchrow(f"select {_COLUMNS} from {_SEEN} where worker_id = $1", worker_id)  # noqa: S608
    return None if row is None else dict(row)


async def watched(connection: Queryable) -> list[LiveWorker]:
    """Workers that should be alive, and lost ones of which a sign of life came after the loss."""
    rows = await connection.fetch(
        "select w.worker_id, w.status, w.hostname, w.boot_id, w.pid, w.process_started_ticks,"
        " greatest(w.started_at, h.last_heartbeat_at) as last_heartbeat_at,"
        " extract(epoch from clock_timestamp() - greatest(w.started_at, h.last_heartbeat_at))::float8 as silent_s"
        " from workers w left join rgrid.worker_heartbeats h using (worker_id)"
        " where w.status in ('active', 'draining') or (w.status = 'lost' and h.last_heartbeat_at > w.lost_at)"
        " order by last_heartbeat_at limit $1",
        WATCHED_MAX,
    )
    return [LiveWorker(**dict(row)) for row in rows]


async def shall_drain(connection: Queryable, worker_id: str) -> bool:
    return bool(await connection.fetchval("select draining from workers where worker_id = $1", worker_id))


async def live_runtimes(connection: Queryable) -> set[str] | None:
    """What the workers that take work can run; None when there is no such worker."""
    # One statement: between two a worker may register, and then there would be a worker without any runtime.
    rows = await connection.fetch(
        "select distinct runtime from workers w left join lateral unnest(w.runtimes) as runtime on true"
        " where w.status = 'active'"
    )
    return {row["runtime"] for row in rows if row["runtime"] is not None} if rows else None


async def live_count(connection: Queryable) -> int:
    """Workers that take work or finish what they have."""
    count: int = await connection.fetchval("select count(*) from workers where status in ('active', 'draining')")
    return count


async def ended_with_leases(connection: Queryable) -> list[str]:
    """Workers that are lost or stopped and still hold leases from before: whatever they ran is over. One that was only
    silent may claim again a moment before it is known to be back."""
    rows = await connection.fetch(
        "select distinct l.worker_id from rgrid.leases l join workers w using (worker_id)"
        " where w.status = 'stopped' or (w.status = 'lost' and l.claimed_at <= w.lost_at) limit $1",
        WATCHED_MAX,
    )
    return [row["worker_id"] for row in rows]
