"""Reading: the library's own recorder sees what we wrote; old topics are lifted; the past stays what it was."""

import asyncio
from datetime import timedelta

import msgspec
import pytest
from eventstore.log import COUNTER, Counted, opened
from neighbours import needs

from rgrid.eventstore.codec import Codec, UnknownTopic
from rgrid.kernel.messages import Event


def test_the_eventsourcing_library_reads_our_log(database: str) -> None:
    needs("psycopg", "pip install 'rgrid[audit]'")
    from rgrid.eventstore.library import library_recorder

    async def write() -> None:
        async with opened(database) as log:
            for by in (1, 2, 3):
                await log.count("a", by=by)
            await log.count("b", by=9)

    asyncio.run(write())
    with library_recorder(database) as recorder:
        events = recorder.select_events("counter-a")
        assert [(one.originator_version, one.topic, msgspec.json.decode(one.state)) for one in events] == [
            (version, "counter.counted.v1", {"by": version}) for version in (1, 2, 3)
        ]
        notifications = recorder.select_notifications(start=1, limit=10)
        assert [(one.id, one.originator_id) for one in notifications][-1] == (4, "counter-b")
        assert recorder.max_notification_id() == 4


class CountedTwice(Event, frozen=True, kw_only=True):
    steps: list[int]


def test_an_old_topic_is_lifted_at_read_and_found_by_its_new_type() -> None:
    codec = Codec(
        {"counter.counted.v2": CountedTwice},
        {"counter.counted.v1": lambda old: ("counter.counted.v2", {"steps": [old.get("by", 0)]})},
    )
    assert codec.decode("counter.counted.v1", b'{"by": 4}') == CountedTwice(steps=[4])
    assert codec.topics_of(frozenset({CountedTwice})) == {"counter.counted.v1", "counter.counted.v2"}


def test_an_unknown_topic_says_its_name() -> None:
    with pytest.raises(UnknownTopic, match=r"nobody\.knows\.v1"):
        Codec({"counter.counted.v1": Counted}).decode("nobody.knows.v1", b"{}")


def test_the_log_can_be_read_as_of_a_position_and_a_moment(database: str) -> None:
    async def run() -> None:
        async with opened(database) as log:
            for _ in range(5):
                await log.count("a")
            recorded = await log.store.read_log(0)
            assert [one.version for one in await log.store.read_stream("counter-a", to_position=3)] == [1, 2, 3]
            assert await log.store.position_at(recorded[3].recorded_at) == 4
            assert await log.store.position_at(recorded[0].recorded_at - timedelta(seconds=1)) == 0
            assert COUNTER.fold(0, [one.event for one in recorded]) == 5

    asyncio.run(run())


def test_who_and_why_is_recorded_with_each_event(database: str) -> None:
    async def run() -> None:
        async with opened(database) as log:
            await log.count("a")
            (recorded,) = await log.store.read_log(0)
            assert (recorded.cause.actor, recorded.cause.request_id) == ("system", "r-1")
            assert recorded.entity_id == "a"

    asyncio.run(run())
