"""No reader skips an event, whoever commits when; and a log that stands still says why."""

import asyncio

import asyncpg
import pytest
from following import WAIT_S, accounts, bank, until

from rgrid.postgres.pool import connect
from rgrid.subscriptions.stalls import append_stall

APPEND = (
    "select head from rgrid.append_events(array[0], array[$1], array[1::bigint], array[$2],"
    " array[$3::bytea], array[$4::bytea])"
)
CAUSE = b'{"actor":"test","command_id":"00000000-0000-0000-0000-000000000001"}'


async def append_slowly(slow: "asyncpg.Connection[asyncpg.Record]", stream: str) -> None:
    await slow.execute(APPEND, stream, "account.deposited.v1", b'{"amount":100}', CAUSE)


def test_an_insert_held_open_is_not_skipped_by_anybody(database: str) -> None:
    """A transaction takes a position and stays open while others want to commit later positions."""

    async def run() -> None:
        async with bank(database, [accounts()]) as service:
            await service.daemon.reached(await service.deposit("ann", 1), timeout_s=WAIT_S)
            slow = await connect(database, name="slow importer")
            held = slow.transaction()
            await held.start()
            await append_slowly(slow, "account-slow")
            later = [asyncio.create_task(service.deposit(f"later-{i}", i)) for i in range(20)]
            await asyncio.wait(later, timeout=0.3)
            # Nobody overtakes: the later ones wait for the lock, and readers see what is committed.
            assert not any(task.done() for task in later)
            assert await service.store.head() == 1
            await held.commit()
            position = max(await asyncio.gather(*later))
            await service.daemon.reached(position, timeout_s=WAIT_S)
            assert await service.applied() == await service.logged() == list(range(1, 23))
            assert (await service.balances())["slow"] == 100
            await slow.close()

    asyncio.run(run())


def test_an_insert_held_open_and_rolled_back_leaves_no_hole(database: str) -> None:
    async def run() -> None:
        async with bank(database, [accounts()]) as service:
            slow = await connect(database, name="slow importer")
            held = slow.transaction()
            await held.start()
            await append_slowly(slow, "account-slow")
            later = asyncio.create_task(service.deposit("ann", 1))
            await asyncio.sleep(0)
            await held.rollback()
            assert await later == 1
            await service.daemon.reached(1, timeout_s=WAIT_S)
            assert await service.balances() == {"ann": 1}
            await slow.close()

    asyncio.run(run())


def test_a_log_held_up_by_an_idle_transaction_is_reported(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rgrid.subscriptions.daemon.STALL_CHECK_EVERY_S", 0.05)
    monkeypatch.setattr("rgrid.subscriptions.stalls.STALL_AFTER_S", 0.1)

    async def run() -> None:
        async with bank(database, [accounts()]) as service:
            slow = await connect(database, name="slow importer")
            held = slow.transaction()
            await held.start()
            await append_slowly(slow, "account-slow")
            waiting = asyncio.create_task(service.deposit("ann", 1))

            async def reported() -> bool:
                stall = service.daemon.stall
                return stall is not None and stall.waiting == 1

            await until(reported)
            stall = service.daemon.stall
            assert stall is not None
            assert (stall.application_name, stall.state) == ("slow importer", "idle in transaction")
            await held.rollback()
            await waiting

            async def over() -> bool:
                return service.daemon.stall is None

            await until(over)
            assert await append_stall(service.pool) is None
            await slow.close()

    asyncio.run(run())
