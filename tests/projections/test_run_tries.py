"""What is known of earlier tries, and which executions belong to a run."""

import asyncio
from collections.abc import Sequence

from projected import read_model
from run_lives import completed, failed, started, triggered

from projections import run_tries
from projections.run_tries import PROJECTION, Lately
from rgrid.kernel.messages import Event
from rgrid.workflows.events import Parent

Log = Sequence[tuple[str, Event]]


def tries(run: str, name: str, took: float, execution_id: str | None = None) -> Log:
    return [
        (f"run-{run}", triggered(0, name)),
        (f"run-{run}", started("a", 1, execution_id=execution_id)),
        (f"run-{run}", completed("a", 1 + took)),
    ]


def lately(database: str, log: Log, *steps: str) -> dict[str, Lately]:
    async def found(page: int) -> dict[str, Lately]:
        async with read_model(database, PROJECTION, log, page=page) as connection:
            return await run_tries.lately(connection, "refresh", steps)

    apart, together = asyncio.run(found(1)), asyncio.run(found(1_000))
    assert apart == together
    return together


def test_durations_of_a_step_are_those_of_its_workflow_in_ascending_order(database: str) -> None:
    log = [*tries("r1", "refresh", 7, "e1"), *tries("r2", "refresh", 2), *tries("r3", "load", 1, "e3")]
    assert lately(database, log, "a", "b") == {"a": Lately(step="a", durations_ms=[2000, 7000], execution_ids=["e1"])}


def test_tries_that_failed_say_nothing_of_how_long_it_takes(database: str) -> None:
    log = [
        ("run-r1", triggered()),
        ("run-r1", started("a", 1)),
        ("run-r1", failed("a", 2, again=3)),
        ("run-r1", started("a", 3, 2)),
        ("run-r1", completed("a", 7, 2)),
    ]
    assert lately(database, log, "a")["a"].durations_ms == [4000]


def test_executions_of_a_run_include_those_of_the_runs_below_it(database: str) -> None:
    log = [
        ("run-r1", triggered()),
        ("run-r1", started("a", 1, execution_id="e1")),
        ("run-r2", triggered(parent=Parent(run_id="r1", step="b", attempt=1))),
        ("run-r3", triggered(parent=Parent(run_id="r2", step="b", attempt=1))),
        ("run-r3", started("a", 2, execution_id="e3")),
        ("run-r9", triggered()),
        ("run-r9", started("a", 2, execution_id="e9")),
        ("run-r1", started("c", 3, execution_id="e2")),
        ("run-r1", started("b", 3)),
    ]

    async def found(run_id: str) -> list[tuple[str, str, str]]:
        async with read_model(database, PROJECTION, log) as connection:
            listed = await run_tries.executions(connection, run_id)
        return [(one.execution_id, one.run_id, one.step) for one in listed]

    assert asyncio.run(found("r1")) == [("e1", "r1", "a"), ("e3", "r3", "a"), ("e2", "r1", "c")]
    assert asyncio.run(found("r2")) == [("e3", "r3", "a")]
    assert asyncio.run(found("none")) == []


def test_what_child_runs_started_is_known_by_the_try_that_started_them(database: str) -> None:
    log: list[tuple[str, Event]] = []
    for run, items in (("r1", 2), ("r2", 1)):
        log += [(f"run-{run}", triggered()), (f"run-{run}", started("m", 1, items_total=items))]
        for item in range(items):
            child = f"{run}c{item}"
            log.append(
                (f"run-{child}", triggered(name="load", parent=Parent(run_id=run, step="m", attempt=1, index=item)))
            )
            log.append((f"run-{child}", started("a", 2, execution_id=f"{run}e{item}")))
        log.append((f"run-{run}", completed("m", 9)))
    log += [("run-deep", triggered(name="x", parent=Parent(run_id="r2c0", step="a", attempt=1)))]
    log += [("run-deep", started("a", 3, execution_id="deep"))]

    async def found(*steps: str) -> list[tuple[str, set[str]]]:
        async with read_model(database, PROJECTION, log) as connection:
            known = await run_tries.below(connection, "refresh", steps)
        assert known is not None
        return [(one.step, set(one.execution_ids)) for one in known]

    assert sorted(asyncio.run(found("m", "a")), key=repr) == sorted(
        [("m", {"r1e0", "r1e1"}), ("m", {"r2e0", "deep"})], key=repr
    )
    assert asyncio.run(found("a")) == []
