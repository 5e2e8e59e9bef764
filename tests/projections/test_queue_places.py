"""Who is next: lanes in turn, priority within a lane, whoever has waited too long."""

import asyncio
from collections import defaultdict
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import given as for_all
from hypothesis import strategies as st
from lives import NOON, claimed, queued
from projected import projected, read_model

from projections import run_queue
from rgrid.executions.batch_events import BatchCancelRequested, BatchCreated
from rgrid.executions.events import ExecutionFailed

LANES = st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), st.integers(-10, 10)), min_size=1, max_size=30)
GAVE_UP = ExecutionFailed(failure_reason="runtime_unavailable", finalized_cost_micros=0, completed_at=NOON)


def in_queue(waiting: list[tuple[str, int]]) -> list[tuple[str, Any]]:
    """e0, e1, … in these lanes with these priorities."""
    return [
        (f"execution-e{n}", queued(n, batch_id=lane or None, priority=priority))
        for n, (lane, priority) in enumerate(waiting)
    ]


def served(waiting: list[tuple[str, int]]) -> list[int]:
    """In which order one slot takes them: each round the first of every lane, in the order of those firsts."""
    lanes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for number, (lane, priority) in enumerate(waiting):
        lanes[lane].append((-priority, number))
    order = [(turn, *one) for lane in lanes.values() for turn, one in enumerate(sorted(lane))]
    return [number for _, _, number in sorted(order)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@for_all(LANES)
def test_the_place_that_is_told_is_the_turn_in_which_lanes_are_served(
    database: str, waiting: list[tuple[str, int]]
) -> None:
    async def run() -> None:
        async with read_model(database, run_queue.PROJECTION, in_queue(waiting)) as connection:
            places = [await run_queue.place(connection, f"e{number}") for number in served(waiting)]
            assert places == list(range(1, len(waiting) + 1))

    asyncio.run(run())


def test_lanes_that_have_no_turn_now_are_not_ahead(database: str) -> None:
    created = [
        (f"batch-{lane}", BatchCreated(total=9, max_parallel=1, created_by="key:1", created_at=NOON)) for lane in "abc"
    ]
    waiting = in_queue([(lane, 0) for lane in "aaabbbccc"] + [("", 0), ("", 0)])
    stopped = ("batch-b", BatchCancelRequested(requested_by="key:1", requested_at=NOON))

    async def places(*more: Any) -> list[int | None]:
        async with read_model(database, run_queue.PROJECTION, [*created, *waiting, *more]) as connection:
            return [await run_queue.place(connection, f"e{number}") for number in (9, 10, 1)]

    async def run() -> None:
        assert await places() == [4, 8, 5]
        # One of c runs, which is as many as may; b is being stopped; of a and of the singles all count.
        full = ("execution-e6", claimed())
        assert await places(full) == [3, 6, 4]
        assert await places(full, stopped) == [2, 4, 3]
        over = ("execution-e6", GAVE_UP)
        assert await places(full, over, stopped) == [3, 6, 4]

    asyncio.run(run())


def test_a_higher_priority_is_the_first_candidate_of_its_lane(database: str) -> None:
    async def run() -> None:
        given = in_queue([("", 0), ("", 5), ("a", -1), ("a", 0)])
        async with read_model(database, run_queue.PROJECTION, given) as connection:
            found = await run_queue.candidates(connection, 1, ["python:3.11"], 1024, 2.0)
            assert [one.execution_id for one in found] == ["e1", "e3"]

    asyncio.run(run())


def test_what_gave_up_waiting_is_gone_and_what_should_is_found(database: str) -> None:
    given = [("execution-e1", queued(expires_at=NOON)), ("execution-e2", queued())]
    rows = projected(
        database, run_queue.PROJECTION, given, "select execution_id from run_queue where expires_at < now()"
    )
    assert rows == [{"execution_id": "e1"}]

    async def run() -> None:
        async with read_model(database, run_queue.PROJECTION, [*given, ("execution-e1", GAVE_UP)]) as connection:
            assert await run_queue.overdue(connection) == []
            assert await run_queue.depth(connection) == 1

    asyncio.run(run())
