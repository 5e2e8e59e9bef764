"""Which sets of inputs may be referred to, and which file under which name is among them?"""

from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from typing import Final

import msgspec

from rgrid.executions.events import CachedInputsExpired, InputsCached, StoredFile
from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.paging import Queryable
from rgrid.postgres.pool import Connection
from rgrid.subscriptions.projection import Projection

DUE_MAX: Final = 200


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A set of inputs; the references are hashes by name."""

    files: dict[str, str]
    expires_at: datetime


async def cached(connection: Connection, event: InputsCached, at: AnyRecorded) -> None:
    await connection.executemany(
        "insert into input_cache (input_hash, name, sha256, size_bytes, expires_at) values ($1, $2, $3, $4, $5)",
        [(at.entity_id, file.name, file.sha256, file.size_bytes, event.expires_at) for file in event.files],
    )


async def expired(connection: Connection, _event: CachedInputsExpired, at: AnyRecorded) -> None:
    await connection.execute("delete from input_cache where input_hash = $1", at.entity_id)


PROJECTION: Final = Projection(
    name="input_cache",
    version=1,
    on={InputsCached: cached, CachedInputsExpired: expired},
    ddl=files("projections") / "input_cache.sql",
)


async def get(connection: Queryable, input_hash: str, now: datetime) -> Entry | None:
    """What the cache holds under this hash at that moment."""
    rows = await connection.fetch(
        "select name, sha256, expires_at from input_cache where input_hash = $1 and expires_at > $2 order by name",
        input_hash,
        now,
    )
    if not rows:
        return None
    return Entry(files={row["name"]: row["sha256"] for row in rows}, expires_at=rows[0]["expires_at"])


async def known(connection: Queryable, references: Mapping[str, str], now: datetime) -> dict[str, StoredFile]:
    """Those of the references (name: hash) that a living entry holds under just this name."""
    rows = await connection.fetch(
        "select distinct c.name, c.sha256, c.size_bytes from input_cache c"
        " join unnest($1::text[], $2::text[]) as r(name, sha256) on r.sha256 = c.sha256 and r.name = c.name"
        " where c.expires_at > $3",
        list(references),
        list(references.values()),
        now,
    )
    return {row["name"]: StoredFile(**dict(row)) for row in rows}


async def due(connection: Queryable, now: datetime) -> list[str]:
    """Entries whose time is over, the oldest first."""
    rows = await connection.fetch(
        "select input_hash from input_cache where expires_at <= $1 group by input_hash order by min(expires_at)"
        " limit $2",
        now,
        DUE_MAX,
    )
    return [row["input_hash"] for row in rows]
