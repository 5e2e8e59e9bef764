"""A new version is built beside the live one and swapped, under writes and readers, inline or not."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from following import DDL, WAIT_S, Bank, Deposited, accounts, bank, deposited, until

from rgrid.kernel.errors import Unavailable
from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.pool import Connection, connect
from rgrid.subscriptions import rebuild
from rgrid.subscriptions.projection import Projection

WIDER = DDL.replace("deposits integer not null", "deposits integer not null, note text default 'second'")


async def write_on(service: Bank, stop: asyncio.Event, name: str = "busy") -> int:
    """Deposits one by one until told to stop; returns how many."""
    count = 0
    while not stop.is_set():
        await service.deposit(name, 1, after=count)
        count += 1
    return count


async def during(service: Bank, work: Callable[[], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    writing = asyncio.create_task(write_on(service, stop))
    try:
        await work()
    finally:
        stop.set()
        await writing


async def live_version(service: Bank, version: int) -> None:
    async def live() -> bool:
        found: bool = await service.pool.fetchval(
            "select exists (select from rgrid.checkpoints where subscriber = 'accounts' and version = $1 and ready)",
            version,
        )
        return found

    await until(live)


@pytest.mark.parametrize("inline", [False, True], ids=["followed", "inline"])
def test_a_raised_version_is_rebuilt_while_events_are_written(database: str, inline: bool) -> None:
    async def run() -> None:
        async with bank(database, [accounts(inline=inline)]) as first:
            await first.daemon.reached(0, timeout_s=WAIT_S)
            await first.deposit("ann", *range(1, 1_500))
        async with bank(database, [accounts(2, WIDER, inline=inline)]) as second:
            await during(second, lambda: live_version(second, 2))
            await second.daemon.reached(await second.store.head(), timeout_s=WAIT_S)
            assert await second.applied() == await second.logged()
            assert await second.pool.fetchval("select note from rm.accounts limit 1") == "second"
            assert await second.pool.fetchval("select count(*) from rgrid.checkpoints") == 1
            left = "select count(*) from pg_class where relnamespace = 'rm_next'::regnamespace"
            assert await second.pool.fetchval(left) == 0

    asyncio.run(run())


def test_readers_see_a_full_table_all_through_a_rebuild(database: str) -> None:
    async def run() -> None:
        async with bank(database, [accounts()]) as service:
            position = await service.deposit("ann", *range(1, 3_001))
            await service.daemon.reached(position, timeout_s=WAIT_S)
            seen: list[int] = []

            async def read_on() -> None:
                while True:
                    seen.append(await service.pool.fetchval("select count(*) from deposits"))

            reading = asyncio.create_task(read_on())
            for _ in range(3):
                assert await rebuild.ask(service.pool, "accounts")
                await live_version(service, 1)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            assert reading.cancelled()
            assert set(seen) == {3_000}
            assert await service.applied() == await service.logged()

    asyncio.run(run())


def test_a_rebuild_of_something_unknown_is_refused(database: str) -> None:
    async def run() -> None:
        async with bank(database) as service:
            assert not await rebuild.ask(service.pool, "nothing")

    asyncio.run(run())


def test_a_build_that_was_interrupted_goes_on_where_it_stood(database: str) -> None:
    async def run() -> None:
        applied: list[int] = []
        enough = asyncio.Event()

        async def counted(conn: Connection, event: Deposited, at: AnyRecorded) -> None:
            await deposited(conn, event, at)
            applied.append(at.position)
            if at.position == 2_500:
                enough.set()

        projection = Projection(name="accounts", version=1, on={Deposited: counted}, ddl=DDL)
        async with bank(database) as before:
            await before.deposit("ann", *range(1, 4_001))
        async with bank(database, [projection]) as interrupted:
            await asyncio.wait_for(enough.wait(), WAIT_S)
            assert await interrupted.pool.fetchval("select count(*) from rgrid.checkpoints where ready") == 0
        applied.clear()
        async with bank(database, [projection]) as resumed:
            await resumed.daemon.reached(4_000, timeout_s=WAIT_S)
            assert await resumed.applied() == await resumed.logged()
            assert min(applied) == 2_001

    asyncio.run(run())


def test_a_swap_waits_for_a_reader_and_goes_on_applying_meanwhile(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rgrid.subscriptions.rebuild.SWAP_LOCK_WAIT_MS", 50)

    async def run() -> None:
        async with bank(database, [accounts()]) as service:
            await service.daemon.reached(await service.deposit("ann", 1), timeout_s=WAIT_S)
            reader = await connect(database)
            reading = reader.transaction()
            await reading.start()
            await reader.fetch("select * from accounts")
            await rebuild.ask(service.pool, "accounts")
            position = await service.deposit("ann", 2, after=1)

            async def built() -> bool:
                return bool(await service.pool.fetchval("select to_regclass('rm_next.deposits') is not null"))

            await until(built)
            with pytest.raises(Unavailable):
                await service.daemon.reached(position, timeout_s=0.3)
            await reading.commit()
            await service.daemon.reached(position, timeout_s=WAIT_S)
            assert await service.balances() == {"ann": 3}
            await reader.close()

    asyncio.run(run())


def test_an_older_program_leaves_newer_tables_alone(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with bank(database, [accounts(2, WIDER)]) as newer:
            await newer.daemon.reached(0, timeout_s=WAIT_S)
            async with bank(database, [accounts()]) as older:

                async def superseded() -> bool:
                    return await older.state() == "superseded"

                await until(superseded)
                position = await older.deposit("ann", 1)
                await newer.daemon.reached(position, timeout_s=WAIT_S)
                assert await newer.balances() == {"ann": 1}

    asyncio.run(run())


def test_an_older_program_cannot_write_past_newer_inline_tables(database: str) -> None:
    async def run() -> None:
        async with bank(database, [accounts(inline=True)]) as older:
            await older.deposit("ann", 1)
            async with bank(database, [accounts(2, WIDER, inline=True)]) as newer:

                async def live() -> bool:
                    return await newer.state() == "live"

                await until(live)
                with pytest.raises(Unavailable, match="newer program"):
                    await older.deposit("ann", 2, after=1)
                await newer.deposit("ann", 4, after=1)
                assert await newer.balances() == {"ann": 5}

    asyncio.run(run())


def test_an_inline_projection_holds_an_event_as_soon_as_it_is_acknowledged(database: str) -> None:
    async def run() -> None:
        async with bank(database, [accounts(inline=True)]) as service:
            await service.daemon.reached(0, ["accounts"], WAIT_S)
            for count in range(1, 51):
                position = await service.deposit("ann", 1, after=count - 1)
                assert await service.balances() == {"ann": count}
            await service.daemon.reached(position, ["accounts"], WAIT_S)
            async with bank(database, [accounts(inline=True)]) as follower:
                await follower.daemon.reached(position, ["accounts"], WAIT_S)

    asyncio.run(run())


def test_an_inline_projection_that_refuses_an_event_refuses_its_append_only(database: str) -> None:
    async def run() -> None:
        async with bank(database, [accounts(inline=True)]) as service:
            await service.daemon.reached(0, ["accounts"], WAIT_S)
            good, bad = service.deposit("ann", 1), service.deposit("bob", -1)
            outcomes = await asyncio.gather(good, bad, return_exceptions=True)
            assert outcomes[0] == 1
            assert isinstance(outcomes[1], ValueError)
            assert await service.balances() == {"ann": 1}

    asyncio.run(run())
