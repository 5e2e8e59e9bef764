"""What a run has begun is stopped with it: handlers, waits, child runs, executions; also when only its time is over."""

import asyncio
from pathlib import Path

from workflows.running import Running, how, running, step

from rgrid.executions.execution import DECIDER as EXECUTION
from rgrid.workflows.commands import CancelRun, PauseRun, ResumeRun
from rgrid.workflows.document import Policy
from rgrid.workflows.run_state import Run

CANCEL = CancelRun(requested_by="key:1", reason="enough")
PARALLEL = Policy(mode="PARALLEL", max_concurrency=8)
SCRIPT = {"script_content": "print(1)"}


class Sleepers:
    """Handlers that sleep, and what became of them."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.ended = 0

    async def sleep(self) -> None:
        self.begun += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.ended += 1

    async def ignore(self) -> None:
        """One that won't be cancelled."""
        for _ in range(3):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled += 1


async def running_step(grid: Running, run_id: str, name: str) -> Run:
    return await grid.until(run_id, lambda run: run.steps[name].status in ("RUNNING", "WAITING"))


def test_a_cancelled_run_stops_its_handlers_and_waits(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        sleepers = Sleepers()
        async with running(database, tmp_path, {"sleep": sleepers.sleep}) as grid:
            await grid.define(
                "long",
                step("work", target_name="sleep"),
                step("wait", "WAIT", duration_seconds=3600, depends_on=[]),
                step("after", target_name="sleep", depends_on=["work"]),
                policy=PARALLEL,
            )
            run_id = await grid.trigger("long")
            await running_step(grid, run_id, "work")
            await grid.until(run_id, lambda _run: sleepers.begun == 1)
            await grid.tell(run_id, CANCEL)
            done = await grid.ended(run_id)
            assert done.status == "CANCELLED"
            assert how(done) == {"work": "CANCELLED", "wait": "CANCELLED", "after": "cancelled"}
            assert (sleepers.begun, sleepers.cancelled, sleepers.ended) == (1, 1, 0)
            assert await grid.parts.grid.pool.fetchval("select count(*) from rgrid.handler_leases") == 0

    asyncio.run(run())


def test_a_handler_that_will_not_end_is_not_waited_for_when_forced(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        sleepers = Sleepers()
        async with running(database, tmp_path, {"ignore": sleepers.ignore}) as grid:
            await grid.define("long", step("work", target_name="ignore"))
            run_id = await grid.trigger("long")
            await running_step(grid, run_id, "work")
            await grid.tell(run_id, CANCEL)
            assert (await grid.state(run_id)).status == "CANCELLING"
            await grid.tell(run_id, CancelRun(requested_by="key:1", forced=True))
            assert (await grid.ended(run_id)).status == "CANCELLED"

    asyncio.run(run())


def test_a_cancelled_run_stops_its_children(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        sleepers = Sleepers()
        async with running(database, tmp_path, {"sleep": sleepers.sleep}) as grid:
            await grid.define("child", step("work", target_name="sleep"))
            call = step("call", "WORKFLOW", target_name="child")
            each = step("each", "MAP", target_name="child", items="[1, 2, 3]", max_concurrency=2)
            await grid.define("parent", call, each, policy=PARALLEL)
            run_id = await grid.trigger("parent")
            await grid.until(run_id, lambda _run: sleepers.begun == 3)
            await grid.tell(run_id, CANCEL)
            done = await grid.ended(run_id)
            assert (done.status, how(done)) == ("CANCELLED", {"call": "CANCELLED", "each": "CANCELLED"})
            assert sleepers.cancelled == 3
            children = [
                done.steps["call"].begun[0].child_run_id,
                *(one.child_run_id for one in done.steps["each"].items),
            ]
            assert [(await grid.state(child or "")).status for child in children] == ["CANCELLED"] * 3

    asyncio.run(run())


def test_a_cancelled_run_stops_its_executions(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with running(database, tmp_path) as grid:
            await grid.define("script", step("work", "EXECUTION", params=SCRIPT))
            run_id = await grid.trigger("script")
            begun = (await running_step(grid, run_id, "work")).steps["work"].begun[0]
            await grid.tell(run_id, CANCEL)
            assert (await grid.ended(run_id)).status == "CANCELLED"
            execution, _ = await grid.parts.grid.handler.load(EXECUTION, begun.execution_id or "")
            assert execution.status == "cancelled"

    asyncio.run(run())


def test_a_step_that_takes_too_long_fails_and_stops_what_it_began(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        sleepers = Sleepers()
        async with running(database, tmp_path, {"sleep": sleepers.sleep}) as grid:
            await grid.define("child", step("work", target_name="sleep"))
            await grid.define(
                "parent",
                step("call", "WORKFLOW", target_name="child", timeout_seconds=1),
                step("script", "EXECUTION", params=SCRIPT, timeout_seconds=1),
                step("work", target_name="sleep", timeout_seconds=1),
                policy=Policy(mode="PARALLEL", on_failure="CONTINUE"),
            )
            done = await grid.ran("parent")
            assert done.status == "FAILED"
            assert [one.category for one in done.steps.values()] == ["TIMEOUT"] * 3
            child_id = done.steps["call"].begun[0].child_run_id or ""
            assert (await grid.ended(child_id)).status == "CANCELLED"
            execution_id = done.steps["script"].begun[0].execution_id or ""

            async def status() -> str:
                return (await grid.parts.grid.handler.load(EXECUTION, execution_id))[0].status

            for _ in range(500):
                if await status() == "cancelled":
                    break
                await asyncio.sleep(0.01)
            assert await status() == "cancelled"
            assert (sleepers.begun, sleepers.cancelled) == (2, 2)

    asyncio.run(run())


def test_a_run_that_takes_too_long_fails_and_stops_what_it_began(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        sleepers = Sleepers()
        async with running(database, tmp_path, {"sleep": sleepers.sleep}) as grid:
            await grid.define("long", step("work", target_name="sleep"), policy=Policy(timeout_seconds=1))
            done = await grid.ran("long")
            assert (done.status, done.steps["work"].category) == ("FAILED", "TIMEOUT")
            assert done.end is not None
            assert done.end.error_category == "TIMEOUT"
            assert sleepers.cancelled == 1

    asyncio.run(run())


def test_nothing_starts_while_a_run_is_paused(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        gate = asyncio.Event()

        async def wait() -> None:
            await gate.wait()

        async with running(database, tmp_path, {"wait": wait}) as grid:
            await grid.define("two", step("a", target_name="wait"), step("b", target_name="wait"))
            run_id = await grid.trigger("two")
            await running_step(grid, run_id, "a")
            await grid.tell(run_id, PauseRun(paused_by="key:1"))
            gate.set()
            await grid.until(run_id, lambda run: run.steps["a"].status == "COMPLETED")
            await asyncio.sleep(0.2)
            assert (await grid.state(run_id)).steps["b"].status == "PENDING"
            await grid.tell(run_id, ResumeRun(resumed_by="key:1"))
            assert (await grid.ended(run_id)).status == "COMPLETED"

    asyncio.run(run())
