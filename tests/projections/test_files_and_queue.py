"""Artifacts and the run queue: what is listed of files, and who is next."""

import asyncio
from typing import Any

import pytest
from lives import NOON, at, claimed, queued, stored, submitted, verified, waiting
from projected import projected, read_model

from projections import artifacts, run_queue
from rgrid.executions.events import ExecutionCancelled
from rgrid.postgres.paging import Window

FILES = "select execution_id, artifact_type, filename, size_bytes, content_type from artifacts order by filename"
CANCELLED = ExecutionCancelled(cancelled_by="key:k", finalized_cost_micros=0, completed_at=NOON)


def test_inputs_are_listed_when_verified_and_outputs_when_stored(database: str) -> None:
    given = [
        ("execution-e1", event) for event in (waiting("in.csv", "odd"), verified("in.csv", "odd"), stored("z.txt"))
    ]
    assert projected(database, artifacts.PROJECTION, given[:1], FILES) == []
    rows = [tuple(row.values()) for row in projected(database, artifacts.PROJECTION, given, FILES)]
    assert rows == [
        ("e1", "input", "in.csv", 1, "text/csv"),
        ("e1", "input", "odd", 1, "application/octet-stream"),
        ("e1", "output", "z.txt", 2, "text/plain"),
    ]


def test_an_input_has_the_same_id_however_often_the_read_model_is_built(database: str) -> None:
    given = [("execution-e1", waiting("a", "b")), ("execution-e1", verified("a", "b"))]
    ids = [
        projected(database, artifacts.PROJECTION, given, "select artifact_id from artifacts order by 1") for _ in "12"
    ]
    assert ids[0] == ids[1]
    assert len({row["artifact_id"] for row in ids[0]}) == 2


def test_files_can_be_found_by_id_by_content_and_by_execution(database: str) -> None:
    given = [("execution-e1", stored("a.txt", "b.txt")), ("execution-e2", verified("c"))]
    window = Window(keys=artifacts.KEYS)

    async def run() -> None:
        async with read_model(database, artifacts.PROJECTION, given) as connection:
            assert (await artifacts.page(connection, "e1", None, window)).total == 2
            assert (await artifacts.page(connection, "e1", "input", window)).total == 0
            assert (await artifacts.page(connection, "nobody", None, window)).total == 0
            found = await artifacts.by_object(connection, "cd" * 32)
            assert found is not None
            assert found.execution_id == "e2"
            assert await artifacts.get(connection, found.artifact_id) == found
            assert await artifacts.by_object(connection, "00" * 32) is None

    asyncio.run(run())


@pytest.mark.parametrize(
    ("after", "waits"),
    [([], True), ([claimed()], False), ([CANCELLED], False), ([claimed(), queued(5, 2)], True),
     ([claimed(), queued(5, 2), claimed(6, 2)], False)],
)  # fmt: skip
def test_an_execution_waits_from_queued_to_claimed_or_cancelled(database: str, after: list[Any], waits: bool) -> None:
    given = [("execution-e1", event) for event in (submitted(), queued(), *after)]
    rows = projected(database, run_queue.PROJECTION, given, "select execution_id from run_queue")
    assert bool(rows) is waits


def in_queue(*lanes: str) -> list[tuple[str, Any]]:
    """e0, e1, … in the given lanes; an empty one stands for no batch."""
    return [(f"execution-e{n}", queued(n, batch_id=lane or None)) for n, lane in enumerate(lanes)]


def test_lanes_take_turns_in_the_places_that_are_told(database: str) -> None:
    async def run() -> None:
        async with read_model(database, run_queue.PROJECTION, in_queue("b", "b", "b", "", "c", "c")) as connection:
            places = [await run_queue.place(connection, f"e{n}") for n in range(6)]
            assert places == [1, 4, 6, 2, 3, 5]
            assert await run_queue.place(connection, "nobody") is None
            assert await run_queue.depth(connection) == 6

    asyncio.run(run())


def test_candidates_are_the_oldest_of_each_lane_that_fit(database: str) -> None:
    given = in_queue("b", "b", "b", "")
    given += [
        ("execution-big", queued(9, memory_mb=4096)),
        ("execution-wide", queued(9, cpu=8.0)),
        ("execution-node", queued(9, runtime="node:20")),
        ("execution-later", queued(9, not_before=at(10**9))),
    ]

    async def run() -> None:
        async with read_model(database, run_queue.PROJECTION, given) as connection:

            async def found(
                limit: int, memory_mb: int = 1024, cpu: float = 2.0, runtime: str = "python:3.11"
            ) -> list[str]:
                some = await run_queue.candidates(connection, limit, [runtime], memory_mb, cpu)
                return [one.execution_id for one in some]

            assert await found(1) == ["e0", "e3"]
            assert await found(2) == ["e0", "e1", "e3"]
            assert "big" in await found(9, memory_mb=4096)
            assert "wide" in await found(9, cpu=8.0)
            assert await found(9, runtime="node:20") == ["node"]
            assert "later" not in await found(9, memory_mb=10**6, cpu=99.0)
            assert await run_queue.next_due(connection) == at(10**9)

    asyncio.run(run())
