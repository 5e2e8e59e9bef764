"""A store on a database of the test's own, with a counter as the aggregate."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from rgrid.eventstore.append import Inline
from rgrid.eventstore.codec import Codec
from rgrid.eventstore.handle import Handler
from rgrid.eventstore.store import Store
from rgrid.eventstore.writer import GroupWriter
from rgrid.kernel.clock import now
from rgrid.kernel.decider import Decider
from rgrid.kernel.errors import Rejected
from rgrid.kernel.ids import new_command_id
from rgrid.kernel.messages import Cause, Command, Event
from rgrid.postgres.pool import open_pool


class Counted(Event, frozen=True, kw_only=True):
    by: int


class Count(Command, frozen=True, kw_only=True):
    by: int
    to_max: int = 1_000_000


def decide(command: Count, state: int, _now: datetime) -> Sequence[Counted]:
    if state + command.by > command.to_max:
        raise Rejected(f"The counter stands at {state}.")
    return [Counted(by=command.by)] if command.by else []


COUNTER = Decider[Count, int, Counted](
    noun="counter", initial=0, decide=decide, evolve=lambda state, event: state + event.by
)


def codec() -> Codec:
    return Codec({"counter.counted.v1": Counted})


def cause() -> Cause:
    return Cause(actor="system", command_id=new_command_id(), request_id="r-1")


@dataclass
class Log:
    pool: asyncpg.Pool
    store: Store
    writer: GroupWriter
    handler: Handler
    connections: list[asyncpg.Connection]

    async def count(self, name: str, by: int = 1, **more: object) -> int:
        handled = await self.handler.handle(COUNTER, name, Count(by=by, **more), cause())
        return handled.state


@asynccontextmanager
async def opened(database: str, inline: Inline | None = None) -> AsyncIterator[Log]:
    pool = await open_pool(database)
    store = Store(pool, codec())
    connections: list[asyncpg.Connection] = []

    async def connect() -> asyncpg.Connection:
        connection = await asyncpg.connect(database)
        connections.append(connection)
        return connection

    writer = GroupWriter(connect, store.codec, store.committed, inline)
    await writer.start()
    try:
        yield Log(pool, store, writer, Handler(store, writer, now), connections)
    finally:
        await asyncio.wait_for(writer.stop(), 30)
        await pool.close()
