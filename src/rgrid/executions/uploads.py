"""Which input of which execution has been uploaded, and as what object. An operational table, so that every process
sees what another one received."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import asyncpg

from rgrid.adapters.objects import StoredObject
from rgrid.eventstore.append import Rider

FORGOTTEN_MAX: Final = 1_000


async def record(pool: asyncpg.Pool, execution_id: str, name: str, stored: StoredObject) -> None:
    """Remember an upload; one that comes again replaces it, and the object that it brought is released."""
    await pool.execute(
        "with old as (select sha256 from rgrid.uploads where execution_id = $1 and name = $2 and sha256 <> $3),"
        " released as (insert into rgrid.released_objects (sha256) select sha256 from old on conflict do nothing)"
        " insert into rgrid.uploads (execution_id, name, sha256, size_bytes) values ($1, $2, $3, $4)"
        " on conflict (execution_id, name) do update set sha256 = excluded.sha256, size_bytes = excluded.size_bytes,"
        " uploaded_at = clock_timestamp()",
        execution_id,
        name,
        stored.sha256,
        stored.size_bytes,
    )


async def uploaded(pool: asyncpg.Pool, execution_id: str) -> Mapping[str, StoredObject]:
    """What has come, by name."""
    rows = await pool.fetch("select name, sha256, size_bytes from rgrid.uploads where execution_id = $1", execution_id)
    return {row["name"]: StoredObject(sha256=row["sha256"], size_bytes=row["size_bytes"]) for row in rows}


def forget(execution_id: str) -> Rider:
    """Commits with the event that takes the inputs over."""
    return Rider("delete from rgrid.uploads where execution_id = $1", (execution_id,), takes_position=False)


async def held(pool: asyncpg.Pool, hashes: Sequence[str]) -> set[str]:
    """Those of the objects that wait here for an execution to take them."""
    rows = await pool.fetch("select distinct sha256 from rgrid.uploads where sha256 = any($1)", list(hashes))
    return {row["sha256"] for row in rows}


async def held_bytes(pool: asyncpg.Pool) -> int:
    """What waits here, in bytes."""
    total: int = await pool.fetchval("select coalesce(sum(size_bytes), 0)::bigint from rgrid.uploads")
    return total


async def forget_old(pool: asyncpg.Pool, older_than: timedelta) -> int:
    """Drop what was uploaded for executions that never took it, and release the objects; how many."""
    count: int = await pool.fetchval(
        "with old as (select execution_id, name from rgrid.uploads where uploaded_at < clock_timestamp() - $1::interval"
        " order by uploaded_at limit $2),"
        " dropped as (delete from rgrid.uploads u using old where u.execution_id = old.execution_id"
        " and u.name = old.name returning u.sha256),"
        " released as (insert into rgrid.released_objects (sha256) select distinct sha256 from dropped"
        " on conflict do nothing)"
        " select count(*) from dropped",
        older_than,
        FORGOTTEN_MAX,
    )
    return count
