"""A read model as it was at an earlier position: the same DDL and functions, run over the log up to there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from rgrid.eventstore.store import Store
from rgrid.kernel.errors import Unavailable
from rgrid.postgres.pool import Connection, Pool
from rgrid.subscriptions.projection import Projection

PAGE: Final = 5_000
PAGES_MAX: Final = 2_000


@asynccontextmanager
async def past(pool: Pool, store: Store, projection: Projection, position: int) -> AsyncIterator[Connection]:
    """A connection on which the projection's tables hold what they held at `position`. They are temporary and die with
    the transaction. Takes as long as folding the log does; raises Unavailable beyond PAGES_MAX pages of it."""
    topics = store.codec.topics_of(projection.kinds)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute("set local search_path = pg_temp, rgrid")
            await connection.execute(projection.ddl_text())
            seen = 0
            for _ in range(PAGES_MAX):
                page = await store.read_log(seen, PAGE, topics, position)
                await projection.apply(connection, page)
                if len(page) < PAGE:
                    break
                seen = page[-1].position
            else:
                raise Unavailable("The log is too long to look that far back.", code="as_of_too_far", retry_after_s=60)
            yield connection
        finally:
            await transaction.rollback()
