"""Events a subscriber could not take: parked with their error, shown, retried, skipped.

A parked event holds up the later events of its own stream and no others. `retry` and `skip` are wishes that the
subscriber's leader fulfils, whichever process that is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.pool import Connection, Pool
from rgrid.subscriptions.checkpoints import WISHES, Queryable

PARKED_MAX: Final = 10_000
ERROR_LENGTH_MAX: Final = 4_000
SHOWN_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`waits_for` is None for the event that failed, else the position of the failed event before it."""

    subscriber: str
    version: int
    position: int
    stream_id: str
    topic: str
    waits_for: int | None
    error: str
    attempts: int
    wanted: str | None
    parked_at: datetime
    skipped_at: datetime | None


async def show(
    conn: Queryable,
    subscriber: str | None = None,
    *,
    after: int = 0,
    limit: int = SHOWN_MAX,
    skipped: bool = False,
) -> list[DeadLetter]:
    """Parked events (with `skipped`, those given up) in position order."""
    rows = await conn.fetch(
        "select subscriber, version, position, stream_id, topic, waits_for, error, attempts, wanted, parked_at,"
        " skipped_at from rgrid.dead_letters where ($1::text is null or subscriber = $1) and position > $2"
        " and (skipped_at is not null) = $4 order by position, subscriber limit $3",
        subscriber,
        after,
        min(limit, SHOWN_MAX),
        skipped,
    )
    return [DeadLetter(**row) for row in rows]


async def retry(conn: Queryable, subscriber: str, stream_id: str | None = None) -> int:
    """Asks for another try of everything parked for one stream, or for all; says how many events that is."""
    count: int = await conn.fetchval(
        "with asked as (update rgrid.dead_letters set wanted = 'retry' where subscriber = $1 and skipped_at is null"
        " and ($2::text is null or stream_id = $2) returning position),"
        " told as (select pg_notify($3, '')) select (select count(*) from asked) from told",
        subscriber,
        stream_id,
        WISHES,
    )
    return count


async def skip(conn: Queryable, subscriber: str, position: int) -> bool:
    """Asks to give up one parked event and go on with those behind it; False when it is not parked."""
    count: int = await conn.fetchval(
        "with asked as (update rgrid.dead_letters set wanted = 'skip' where subscriber = $1 and position = $2"
        " and skipped_at is null returning position),"
        " told as (select pg_notify($3, '')) select (select count(*) from asked) from told",
        subscriber,
        position,
        WISHES,
    )
    return count > 0


async def park(
    conn: Connection,
    subscriber: str,
    version: int,
    events: Iterable[AnyRecorded],
    error: str,
    attempts: int,
    waits_for: Sequence[int | None],
) -> None:
    """Called by the leader, in the transaction that moves its checkpoint past these events."""
    rows = list(events)
    await conn.execute(
        "insert into rgrid.dead_letters (subscriber, version, position, stream_id, topic, waits_for, error, attempts)"
        " select $1, $2, e.position, e.stream_id, e.topic, e.waits_for, $7, $8"
        " from unnest($3::bigint[], $4::text[], $5::text[], $6::bigint[])"
        " as e(position, stream_id, topic, waits_for)"
        " on conflict (subscriber, version, position)"
        " do update set error = excluded.error, attempts = rgrid.dead_letters.attempts + excluded.attempts,"
        " waits_for = excluded.waits_for, wanted = null",
        subscriber,
        version,
        [row.position for row in rows],
        [row.stream_id for row in rows],
        [row.topic for row in rows],
        list(waits_for),
        error[:ERROR_LENGTH_MAX].replace("\0", "�"),
        attempts,
    )


async def parked_streams(pool: Pool, subscriber: str, version: int) -> dict[str, int]:
    """Stream → position of its first parked event."""
    rows = await pool.fetch(
        "select stream_id, min(position) as position from rgrid.dead_letters"
        " where subscriber = $1 and version = $2 and skipped_at is null group by stream_id limit $3",
        subscriber,
        version,
        PARKED_MAX,
    )
    return {row["stream_id"]: row["position"] for row in rows}


async def parked_count(pool: Pool, subscriber: str, version: int) -> int:
    count: int = await pool.fetchval(
        "select count(*) from rgrid.dead_letters where subscriber = $1 and version = $2 and skipped_at is null",
        subscriber,
        version,
    )
    return count


async def wanted(pool: Pool, subscriber: str, version: int) -> list[tuple[str, int, str]]:
    """What was asked for: (stream, position, `retry` or `skip`), in position order."""
    rows = await pool.fetch(
        "select stream_id, position, wanted from rgrid.dead_letters"
        " where subscriber = $1 and version = $2 and wanted is not null order by position limit $3",
        subscriber,
        version,
        SHOWN_MAX,
    )
    return [(row["stream_id"], row["position"], row["wanted"]) for row in rows]


async def give_up(conn: Queryable, subscriber: str, version: int, position: int) -> None:
    await conn.execute(
        "update rgrid.dead_letters set skipped_at = now(), wanted = null"
        " where subscriber = $1 and version = $2 and position = $3",
        subscriber,
        version,
        position,
    )


async def first_parked(pool: Pool, subscriber: str, version: int, stream_id: str) -> int | None:
    """The position of a stream's first parked event."""
    position: int | None = await pool.fetchval(
        "select min(position) from rgrid.dead_letters"
        " where subscriber = $1 and version = $2 and stream_id = $3 and skipped_at is null",
        subscriber,
        version,
        stream_id,
    )
    return position


async def unpark(conn: Connection, subscriber: str, version: int, position: int) -> None:
    """In the transaction that took the event after all."""
    await conn.execute(
        "delete from rgrid.dead_letters where subscriber = $1 and version = $2 and position = $3",
        subscriber,
        version,
        position,
    )


async def wish_no_more(conn: Connection, subscriber: str, version: int, stream_id: str) -> None:
    """The stream's first event failed again: what was asked for the events behind it is moot."""
    await conn.execute(
        "update rgrid.dead_letters set wanted = null"
        " where subscriber = $1 and version = $2 and stream_id = $3 and wanted is not null",
        subscriber,
        version,
        stream_id,
    )
