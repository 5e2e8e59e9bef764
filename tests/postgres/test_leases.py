"""Leadership: one at a time, free after a death, and noticed when lost."""

import asyncio

import asyncpg
from hypothesis import given
from hypothesis import strategies as st

from rgrid.postgres.leases import Leadership, LockSession, lock_key


def test_only_one_process_leads_a_name(database: str) -> None:
    async def scenario() -> None:
        one, two = LockSession(database), LockSession(database)
        first, second = Leadership(one, "executions"), Leadership(two, "executions")
        assert await first.try_acquire()
        assert not await second.try_acquire()
        assert first.held
        assert not second.held
        await one.close()
        await two.close()

    asyncio.run(scenario())


def test_one_session_leads_many_names_and_repeating_changes_nothing(database: str) -> None:
    async def scenario() -> None:
        one, two = LockSession(database), LockSession(database)
        leaders = [Leadership(one, f"projection {number}") for number in range(20)]
        assert all(await asyncio.gather(*(leader.try_acquire() for leader in leaders)))
        assert await leaders[0].try_acquire()
        # A name taken once is free after one release, however often it was asked for.
        await leaders[0].release()
        assert await Leadership(two, "projection 0").try_acquire()
        assert not await Leadership(two, "projection 1").try_acquire()
        await one.close()
        await two.close()

    asyncio.run(scenario())


def test_a_leader_whose_session_ends_stops_leading_and_another_takes_over(database: str) -> None:
    async def scenario() -> None:
        one, two = LockSession(database), LockSession(database)
        first, second = Leadership(one, "sealer"), Leadership(two, "sealer")
        assert await first.try_acquire()
        assert one.connection is not None
        victim = one.connection.get_server_pid()
        admin = await asyncpg.connect(database)
        await admin.execute("select pg_terminate_backend($1, 5000)", victim)
        await admin.close()
        assert not await first.confirm()
        assert not first.held
        assert await second.try_acquire()
        # The loser gets a new session, not its old lead.
        assert not await first.try_acquire()
        await second.release()
        assert await first.try_acquire()
        await one.close()
        await two.close()

    asyncio.run(scenario())


def test_closing_a_session_frees_its_names(database: str) -> None:
    async def scenario() -> None:
        one, two = LockSession(database), LockSession(database)
        first, second = Leadership(one, "ticker"), Leadership(two, "ticker")
        assert await first.try_acquire()
        await one.close()
        assert not first.held
        assert await second.try_acquire()
        await first.release()
        assert second.held
        await two.close()

    asyncio.run(scenario())


@given(st.text(), st.text())
def test_different_names_have_different_keys_that_postgres_takes(one: str, two: str) -> None:
    assert (lock_key(one) == lock_key(two)) == (one == two)
    assert -(2**63) <= lock_key(one) < 2**63
