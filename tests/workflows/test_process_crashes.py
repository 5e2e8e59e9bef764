"""Wherever a run is cut off, it comes to the same end: nothing that was recorded is done again, nothing is left out."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
from workflows.running import Running, how, running, step

from rgrid.postgres.pool import connect
from rgrid.workflows.document import Policy, RetryPolicy
from rgrid.workflows.events import MapItemEnded, StepCancelled, StepCompleted, StepFailed
from rgrid.workflows.handlers import HandlerContext, StepError
from rgrid.workflows.run_state import Run

EVENTS: Final = 36
STUCK_MAX_S: Final = 30.0

# Nothing is stored behind a position, as on a full disk; a sequence tells, because what it gives is never taken back.
FULL_BEHIND = """
    create sequence public.refused;
    create function public.refuse() returns trigger language plpgsql as $$
    begin
        perform nextval('public.refused');
        raise exception 'full' using errcode = 'disk_full';
    end
    $$;
    create trigger refuse before insert on rgrid.stored_events for each row
        when (new.notification_id > {position}) execute function public.refuse();
"""


async def shaky(context: HandlerContext, **_: Any) -> dict[str, int]:
    if context.attempt == 1:
        raise StepError("not at first", "TRANSIENT")
    return {"tries": context.attempt}


async def echo(**params: Any) -> dict[str, Any]:
    return params


FUNCTIONS = {"shaky": shaky, "echo": echo}


async def defined(grid: Running) -> None:
    await grid.define("child", step("twice", target_name="echo", params={"n": "${params.item * 2}"}))
    again = RetryPolicy(max_attempts=2, initial_seconds=0.05, jitter=0)
    await grid.define(
        "all",
        step("first", target_name="echo", params={"n": 3}),
        step("way", "CHOICE", condition="steps.first.output.n > 2", then_step="shaky", else_step="never"),
        step("shaky", target_name="shaky", retry=again),
        step("never", target_name="echo"),
        step("each", "MAP", target_name="child", items="[1, 2]", max_concurrency=2),
        step("wait", "WAIT", duration_seconds=1),
        step("call", "WORKFLOW", target_name="child", params={"item": "${steps.first.output.n}"}),
        step("last", target_name="echo", params={"sum": "${steps.each.output.results}"}),
        policy=Policy(mode="SEQUENTIAL"),
    )


def outcome(run: Run) -> dict[str, Any]:
    outputs = {name: one.outputs for name, one in run.steps.items()}
    return {"status": run.status, "steps": how(run), "outputs": outputs, "tries": run.steps["shaky"].attempt}


async def ends(grid: Running) -> Counter[tuple[Any, ...]]:
    """How often each try, and each item of a MAP, came to an end; over all runs."""
    counted: Counter[tuple[Any, ...]] = Counter()
    for recorded in await grid.parts.grid.store.read_log(0):
        event = recorded.event
        if isinstance(event, StepCompleted | StepFailed | StepCancelled):
            counted[recorded.stream_id, event.step, event.attempt] += 1
        elif isinstance(event, MapItemEnded):
            counted[recorded.stream_id, event.step, event.attempt, event.index] += 1
    return counted


async def cut_behind(dsn: str, position: int) -> None:
    connection = await connect(dsn)
    await connection.execute(FULL_BEHIND.format(position=position))
    await connection.close()


async def until_refused(pool: asyncpg.Pool) -> None:
    async with asyncio.timeout(STUCK_MAX_S):
        while not await pool.fetchval("select is_called from public.refused"):
            await asyncio.sleep(0.02)


async def ran_through(dsn: str, folder: Path) -> tuple[dict[str, Any], int, int]:
    """The outcome of a run that nothing disturbs, and the positions between which it lies in the log."""
    async with running(dsn, folder, FUNCTIONS) as grid:
        await defined(grid)
        before = await grid.parts.grid.store.head()
        done = await grid.ran("all")
        assert done.status == "COMPLETED", done
        return outcome(done), before, await grid.parts.grid.store.head()


async def cut_and_resumed(dsn: str, folder: Path, after: int) -> tuple[dict[str, Any], Counter[tuple[Any, ...]]]:
    """The outcome of a run that is cut off so many events after its start, and goes on in another process."""
    async with running(dsn, folder, FUNCTIONS) as grid:
        await defined(grid)
        run_id = await grid.trigger("all")
        begun = await grid.parts.grid.store.read_stream(f"run-{run_id}", limit=1)
        await cut_behind(dsn, begun[0].position + after)
        await until_refused(grid.parts.grid.pool)
    connection = await connect(dsn)
    await connection.execute("drop trigger refuse on rgrid.stored_events")
    await connection.close()
    async with running(dsn, folder, FUNCTIONS) as grid:
        done = await grid.ended(run_id)
        assert await grid.parts.grid.pool.fetchval("select count(*) from rgrid.handler_leases") == 0
        assert await grid.parts.grid.pool.fetchval("select count(*) from rgrid.dead_letters") == 0
        return outcome(done), await ends(grid)


def test_the_run_is_as_long_as_its_crashes_are_tried(database: str, tmp_path: Path) -> None:
    _, before, after = asyncio.run(ran_through(database, tmp_path))
    assert after - before == EVENTS


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Any]:
    return {
        "status": "COMPLETED",
        "steps": {
            name: "branch_not_taken" if name == "never" else "COMPLETED"
            for name in ("first", "way", "shaky", "never", "each", "wait", "call", "last")
        },
        "outputs": {
            "first": {"n": 3},
            "way": {"result": True, "taken": "shaky"},
            "shaky": {"tries": 2},
            "never": None,
            "each": {"results": [{"twice": {"n": 2}}, {"twice": {"n": 4}}], "failed": []},
            "wait": {},
            "call": {"twice": {"n": 6}},
            "last": {"sum": [{"twice": {"n": 2}}, {"twice": {"n": 4}}]},
        },
        "tries": 2,
    }


@pytest.mark.parametrize("after", range(EVENTS - 1))
def test_a_run_that_is_cut_off_ends_as_if_it_had_not_been(
    after: int, undisturbed: dict[str, Any], database: str, tmp_path: Path
) -> None:
    came_to, counted = asyncio.run(cut_and_resumed(database, tmp_path, after))
    assert came_to == undisturbed
    assert set(counted.values()) == {1}
