"""Postgres goes away under load and comes back: nothing is skipped, nothing is applied twice."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from following import NOTICES, WAIT_S, Bank, Deposited, Notice, Noticed, accounts, bank, until

from rgrid.kernel.errors import Unavailable
from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.embedded import EmbeddedPostgres
from rgrid.postgres.migrate import migrate
from rgrid.subscriptions.process import Process, Send
from rgrid.subscriptions.supervision import TRANSIENT

ROUNDS = 3


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A server of this test's own, to be killed."""
    folder = Path(tempfile.mkdtemp(prefix="rgrid-"))
    server = EmbeddedPostgres(folder)
    asyncio.run(migrate(server.start()))
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


async def notify(recorded: AnyRecorded, send: Send) -> None:
    await send(NOTICES, recorded.entity_id, Notice(of=str(recorded.position)))


async def head(service: Bank) -> int:
    """The head of the log; a pool may still hand out connections of the server before."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                return await service.store.head()
            except TRANSIENT:
                await asyncio.sleep(0.01)


async def load(service: Bank, name: str, stop: asyncio.Event) -> None:
    """Deposits until told to stop, through every outage."""
    count = 0
    while not stop.is_set():
        try:
            await service.deposit(name, 1, after=count)
            count += 1
        except Unavailable:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "restarted"])
def test_a_server_that_goes_away_under_load_costs_no_event(server: EmbeddedPostgres, how: signal.Signals) -> None:
    async def run() -> None:
        notifier = Process("notifier", {Deposited: notify}, streams_at_once=4)
        async with bank(server.dsn, [accounts()], [notifier]) as service:
            stop = asyncio.Event()
            loads = [asyncio.create_task(load(service, name, stop)) for name in ("ann", "bob")]
            for _ in range(ROUNDS):
                before = await head(service)

                async def some_more(before: int = before) -> bool:
                    return await head(service) > before + 40

                await until(some_more)
                assert server.pid is not None
                os.kill(server.pid, how)
                while server.alive():
                    await asyncio.sleep(0.01)
                server.stop()
                server.start()
            stop.set()
            await asyncio.gather(*loads)

            await head(service)

            async def all_noticed() -> bool:
                events = [seen.event for seen in await service.store.read_log(0)]
                return len([event for event in events if type(event) is Noticed]) >= len(await service.logged())

            await until(all_noticed)
            await service.daemon.reached(await service.store.head(), timeout_s=WAIT_S)
            assert await service.applied() == await service.logged()
            noticed = [int(seen.event.of) for seen in await service.store.read_log(0) if type(seen.event) is Noticed]
            assert sorted(noticed) == await service.logged()

    asyncio.run(run())
