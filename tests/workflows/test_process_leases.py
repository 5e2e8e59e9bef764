"""Two processes on one log: handlers are run by one of them, and by the other when that one falls silent."""

import asyncio
from pathlib import Path
from typing import Any

from workflows.running import Running, running, step

from rgrid.workflows.events import StepCompleted

SILENT = "update rgrid.handler_holders set expires_at = clock_timestamp() - interval '1 s' where holder = $1"


async def call_begun(grid: Running, run_id: str) -> None:
    await grid.until(run_id, lambda run: run.steps["call"].status == "RUNNING")


async def accepted(grid: Running, run_id: str) -> list[dict[str, Any]]:
    return [one.event.outputs for one in await grid.events(run_id) if type(one.event) is StepCompleted]


def test_what_a_silent_process_ran_is_run_by_another_and_its_own_result_comes_too_late(
    database: str, tmp_path: Path
) -> None:
    async def run() -> None:
        gate = asyncio.Event()
        late = asyncio.Event()

        async def slow(of: int) -> dict[str, str]:
            await gate.wait()
            late.set()
            return {"by": "the first"}

        async def quick(of: int) -> dict[str, str]:
            return {"by": "the second"}

        async with running(database, tmp_path, {"work": slow}, ticks=False) as first:
            await first.define("flow", step("call", target_name="work", params={"of": "${params.n + 1}"}))
            run_id = await first.trigger("flow", {"n": 1})
            await call_begun(first, run_id)
            async with running(database, tmp_path, {"work": quick}) as second:
                await asyncio.sleep(0.3)
                assert await accepted(second, run_id) == [], "a process that lives was taken for silent"
                await second.parts.grid.pool.execute(SILENT, first.parts.driver.work.holder)
                assert (await second.ended(run_id)).status == "COMPLETED"
            gate.set()
            await late.wait()
            await first.parts.driver.work.look()
            assert await accepted(first, run_id) == [{"by": "the second"}]
            assert await first.parts.grid.pool.fetchval("select count(*) from rgrid.handler_leases") == 0

    asyncio.run(run())


def test_a_process_that_stops_leaves_its_handlers_to_others_at_once(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async def never() -> None:
            await asyncio.sleep(3600)

        async def at_once() -> dict[str, int]:
            return {"done": 1}

        async with running(database, tmp_path, {"work": never}) as first:
            await first.define("flow", step("call", target_name="work"))
            run_id = await first.trigger("flow")
            await call_begun(first, run_id)
        async with running(database, tmp_path, {"work": at_once}) as second:
            assert (await second.ended(run_id)).status == "COMPLETED"
            assert await accepted(second, run_id) == [{"done": 1}]

    asyncio.run(run())


def test_whoever_drives_a_run_its_steps_begin_once(database: str, tmp_path: Path) -> None:
    """Both processes tick, and either may be told of an end."""
    calls = 0

    async def count(n: int) -> dict[str, int]:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.01)
        return {"n": n}

    async def run() -> None:
        async with running(database, tmp_path, {"count": count}) as first:
            await first.define("flow", *(step(f"s{n}", target_name="count", params={"n": n}) for n in range(5)))
            async with running(database, tmp_path, {"count": count}) as second:
                some = await asyncio.gather(*(grid.trigger("flow") for grid in (first, second) * 10))
                for run_id in some:
                    assert (await second.ended(run_id)).status == "COMPLETED"
        assert calls == 100

    asyncio.run(run())
