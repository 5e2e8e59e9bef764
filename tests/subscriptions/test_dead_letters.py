"""A poison event is parked, its stream waits behind it, everything else goes on."""

import asyncio

import pytest
from following import DDL, WAIT_S, Deposited, accounts, bank, deposited, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rgrid.kernel.errors import Unavailable
from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.pool import Connection
from rgrid.subscriptions import dead_letters
from rgrid.subscriptions.projection import Projection

POISON = -1


class Fault:
    """A projection that fails while `broken` says so."""

    def __init__(self) -> None:
        self.broken = True
        self.tries = 0

    async def apply(self, conn: Connection, event: Deposited, at: AnyRecorded) -> None:
        if event.amount == 13 and self.broken:
            self.tries += 1
            raise ValueError("thirteen")
        await deposited(conn, event, at)

    def projection(self) -> Projection:
        return Projection(name="accounts", version=1, on={Deposited: self.apply}, ddl=DDL)


def test_a_poison_event_is_parked_and_only_its_own_stream_waits(database: str) -> None:
    async def run() -> None:
        async with bank(database, [accounts()]) as service:
            await service.deposit("ann", 1)
            poison = await service.deposit("ann", POISON, after=1)
            await service.deposit("bob", 5)
            behind = await service.deposit("ann", 2, after=2)
            await service.daemon.reached(behind, timeout_s=WAIT_S)
            assert await service.balances() == {"ann": 1, "bob": 5}
            first, second = await dead_letters.show(service.pool, "accounts")
            assert (first.position, first.waits_for, first.error) == (
                poison,
                None,
                "ValueError: nobody can deposit -1",
            )
            assert (second.position, second.waits_for) == (behind, poison)
            [lag] = await service.daemon.lag()
            assert (lag.behind, lag.dead_letters) == (0, 2)

    asyncio.run(run())


def test_a_parked_stream_still_waits_after_a_restart(database: str) -> None:
    async def run() -> None:
        async with bank(database, [accounts()]) as service:
            position = await service.deposit("ann", POISON)
            await service.daemon.reached(position, timeout_s=WAIT_S)
        async with bank(database, [accounts()]) as service:
            position = await service.deposit("ann", 4, after=1)
            await service.daemon.reached(position, timeout_s=WAIT_S)
            assert await service.balances() == {}
            assert len(await dead_letters.show(service.pool)) == 2

    asyncio.run(run())


def test_a_retry_takes_the_whole_stream_in_order_once_the_fault_is_mended(database: str) -> None:
    async def run() -> None:
        fault = Fault()
        async with bank(database, [fault.projection()]) as service:
            position = await service.deposit("ann", 1, 13, 2, 3)
            await service.daemon.reached(position, timeout_s=WAIT_S)
            assert await service.balances() == {"ann": 1}
            fault.broken = False
            assert await dead_letters.retry(service.pool, "accounts", "account-ann") == 3

            async def drained() -> bool:
                return await service.balances() == {"ann": 19}

            await until(drained)
            assert await dead_letters.show(service.pool) == []
            position = await service.deposit("ann", 4, after=4)
            await service.daemon.reached(position, timeout_s=WAIT_S)
            assert await service.applied() == await service.logged()

    asyncio.run(run())


def test_a_retry_that_fails_again_counts_one_more_attempt(database: str) -> None:
    async def run() -> None:
        fault = Fault()
        async with bank(database, [fault.projection()]) as service:
            position = await service.deposit("ann", 13, 2)
            await service.daemon.reached(position, timeout_s=WAIT_S)
            [before, _] = await dead_letters.show(service.pool)
            await dead_letters.retry(service.pool, "accounts")

            async def failed_again() -> bool:
                [after, behind] = await dead_letters.show(service.pool)
                return after.attempts == before.attempts + 1 and after.wanted is None and behind.wanted is None

            await until(failed_again)
            assert await service.balances() == {}

    asyncio.run(run())


def test_skipping_a_poison_event_lets_the_ones_behind_it_pass(database: str) -> None:
    async def run() -> None:
        async with bank(database, [accounts()]) as service:
            position = await service.deposit("ann", POISON, 2, 3)
            await service.daemon.reached(position, timeout_s=WAIT_S)
            assert await dead_letters.skip(service.pool, "accounts", position - 2)
            assert not await dead_letters.skip(service.pool, "accounts", position + 1)

            async def passed() -> bool:
                return await service.balances() == {"ann": 5}

            await until(passed)
            [skipped] = await dead_letters.show(service.pool, skipped=True)
            assert skipped.position == position - 2

    asyncio.run(run())


def test_a_projection_that_fails_at_everything_stands_still_instead_of_parking_the_log(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rgrid.subscriptions.subscription.PARKED_MAX", 3)
    monkeypatch.setattr("rgrid.subscriptions.subscription.ATTEMPT_PAUSES_S", (0.0,))

    async def run() -> None:
        async with bank(database, [accounts()]) as service:
            for name in "abcdef":
                await service.deposit(name, POISON)

            async def halted() -> bool:
                return await service.state() == "halted"

            await until(halted)
            assert len(await dead_letters.show(service.pool)) == 3

    asyncio.run(run())


def test_a_fault_that_says_nothing_about_the_event_is_waited_out(database: str) -> None:
    async def run() -> None:
        tries = 0

        async def busy(conn: Connection, event: Deposited, at: AnyRecorded) -> None:
            nonlocal tries
            tries += 1
            if tries < 6:
                raise Unavailable("come back later")
            await deposited(conn, event, at)

        projection = Projection(name="accounts", version=1, on={Deposited: busy}, ddl=DDL)
        async with bank(database, [projection]) as service:
            position = await service.deposit("ann", 1)
            await service.daemon.reached(position, timeout_s=WAIT_S)
            assert await service.balances() == {"ann": 1}
            assert await dead_letters.show(service.pool) == []

    asyncio.run(run())


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([1, 2, POISON])), max_size=25), st.integers(1, 9))
def test_exactly_what_stands_before_the_first_poison_event_of_its_stream_is_applied(
    database: str, deposits: list[tuple[str, int]], page: int
) -> None:
    async def run() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("rgrid.subscriptions.tail.PAGE_MAX", page)
            patch.setattr("rgrid.subscriptions.subscription.ATTEMPT_PAUSES_S", ())
            async with bank(database, [accounts()], started=False) as service:
                await service.pool.execute(
                    "truncate rgrid.stored_events, rgrid.checkpoints, rgrid.dead_letters;"
                    " drop table if exists rm.accounts, rm.deposits, rm_next.accounts, rm_next.deposits"
                )
                versions = dict.fromkeys("abc", 0)
                free: list[int] = []
                parked: list[int] = []
                poisoned: set[str] = set()
                for position, (name, amount) in enumerate(deposits, start=1):
                    await service.deposit(name, amount, after=versions[name])
                    versions[name] += 1
                    poisoned |= {name} if amount == POISON else set()
                    (parked if name in poisoned else free).append(position)
                await service.daemon.start()
                await service.daemon.reached(len(deposits), timeout_s=WAIT_S)
                assert await service.applied() == free
                assert [letter.position for letter in await dead_letters.show(service.pool)] == parked

    asyncio.run(run())
