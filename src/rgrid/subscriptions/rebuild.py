"""Builds a version of a read model beside the live one and swaps them; the first creation is the same path.

The same DDL and functions run with `search_path = rm_next`. When they have caught up, one transaction drops the old
tables and moves the new ones to `rm`, so readers see the old tables up to the moment they see the new ones.
"""

import asyncio
import logging
from collections.abc import Sequence
from enum import Enum
from typing import Final

import asyncpg

from rgrid.postgres.pool import Connection, Pool
from rgrid.subscriptions import checkpoints
from rgrid.subscriptions.checkpoints import LIVE_SCHEMA, NEXT_SCHEMA, WISHES, Checkpoint, Queryable
from rgrid.subscriptions.projection import Projection
from rgrid.subscriptions.subscription import Subscription
from rgrid.subscriptions.supervision import LeadershipLost
from rgrid.subscriptions.tail import PAGE_MAX

log = logging.getLogger(__name__)

APPEND_LOCK: Final = 824_177_293
"""The lock under which events are appended; held to swap an inline projection, so that no event slips between."""

DDL_LOCK: Final = 1_919_247_973
SWAP_LOCK_WAIT_MS: Final = 1_500  # longer than deadlock_timeout, so that an autovacuum gives way
SWAP_PAUSE_S: Final = 0.25
SWAP_REMAINDER_MAX: Final = PAGE_MAX


class Standing(Enum):
    """What this version of a projection is, compared with what the database holds."""

    LIVE = "live"
    TO_BUILD = "to build"
    SUPERSEDED = "superseded"


def standing(projection: Projection, known: Sequence[Checkpoint]) -> Standing:
    """The highest version wins: a process that runs an older program follows its live tables until a newer version
    takes their place, and then leaves them alone."""
    if any(checkpoint.ready and checkpoint.version == projection.version for checkpoint in known):
        return Standing.LIVE
    if any(checkpoint.version > projection.version for checkpoint in known):
        return Standing.SUPERSEDED
    return Standing.TO_BUILD


async def ask(conn: Queryable, name: str) -> bool:
    """Marks a live read model as outdated; its leader then builds it anew beside and swaps. False: no such name."""
    status = await conn.execute("update rgrid.checkpoints set version = 0 where subscriber = $1 and ready", name)
    await conn.execute("select pg_notify($1, '')", WISHES)
    return status == "UPDATE 1"


async def begin(pool: Pool, projection: Projection) -> Checkpoint:
    """Makes the tables in `rm_next`, or finds those of a build that was interrupted: it goes on where it stood."""
    async with pool.acquire() as conn, conn.transaction():
        # One at a time: the tables of this pair are those that its DDL adds to the schema.
        await conn.execute("select pg_advisory_xact_lock($1)", DDL_LOCK)
        # Locked, so that a build by another program is either not yet swapped in and given up, or live and kept.
        await conn.execute("select from rgrid.checkpoints where subscriber = $1 for update", projection.name)
        for known in await checkpoints.load(conn, projection.name):
            if known.version > projection.version:
                raise LeadershipLost(f"{projection.name} v{known.version} is newer than this program")
            if known.version == projection.version:
                if known.ready:
                    raise LeadershipLost(f"{projection.name} v{known.version} has been built by another")
                return known
            if not known.ready:
                await _drop(conn, NEXT_SCHEMA, known.tables)
                await _forget(conn, projection.name, known.version)
        before = await _relations(conn)
        await conn.execute(f"set local search_path = {checkpoints.search_path(NEXT_SCHEMA)}")
        await conn.execute(projection.ddl_text())
        added = {name: kind for name, kind in (await _relations(conn)).items() if name not in before}
        others = [name for name, kind in added.items() if kind != "table"]
        assert not others, f"the DDL of {projection.name} makes more than tables: {others}"
        fresh = Checkpoint(projection.name, projection.version, 0, False, tuple(sorted(added)))
        await checkpoints.create(conn, fresh)
        return fresh


async def build(subscription: Subscription, projection: Projection) -> None:
    """Brings a begun build up to date and swaps it in; `subscription` writes to `rm_next`."""
    began_at, head = subscription.position, await subscription.tail.store.head()
    while subscription.position < head:
        await subscription.step()
    if subscription.position > began_at:
        await _analyze(subscription.pool, projection)
    while True:
        try:
            if await _swap(subscription, projection):
                # With nothing in the log there was nothing to build, so nobody needs to hear of it.
                level = logging.INFO if subscription.position else logging.DEBUG
                log.log(
                    level, "%s v%d is live at position %d", projection.name, projection.version, subscription.position
                )
                return
        except asyncpg.LockNotAvailableError:
            log.warning("%s v%d waits for a transaction that holds its tables", projection.name, projection.version)
            await asyncio.sleep(SWAP_PAUSE_S)
        await subscription.step(0.0)


async def _swap(subscription: Subscription, projection: Projection) -> bool:
    """One transaction: the last events, away with the old tables, in with the new ones. False: too far behind."""
    name, version, store = projection.name, projection.version, subscription.tail.store
    async with subscription.pool.acquire() as conn, conn.transaction():
        await conn.execute(f"set local lock_timeout = {SWAP_LOCK_WAIT_MS}")
        if projection.inline:
            await conn.execute("select pg_advisory_xact_lock($1)", APPEND_LOCK)
        live = await conn.fetchrow(
            "select version, position, tables from rgrid.checkpoints where subscriber = $1 and ready for update", name
        )
        # Readers were promised what the old tables hold; an inline projection has to hold everything.
        to = await store.head() if projection.inline else (live["position"] if live else 0)
        parked = 0
        if subscription.position < to:
            kinds = store.codec.topics_of(projection.kinds)
            rest = await store.read_log(subscription.position, SWAP_REMAINDER_MAX + 1, kinds, to)
            if len(rest) > SWAP_REMAINDER_MAX:
                return False
            free, settle = subscription.settling(rest, to)
            await settle(conn)
            await projection.apply(conn, free)
            parked = len(rest) - len(free)
        if live:
            await _drop(conn, LIVE_SCHEMA, live["tables"])
            await _forget(conn, name, live["version"])
        tables: list[str] | None = await conn.fetchval(
            "update rgrid.checkpoints set ready = true where subscriber = $1 and version = $2 and not ready"
            " returning tables",
            name,
            version,
        )
        if tables is None:
            raise LeadershipLost(f"the build of {name} v{version} has been dropped by another")
        for table in tables:
            await conn.execute(f"alter table {NEXT_SCHEMA}.{_quoted(table)} set schema {LIVE_SCHEMA}")
    subscription.moved(max(to, subscription.position), parked)
    return True


async def _relations(conn: Connection) -> dict[str, str]:
    """What the schema of builds holds: name → `table` or something else. Indexes and owned sequences go with tables."""
    rows = await conn.fetch(
        "select c.relname as name, case when c.relkind in ('r', 'p') then 'table' else 'other' end as kind"
        " from pg_class c where c.relnamespace = $1::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')"
        " union all select p.proname, 'function' from pg_proc p where p.pronamespace = $1::regnamespace"
        " union all select t.typname, 'type' from pg_type t"
        " where t.typnamespace = $1::regnamespace and t.typtype in ('e', 'd', 'r')",
        NEXT_SCHEMA,
    )
    return {row["name"]: row["kind"] for row in rows}


async def _drop(conn: Connection, schema: str, tables: Sequence[str]) -> None:
    if tables:
        await conn.execute(f"drop table if exists {', '.join(f'{schema}.{_quoted(table)}' for table in tables)}")


async def _forget(conn: Connection, name: str, version: int) -> None:
    await conn.execute("delete from rgrid.checkpoints where subscriber = $1 and version = $2", name, version)
    await conn.execute("delete from rgrid.dead_letters where subscriber = $1 and version = $2", name, version)


async def _analyze(pool: Pool, projection: Projection) -> None:
    """The planner should know the new tables before the first reader meets them."""
    for known in await checkpoints.load(pool, projection.name):
        if known.version == projection.version:
            for table in known.tables:
                await pool.execute(f"analyze {NEXT_SCHEMA}.{_quoted(table)}")


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
