"""Appending: versions, order, riders, one guilty command among many, lost connections, bounds."""

import asyncio

import asyncpg
import pytest
from eventstore.log import COUNTER, Count, Counted, cause, opened

from rgrid.eventstore import writer as writer_module
from rgrid.eventstore.append import Append, NewEvent, Rider
from rgrid.eventstore.handle import _Asked
from rgrid.kernel.clock import now
from rgrid.kernel.errors import Conflict, Rejected, StaleVersion, Unavailable

CUTS_WANTED = 4


def test_positions_are_dense_and_in_commit_order(database: str) -> None:
    async def run() -> None:
        async with opened(database) as log:
            await asyncio.gather(*(log.count(f"c{n % 7}") for n in range(200)))
            recorded = await log.store.read_log(0)
            assert [one.position for one in recorded] == list(range(1, 201))
            assert sorted(one.recorded_at for one in recorded) == [one.recorded_at for one in recorded]
            assert await log.store.head() == 200
            assert log.writer.batches < 200, "commands in flight share commits"

    asyncio.run(run())


def test_commands_of_one_stream_at_the_same_time_all_count(database: str) -> None:
    async def run() -> None:
        async with opened(database) as log:
            await asyncio.gather(*(log.count("one") for _ in range(100)))
            versions = [one.version for one in await log.store.read_stream("counter-one")]
            assert versions == list(range(1, 101))

    asyncio.run(run())


def test_two_writers_never_lose_or_double_a_command(database: str) -> None:
    async def run() -> None:
        async with opened(database) as here, opened(database) as there:
            await asyncio.gather(*(log.count("shared") for _ in range(60) for log in (here, there)))
            state, version = await here.handler.load(COUNTER, "shared")
            assert (state, version) == (120, 120)

    asyncio.run(run())


def test_a_command_that_rivals_keep_beating_is_decided_under_the_lock(database: str) -> None:
    async def run() -> None:
        async with opened(database) as here, opened(database) as there:
            await here.count("x", by=5)
            await there.count("x", by=5)
            under_lock = here.handler._under_lock
            asked = _Asked(COUNTER, "counter-x", Count(by=1), cause(), None, None, now)
            handled = await under_lock(asked)
            assert (handled.state, handled.version) == (11, 3)
            refused = _Asked(COUNTER, "counter-x", Count(by=1, to_max=11), cause(), None, None, now)
            with pytest.raises(Rejected):
                await under_lock(refused)
            nothing = await under_lock(_Asked(COUNTER, "counter-x", Count(by=0), cause(), None, None, now))
            assert (nothing.events, nothing.version) == ((), 3)
            assert await there.count("x") == 12, "the writer goes on after a refusal"

    asyncio.run(run())


def test_a_taken_version_is_a_conflict_and_writes_nothing(database: str) -> None:
    async def run() -> None:
        async with opened(database) as log:
            await log.count("x")
            two = [NewEvent("counter-y", 1, Counted(by=1)), NewEvent("counter-x", 1, Counted(by=1))]
            with pytest.raises(Conflict):
                await log.writer.append(Append(two, cause()))
            assert await log.store.read_stream("counter-y") == []

    asyncio.run(run())


def test_a_refusal_on_a_kept_state_is_decided_again_on_the_log(database: str) -> None:
    async def run() -> None:
        async with opened(database) as here, opened(database) as there:
            await here.count("x", by=5)
            await there.count("x", by=-5)
            assert await here.count("x", by=5, to_max=5) == 5, "the kept state said 10"
            with pytest.raises(Rejected):
                await here.count("x", by=1, to_max=5)

    asyncio.run(run())


def test_an_expected_version_that_is_not_the_present_one_is_refused(database: str) -> None:
    async def run() -> None:
        async with opened(database) as log:
            await log.count("x")
            handle = log.handler.handle
            with pytest.raises(StaleVersion):
                await handle(COUNTER, "x", Count(by=1), cause(), expected_version=7)
            handled = await handle(COUNTER, "x", Count(by=1), cause(), expected_version=1)
            assert handled.version == 2

    asyncio.run(run())


def test_a_rider_commits_with_its_events_and_a_failing_one_takes_only_its_own_down(database: str) -> None:
    async def run() -> None:
        async with opened(database) as log:
            await log.pool.execute("create table rgrid.ridden (name text constraint ridden_once primary key, at int)")

            def append(name: str, key: str) -> Append:
                rider = Rider("insert into rgrid.ridden values ($1, $2)", (key,))
                return Append([NewEvent(f"counter-{name}", 1, Counted(by=1))], cause(), [rider])

            tries = [log.writer.append(append(f"s{n}", "same" if n < 2 else f"k{n}")) for n in range(10)]
            results = await asyncio.gather(*tries, return_exceptions=True)
            refused = [result for result in results if isinstance(result, Exception)]
            assert [type(error) for error in refused] == [Conflict]
            assert refused[0].code == "ridden_once"
            rows = {row["name"]: row["at"] for row in await log.pool.fetch("select * from rgrid.ridden")}
            recorded = await log.store.read_log(0)
            assert len(rows) == len(recorded) == 9
            assert set(rows.values()) == {one.position for one in recorded}

    asyncio.run(run())


def test_an_argument_of_the_wrong_type_fails_its_own_append_at_once(database: str) -> None:
    async def run() -> None:
        async with opened(database) as log:
            rider = Rider("select $1::int", ("no number",), takes_position=False)
            wrong = Append([NewEvent("counter-a", 1, Counted(by=1))], cause(), [rider])
            results = await asyncio.gather(log.writer.append(wrong), log.count("b"), return_exceptions=True)
            assert isinstance(results[0], asyncpg.DataError)
            assert results[1] == 1
            assert len(log.connections) == 1, "a fault of the caller is no lost connection"

    asyncio.run(run())


def test_a_lost_connection_loses_and_doubles_nothing(database: str) -> None:
    async def run() -> None:
        async with opened(database) as log:
            stop = asyncio.Event()

            async def cut() -> None:
                while not stop.is_set():
                    await asyncio.sleep(0.02)
                    await log.pool.execute(
                        "select pg_terminate_backend(pid) from pg_stat_activity"
                        " where pid <> pg_backend_pid() and query like '%append_events%'"
                        " and datname = current_database()"
                    )

            cutting = asyncio.create_task(cut())
            done = 0
            while len(log.connections) < CUTS_WANTED and done < 20_000:
                done += len(await asyncio.gather(*(log.count(f"c{n % 20}") for n in range(100))))
            stop.set()
            await cutting
            assert len(log.connections) >= CUTS_WANTED, "the connection was hardly ever cut"
            recorded = await log.store.read_log(0)
            assert len(recorded) == done
            assert len({one.cause.command_id for one in recorded}) == done

    asyncio.run(run())


def test_a_full_queue_refuses_at_once(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "QUEUE_MAX", 5)

    async def run() -> None:
        async with opened(database) as log:
            results = await asyncio.gather(*(log.count(f"c{n}") for n in range(50)), return_exceptions=True)
            refused = [result for result in results if isinstance(result, Unavailable)]
            stored = len(await log.store.read_log(0))
            assert refused and stored == 50 - len(refused)
            assert {error.code for error in refused} == {"write_queue_full"}

    asyncio.run(run())


def test_a_command_after_the_stop_is_refused(database: str) -> None:
    async def run() -> None:
        async with opened(database) as log:
            await log.writer.stop()
            with pytest.raises(Unavailable):
                await log.count("x")

    asyncio.run(run())
