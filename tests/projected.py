"""Given events, then these rows: how every read model is tested, on a real Postgres and without a service around it.

rows = projected(database, PROJECTION, [("execution-e1", SUBMITTED)], "select status from executions")
assert rows == [{"status": "queued"}]
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from rgrid.kernel.messages import AnyRecorded, Cause, Event, Recorded
from rgrid.postgres.pool import Connection, connect
from rgrid.subscriptions.projection import Projection

BEGAN_AT: Final = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
CAUSE: Final = Cause(actor="key:test", command_id=UUID(int=1), correlation_id="corr-1")
Given = Sequence[tuple[str, Event]] | Sequence[AnyRecorded]
"""(stream, event) in log order, or events placed by `recorded`."""


def recorded(given: Sequence[tuple[str, Event]], after: int = 0) -> list[AnyRecorded]:
    """The events as the log would hold them: positions from `after` + 1 on, one second apart, versions counted."""
    versions: Counter[str] = Counter()
    placed: list[AnyRecorded] = []
    for position, (stream_id, event) in enumerate(given, start=after + 1):
        versions[stream_id] += 1
        placed.append(
            Recorded(
                position=position,
                stream_id=stream_id,
                version=versions[stream_id],
                topic=type(event).__name__,
                event=event,
                recorded_at=BEGAN_AT + timedelta(seconds=position),
                cause=CAUSE,
            )
        )
    return placed


@asynccontextmanager
async def read_model(dsn: str, projection: Projection, given: Given, *, page: int = 1_000) -> AsyncIterator[Connection]:
    """A connection on which the read model exists and holds these events, for its queries; all is rolled back."""
    events = [entry for entry in given if isinstance(entry, Recorded)]
    events = events or recorded([entry for entry in given if not isinstance(entry, Recorded)])
    wanted = [seen for seen in events if type(seen.event) in projection.kinds]
    connection = await connect(dsn, name="projected", search_path="rm, public")
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(projection.ddl_text())
        for first in range(0, len(wanted), page):
            await projection.apply(connection, wanted[first : first + page])
        yield connection
    finally:
        await transaction.rollback()
        await connection.close()


def projected(dsn: str, projection: Projection, given: Given, query: str) -> list[dict[str, Any]]:
    """The rows of `query` after these events, applied one by one and as one page: both must show the same."""

    async def rows(page: int) -> list[dict[str, Any]]:
        async with read_model(dsn, projection, given, page=page) as connection:
            return [dict(row) for row in await connection.fetch(query)]

    apart, together = asyncio.run(rows(1)), asyncio.run(rows(1_000))
    assert apart == together, f"the page's size shows: {apart} one by one, {together} at once"
    return together
