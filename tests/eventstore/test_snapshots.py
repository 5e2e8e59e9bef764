"""Snapshots: a load reads them and the rest, and nothing depends on them."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec
import pytest
from eventstore.log import COUNTER, Count, Counted, Log, cause, opened

from rgrid.eventstore import snapshots
from rgrid.eventstore.handle import Handler
from rgrid.kernel.clock import now
from rgrid.kernel.decider import Decider

EVERY = 10


class Total(msgspec.Struct, frozen=True):
    """What a counter comes to, in a form that may be kept."""

    stands_at: int = 0


class Reading:
    """Counts the events that were folded."""

    def __init__(self) -> None:
        self.folded = 0

    def decider(self, version: int | None = 1, state: Any = Total) -> Decider[Count, Any, Counted]:
        def decide(command: Count, _state: Any, _now: datetime) -> Sequence[Counted]:
            return [Counted(by=command.by)]

        def evolve(state: Any, event: Counted) -> Any:
            self.folded += 1
            return msgspec.structs.replace(state, stands_at=state.stands_at + event.by)

        return Decider("counter", state(), decide, evolve, snapshot_version=version)


def fresh(log: Log) -> Handler:
    """A process that remembers nothing."""
    return Handler(log.store, log.writer, now, snapshot_every=EVERY)


async def counted(log: Log, decider: Decider[Count, Any, Counted], times: int) -> None:
    handler = fresh(log)
    for _ in range(times):
        await handler.handle(decider, "a", Count(by=1), cause())


async def loaded(log: Log, decider: Decider[Count, Any, Counted]) -> tuple[int, int]:
    state, version = await fresh(log).load(decider, "a")
    return state.stands_at, version


async def kept(log: Log) -> list[int]:
    return [row["version"] for row in await log.pool.fetch("select version from rgrid.snapshots")]


def test_a_load_reads_the_snapshot_and_the_rest(database: str) -> None:
    async def scenario() -> None:
        async with opened(database) as log:
            await counted(log, Reading().decider(), 25)
            assert await kept(log) == [20]
            reading = Reading()
            assert await loaded(log, reading.decider()) == (25, 25)
            assert reading.folded == 5

    asyncio.run(scenario())


def test_a_stream_goes_on_from_its_snapshot(database: str) -> None:
    async def scenario() -> None:
        async with opened(database) as log:
            await counted(log, Reading().decider(), 20)
            await counted(log, Reading().decider(), 3)
            assert await loaded(log, Reading().decider(None)) == (23, 23)

    asyncio.run(scenario())


def test_only_deciders_that_ask_have_snapshots(database: str) -> None:
    async def scenario() -> None:
        async with opened(database) as log:
            await counted(log, Reading().decider(None), 25)
            handler = Handler(log.store, log.writer, now, snapshot_every=EVERY)
            await handler.load(COUNTER, "a")
            assert await kept(log) == []

    asyncio.run(scenario())


def test_a_load_of_a_long_stream_leaves_a_snapshot(database: str) -> None:
    async def scenario() -> None:
        async with opened(database) as log:
            await counted(log, Reading().decider(None), 25)
            assert await loaded(log, Reading().decider()) == (25, 25)
            assert await kept(log) == [25]

    asyncio.run(scenario())


class Other(msgspec.Struct, frozen=True):
    """The same count by another name: a later program's state."""

    stands_at: int = 0
    doubled: int = 0


def test_a_snapshot_of_another_version_or_form_is_passed_over_and_replaced(database: str) -> None:
    async def scenario() -> None:
        async with opened(database) as log:
            await counted(log, Reading().decider(), 25)
            for other in (Reading().decider(2), Reading().decider(2, Other)):
                before = await log.pool.fetchval("select shape from rgrid.snapshots")
                assert await loaded(log, other) == (25, 25)
                assert await log.pool.fetchval("select shape from rgrid.snapshots") != before

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "harm",
    [
        "delete from rgrid.snapshots",
        "update rgrid.snapshots set state = 'no JSON'",
        'update rgrid.snapshots set state = \'{"stands_at": "many"}\'',
        "update rgrid.snapshots set version = 1000",
    ],
)
def test_whatever_happens_to_snapshots_the_events_give_the_state(database: str, harm: str) -> None:
    async def scenario() -> None:
        async with opened(database) as log:
            await counted(log, Reading().decider(), 25)
            await log.pool.execute(harm)
            assert await loaded(log, Reading().decider()) == (25, 25)
            await counted(log, Reading().decider(), 10)
            assert await loaded(log, Reading().decider()) == (35, 35)

    asyncio.run(scenario())


def test_an_older_snapshot_never_takes_the_place_of_a_newer_one(database: str) -> None:
    async def scenario() -> None:
        async with opened(database) as log:
            decider = Reading().decider()
            await counted(log, decider, 25)
            await snapshots.Snapshots(log.store).take(decider, "counter-a", Total(3), 3)
            assert await kept(log) == [20]

    asyncio.run(scenario())


class Wordy(msgspec.Struct, frozen=True):
    """A state that grows beyond all bounds."""

    stands_at: int = 0
    words: str = "x" * snapshots.SIZE_BYTES_MAX


def test_a_state_that_is_too_large_is_not_kept(database: str) -> None:
    async def scenario() -> None:
        async with opened(database) as log:
            decider = Reading().decider(1, Wordy)
            await counted(log, replace(decider, initial=Wordy()), 10)
            assert await kept(log) == []

    asyncio.run(scenario())
