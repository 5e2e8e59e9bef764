"""Reading the log: one stream by version, all streams by position."""

from collections.abc import Collection
from datetime import datetime
from typing import Final

import asyncpg

from rgrid.eventstore.codec import Codec
from rgrid.eventstore.signal import Signal
from rgrid.kernel.messages import AnyRecorded

PAGE_MAX: Final = 20_000
COLUMNS: Final = "originator_id, originator_version, topic, state, notification_id, recorded_at, cause"
STREAM: Final = (
    f"select {COLUMNS} from rgrid.stored_events"  # noqa: S608 -- a constant
    " where originator_id = $1 and originator_version > $2 and ($4::bigint is null or notification_id <= $4)"
    " order by originator_version limit $3"
)
"""One stream: its id, after which version, how many (null: all), up to which position (null: the head)."""


class Store:
    """The readers' side. `committed` wakes followers; positions appear in order and never later below a seen one,
    because every append holds one advisory lock until its commit."""

    def __init__(self, pool: asyncpg.Pool, codec: Codec) -> None:
        self.pool = pool
        self.codec = codec
        self.committed = Signal()

    async def read_stream(
        self, stream_id: str, after_version: int = 0, limit: int = PAGE_MAX, to_position: int | None = None
    ) -> list[AnyRecorded]:
        """The events of one stream in version order, `[]` when there is no such stream."""
        rows = await self.pool.fetch(STREAM, stream_id, after_version, limit, to_position)
        return [self.codec.recorded(row) for row in rows]

    async def read_streams(self, stream_ids: Collection[str]) -> dict[str, list[AnyRecorded]]:
        """The whole of several streams, each in version order; those that don't exist are left out."""
        rows = await self.pool.fetch(
            f"select {COLUMNS} from rgrid.stored_events where originator_id = any($1)"  # noqa: S608 -- a constant
            " order by originator_id, originator_version",
            list(stream_ids),
        )
        streams: dict[str, list[AnyRecorded]] = {}
        for row in rows:
            streams.setdefault(row["originator_id"], []).append(self.codec.recorded(row))
        return streams

    async def read_log(
        self, after: int, limit: int = PAGE_MAX, topics: Collection[str] | None = None, to: int | None = None
    ) -> list[AnyRecorded]:
        """Events with position > `after` (and <= `to`), in position order, of these topics only when given."""
        rows = await self.pool.fetch(
            f"select {COLUMNS} from rgrid.stored_events"  # noqa: S608 -- a constant
            " where notification_id > $1 and ($3::text[] is null or topic = any($3))"
            " and ($4::bigint is null or notification_id <= $4)"
            " order by notification_id limit $2",
            after,
            limit,
            None if topics is None else list(topics),
            to,
        )
        return [self.codec.recorded(row) for row in rows]

    async def head(self) -> int:
        """The position of the newest event, 0 for an empty log."""
        position: int | None = await self.pool.fetchval("select max(notification_id) from rgrid.stored_events")
        return position or 0

    async def position_at(self, moment: datetime) -> int:
        """The last position recorded at or before a moment, 0 when there is none."""
        position: int | None = await self.pool.fetchval(
            "select max(notification_id) from rgrid.stored_events where recorded_at <= $1", moment
        )
        return position or 0
