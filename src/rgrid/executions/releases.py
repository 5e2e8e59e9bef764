"""Objects that may have lost their last holder. An operational table: only the read side and the store itself say
whether an object can really go."""

from collections.abc import Sequence
from typing import Final

import asyncpg

from rgrid.eventstore.append import Rider

LOOKED_AT_MAX: Final = 500
AGAIN_S: Final = 900

_RELEASE: Final = (
    "insert into rgrid.released_objects (sha256) select distinct unnest($1::text[]) on conflict do nothing"
)


def release(hashes: Sequence[str]) -> Rider:
    """Commits with the event that lets go of the objects."""
    return Rider(_RELEASE, (list(hashes),), takes_position=False)


async def release_now(pool: asyncpg.Pool, hashes: Sequence[str]) -> None:
    """For objects that were put and that no event will ever name."""
    if hashes:
        await pool.execute(_RELEASE, list(hashes))


async def due(pool: asyncpg.Pool) -> list[str]:
    """The objects to look at now, oldest first."""
    rows = await pool.fetch(
        "select sha256 from rgrid.released_objects where look_at <= clock_timestamp() order by look_at limit $1",
        LOOKED_AT_MAX,
    )
    return [row["sha256"] for row in rows]


async def settled(pool: asyncpg.Pool, hashes: Sequence[str]) -> None:
    """These are gone, or held again: whoever lets go of them next releases them anew."""
    await pool.execute("delete from rgrid.released_objects where sha256 = any($1)", list(hashes))


async def look_again(pool: asyncpg.Pool, hashes: Sequence[str]) -> None:
    """These were put a moment ago, so somebody may be about to hold them."""
    await pool.execute(
        "update rgrid.released_objects set look_at = clock_timestamp() + make_interval(secs => $2)"
        " where sha256 = any($1)",
        list(hashes),
        AGAIN_S,
    )
