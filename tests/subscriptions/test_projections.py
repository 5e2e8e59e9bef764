"""A projection follows the log: from the past, live, and with its checkpoint."""

import asyncio
from collections.abc import Sequence

import pytest
from following import DDL, WAIT_S, Deposited, accounts, bank, until

from rgrid.kernel.errors import Unavailable
from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.pool import Connection
from rgrid.subscriptions.projection import Projection


def test_events_of_the_past_and_of_the_present_are_applied(database: str) -> None:
    async def run() -> None:
        async with bank(database) as before:
            await before.deposit("ann", 10, 20)
        async with bank(database, [accounts()]) as present:
            position = await present.deposit("bob", 5)
            await present.daemon.reached(position, timeout_s=WAIT_S)
            assert await present.balances() == {"ann": 30, "bob": 5}

    asyncio.run(run())


def test_a_caller_reads_its_own_writes(database: str) -> None:
    async def run() -> None:
        async with bank(database, [accounts()]) as service:
            for count in range(1, 101):
                position = await service.deposit("ann", 1, after=count - 1)
                await service.daemon.reached(position, timeout_s=WAIT_S)
                assert await service.balances() == {"ann": count}

    asyncio.run(run())


def test_waiting_for_a_position_that_never_comes_ends_with_its_code(database: str) -> None:
    async def run() -> None:
        async with bank(database, [accounts()]) as service:
            position = await service.deposit("ann", 1)
            with pytest.raises(Unavailable) as refusal:
                await service.daemon.reached(position + 1, timeout_s=0.2)
            assert refusal.value.code == "position_not_reached"

    asyncio.run(run())


def test_a_process_that_leads_nothing_waits_for_the_leader(database: str) -> None:
    async def run() -> None:
        async with bank(database, [accounts()]) as leader:
            await leader.daemon.reached(0, timeout_s=WAIT_S)
            async with bank(database, [accounts()]) as follower:
                position = await follower.deposit("ann", 7)
                await follower.daemon.reached(position, timeout_s=WAIT_S)
                assert await follower.balances() == {"ann": 7}
                position = await follower.unrelated()
                await follower.daemon.reached(position, timeout_s=WAIT_S)
                assert (await follower.state(), await leader.state()) == ("following", "live")

    asyncio.run(run())


def test_checkpoints_advance_over_events_that_concern_nobody(database: str) -> None:
    async def run() -> None:
        async with bank(database, [accounts()]) as service:
            position = await service.unrelated(50)

            async def saved() -> bool:
                return bool(await service.pool.fetchval("select position from rgrid.checkpoints") == position)

            await until(saved)

    asyncio.run(run())


def test_a_batch_form_gets_every_event_of_a_page_at_once(database: str) -> None:
    sizes: list[int] = []

    async def batch(conn: Connection, page: Sequence[AnyRecorded]) -> None:
        sizes.append(len(page))
        await conn.executemany(
            "insert into deposits values ($1, $2, $3)",
            [(seen.position, seen.stream_id, seen.event.amount) for seen in page],
        )

    hot = Projection(name="hot", version=1, on=[Deposited], ddl=DDL, on_batch=batch)

    async def run() -> None:
        async with bank(database) as before:
            await before.deposit("ann", *range(2_500))
        async with bank(database, [hot]) as service:
            await service.daemon.reached(2_500, timeout_s=WAIT_S)
            assert await service.applied() == await service.logged()
            assert sizes == [1_000, 1_000, 500]

    asyncio.run(run())


def test_a_slow_projection_does_not_hold_up_another(database: str) -> None:
    async def run() -> None:
        released = asyncio.Event()

        async def slowly(conn: Connection, event: Deposited, at: AnyRecorded) -> None:
            await released.wait()

        slow = Projection(name="slow", version=1, on={Deposited: slowly}, ddl="create table slow_ones ()")
        async with bank(database, [slow, accounts()]) as service:
            position = await service.deposit("ann", 1)
            await service.daemon.reached(position, ["accounts"], WAIT_S)
            with pytest.raises(Unavailable, match="behind: slow"):
                await service.daemon.reached(position, timeout_s=0.2)
            released.set()
            await service.daemon.reached(position, timeout_s=WAIT_S)

    asyncio.run(run())


def test_a_follower_that_falls_out_of_the_tail_loses_nothing(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rgrid.subscriptions.tail.TAIL_EVENTS_MAX", 40)
    monkeypatch.setattr("rgrid.subscriptions.tail.PAGE_MAX", 10)

    async def run() -> None:
        async with bank(database, [accounts()]) as service:
            await service.daemon.reached(0, timeout_s=WAIT_S)
            position = 0
            for round_ in range(30):
                position = await service.deposit("ann", *range(20), after=round_ * 20)
            await service.daemon.reached(position, timeout_s=WAIT_S)
            assert service.daemon.tail.begin
            assert await service.applied() == await service.logged()

    asyncio.run(run())
