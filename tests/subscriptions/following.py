"""A small bank whose log the subscription tests follow: its events, its read models, and a service around them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rgrid.eventstore.append import Append, NewEvent
from rgrid.eventstore.codec import Codec
from rgrid.eventstore.handle import Handler
from rgrid.eventstore.store import Store
from rgrid.eventstore.writer import GroupWriter
from rgrid.kernel import clock
from rgrid.kernel.decider import Decider
from rgrid.kernel.ids import new_command_id
from rgrid.kernel.messages import AnyRecorded, Cause, Command, Event
from rgrid.postgres.pool import Connection, Pool, connect, open_pool
from rgrid.subscriptions.daemon import Daemon
from rgrid.subscriptions.inline import apply_inline
from rgrid.subscriptions.process import Process
from rgrid.subscriptions.projection import Projection

WAIT_S = 30.0  # how long a test waits before it says that something hangs


class Deposited(Event, frozen=True, kw_only=True):
    amount: int


class Noticed(Event, frozen=True, kw_only=True):
    of: str


class Unrelated(Event, frozen=True, kw_only=True):
    pass


TOPICS: dict[str, type[Event]] = {
    "account.deposited.v1": Deposited,
    "notice.noticed.v1": Noticed,
    "other.unrelated.v1": Unrelated,
}


class Notice(Command, frozen=True, kw_only=True):
    of: str


def decide(command: Notice, state: int, now: datetime) -> Sequence[Event]:
    # Not idempotent on purpose: a repeated command would show.
    return [Noticed(of=command.of)]


NOTICES: Decider[Any, int, Any] = Decider("notice", 0, decide, lambda state, event: state + 1)

DDL = """
create table accounts (stream_id text primary key, balance bigint not null, deposits integer not null);
create table deposits (position bigint primary key, stream_id text not null, amount bigint not null);
create index on deposits (stream_id);
"""


async def deposited(conn: Connection, event: Deposited, at: AnyRecorded) -> None:
    if event.amount < 0:
        raise ValueError(f"nobody can deposit {event.amount}")
    await conn.execute("insert into deposits values ($1, $2, $3)", at.position, at.stream_id, event.amount)
    await conn.execute(
        "insert into accounts as a values ($1, $2, 1) on conflict (stream_id)"
        " do update set balance = a.balance + $2, deposits = a.deposits + 1",
        at.stream_id,
        event.amount,
    )


def accounts(version: int = 1, ddl: str = DDL, *, inline: bool = False) -> Projection:
    """Rows that an event applied twice would break, and an event skipped would leave out."""
    return Projection(name="accounts", version=version, on={Deposited: deposited}, ddl=ddl, inline=inline)


@dataclass
class Bank:
    """One process's worth of service on a database."""

    dsn: str
    pool: Pool
    store: Store
    writer: GroupWriter
    daemon: Daemon

    async def deposit(self, account: str, *amounts: int, after: int = 0) -> int:
        """Appends deposits as versions `after` + 1 and on; returns the position of the last."""
        stream = f"account-{account}"
        events = [NewEvent(stream, after + 1 + i, Deposited(amount=amount)) for i, amount in enumerate(amounts)]
        return await self._append(events)

    async def unrelated(self, count: int = 1) -> int:
        stream = f"other-{new_command_id()}"
        return await self._append([NewEvent(stream, 1 + i, Unrelated()) for i in range(count)])

    async def balances(self) -> dict[str, int]:
        rows = await self.pool.fetch("select stream_id, balance from rm.accounts order by stream_id")
        return {row["stream_id"].removeprefix("account-"): row["balance"] for row in rows}

    async def applied(self) -> list[int]:
        return [row["position"] for row in await self.pool.fetch("select position from rm.deposits order by 1")]

    async def logged(self) -> list[int]:
        """The positions of every deposit in the log."""
        rows = await self.pool.fetch(
            "select notification_id from rgrid.stored_events where topic = 'account.deposited.v1' order by 1"
        )
        return [row["notification_id"] for row in rows]

    async def state(self, name: str = "accounts") -> str:
        return next(lag.state for lag in await self.daemon.lag() if lag.name == name)

    async def _append(self, events: Sequence[NewEvent]) -> int:
        cause = Cause(actor="test", command_id=new_command_id(), correlation_id="corr-1")
        return (await self.writer.append(Append(events, cause))).position


@asynccontextmanager
async def bank(
    dsn: str, projections: Sequence[Projection] = (), processes: Sequence[Process] = (), *, started: bool = True
) -> AsyncIterator[Bank]:
    """A service with these subscribers; its writer applies the inline ones."""
    inline = [projection for projection in projections if projection.inline]

    async def apply(conn: Connection, recorded: Sequence[AnyRecorded]) -> None:
        await apply_inline(conn, inline, recorded)

    pool, own = await open_pool(dsn, name="test"), await open_pool(dsn, name="daemon")
    store = Store(pool, Codec(TOPICS))
    writer = GroupWriter(lambda: connect(dsn, name="writer"), store.codec, store.committed, apply)
    daemon = Daemon(own, store, projections, processes, Handler(store, writer, clock.now))
    await writer.start()
    try:
        if started:
            await daemon.start()
        yield Bank(dsn, pool, store, writer, daemon)
    finally:
        await daemon.stop()
        await writer.stop()
        await own.close()
        await pool.close()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Waits for something that must become true."""
    async with asyncio.timeout(WAIT_S):
        while not await holds():
            await asyncio.sleep(0.01)
