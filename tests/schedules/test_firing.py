"""Processes that let schedules fire side by side, each by a clock that may be set: one decision for each due time, and
one target for each run."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from api.one_grid import cause
from schedules.decision_checker import problems

from rgrid.api.schedule_targets import ScheduleTargets
from rgrid.assembly import Parts, assembled
from rgrid.executions.commands import CancelExecution
from rgrid.executions.execution import DECIDER as EXECUTION
from rgrid.kernel.ids import new_id
from rgrid.schedules.commands import CreateSchedule
from rgrid.schedules.events import DueFired, DueTimesMissed, Rules, ScheduleRunEnded, ScheduleRunStarted, Timing
from rgrid.schedules.schedule import DECIDER
from rgrid.settings import Settings
from rgrid.ticker import ScheduleChores

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


class Ticking:
    """One process with a clock of its own."""

    def __init__(self, parts: Parts, clock: "Clock") -> None:
        self.parts = parts
        self.clock = clock
        self.chores = ScheduleChores(parts.grid.pool, parts.firing, parts.grid.reached, clock)

    async def tick(self) -> None:
        await self.chores.fire()
        await self.chores.start_late()
        await self.chores.settled()

    async def seen(self) -> None:
        await self.parts.daemon.reached(await self.parts.grid.store.head())


class Clock:
    def __init__(self) -> None:
        self.moment = NOON

    def __call__(self) -> datetime:
        return self.moment


@asynccontextmanager
async def ticking(dsn: str, folder: Path) -> AsyncIterator[Ticking]:
    clock = Clock()
    async with assembled(Settings(data_dir=folder, encryption_key="00" * 32), dsn, clock=clock) as parts:
        parts.grid.runtimes.found_here(["python:3.11"])
        yield Ticking(parts, clock)


async def make(process: Ticking, template: dict[str, object] | None = None, **rules: object) -> str:
    targets, schedule_id = ScheduleTargets(lambda: process.parts.grid), new_id("sched")
    command = CreateSchedule(
        schedule_id=schedule_id,
        name=schedule_id,
        target=await targets.target("EXECUTION", "x", template or {"script_content": "print(1)"}),
        timing=Timing(interval_s=60),
        rules=Rules(**rules),  # type: ignore[arg-type]
        enabled=True,
        description=None,
        tags=[],
        created_by="key:k",
    )
    await process.parts.grid.handler.handle(DECIDER, schedule_id, command, cause(), new=True)
    return schedule_id


async def log_of(process: Ticking, schedule_id: str) -> list[object]:
    return [at.event for at in await process.parts.grid.store.read_stream(DECIDER.stream_id(schedule_id))]


@pytest.mark.parametrize("seed", [1, 2])
def test_two_processes_with_clocks_that_jump_decide_once(database: str, tmp_path: Path, seed: int) -> None:
    async def scenario() -> None:
        random = Random(seed)
        async with ticking(database, tmp_path) as one, ticking(database, tmp_path) as other:
            made = [
                await make(one, overlap_policy="ALLOW", misfire_policy="CATCH_UP", jitter_s=n * 20) for n in range(4)
            ]
            await one.seen()
            for _ in range(12):
                one.clock.moment += timedelta(seconds=random.choice([-90, 20, 61, 130]))
                other.clock.moment = one.clock.moment + timedelta(seconds=random.choice([-45, 0, 45]))
                await asyncio.gather(one.tick(), other.tick())
                await one.seen()
            for schedule_id in made:
                events = await log_of(one, schedule_id)
                assert problems(events) == []  # type: ignore[arg-type]
                begun = [event for event in events if isinstance(event, ScheduleRunStarted)]
                assert begun
                targets = await one.parts.grid.store.read_streams(
                    [EXECUTION.stream_id(event.target_id) for event in begun]
                )
                assert len(targets) == len(begun), "a run without its execution"

    asyncio.run(scenario())


def test_a_decision_and_the_beginning_of_its_target_are_one_append(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ticking(database, tmp_path) as process:
            schedule_id = await make(process)
            await process.seen()
            process.clock.moment += timedelta(seconds=60)
            await process.tick()
            fired, started = (await log_of(process, schedule_id))[1:]
            assert isinstance(fired, DueFired)
            assert isinstance(started, ScheduleRunStarted)
            stream = await process.parts.grid.store.read_stream(EXECUTION.stream_id(started.target_id))
            own = await process.parts.grid.store.read_stream(DECIDER.stream_id(schedule_id))
            assert stream[0].recorded_at == own[-1].recorded_at
            assert stream[0].event.origin.scheduled_at == fired.due_at
            await process.tick()
            assert len(await log_of(process, schedule_id)) == 3, "a second look changes nothing"

    asyncio.run(scenario())


def test_the_end_of_a_target_ends_the_run_also_when_nobody_heard_of_it(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ticking(database, tmp_path) as process:
            schedule_id = await make(process)
            await process.seen()
            process.clock.moment += timedelta(seconds=60)
            await process.tick()
            started = (await log_of(process, schedule_id))[-1]
            assert isinstance(started, ScheduleRunStarted)
            cancel = CancelExecution(requested_by="key:k", reason="enough")
            await process.parts.grid.handler.handle(EXECUTION, started.target_id, cancel, cause())
            await process.seen()
            process.clock.moment += timedelta(seconds=45)
            await process.chores.repair()
            await process.chores.settled()
            end = (await log_of(process, schedule_id))[-1]
            assert isinstance(end, ScheduleRunEnded)
            assert (end.status, end.error) == ("CANCELLED", "enough")

    asyncio.run(scenario())


def test_what_was_down_for_long_is_missed_but_for_the_last(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ticking(database, tmp_path) as process:
            schedule_id = await make(process)
            await process.seen()
            process.clock.moment += timedelta(minutes=10, seconds=5)
            await process.tick()
            missed, fired = (await log_of(process, schedule_id))[1:3]
            assert isinstance(missed, DueTimesMissed)
            assert isinstance(fired, DueFired)
            assert (len(missed.due_at), fired.due_at) == (9, NOON + timedelta(minutes=10))

    asyncio.run(scenario())


def test_a_target_that_is_refused_fails_its_run_and_no_other(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ticking(database, tmp_path) as process:
            missing = {"inputs": {"a": {"execution_id": "exec_gone", "filename": "a"}}, "script_content": "print(1)"}
            bad, good = await make(process, missing), await make(process)
            await process.seen()
            process.clock.moment += timedelta(seconds=60)
            await process.tick()
            state, _ = await process.parts.grid.handler.load(DECIDER, bad)
            for run_id in state.runs:
                await process.parts.firing.start(bad, run_id, 1)
            ends = [event for event in await log_of(process, bad) if isinstance(event, ScheduleRunEnded)]
            assert [(end.status, "exec_gone" in (end.error or "")) for end in ends] == [("FAILED", True)]
            assert isinstance((await log_of(process, good))[-1], ScheduleRunStarted)

    asyncio.run(scenario())
