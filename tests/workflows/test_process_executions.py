"""EXECUTION steps: what a script hands on, why it fails, and an end that nobody was told of."""

import asyncio
from pathlib import Path
from typing import Any

from api.one_grid import cause
from workflows.running import Running, running, step

from rgrid.executions import logs
from rgrid.executions.commands import ClaimExecution, FinishAttempt
from rgrid.executions.events import StoredArtifact
from rgrid.executions.execution import DECIDER as EXECUTION
from rgrid.executions.logs import NewLine
from rgrid.kernel import clock
from rgrid.kernel.ids import new_id
from rgrid.postgres.pool import connect
from rgrid.workflows.document import RetryPolicy
from rgrid.workflows.process import NAME
from rgrid.workflows.run_state import Run

SCRIPT = {"script_content": "print(1)"}
CLAIM = ClaimExecution(
    worker_id="w", worker_hostname="h", runner_kind="local", sandbox_level="namespaces", rate_micros=0
)


async def begun(grid: Running, run_id: str, name: str = "work", attempt: int = 1) -> str:
    """The execution of a step that has begun."""

    def is_so(run: Run) -> bool:
        return run.steps[name].status == "RUNNING" and run.steps[name].attempt == attempt

    run = await grid.until(run_id, is_so)
    return run.steps[name].begun[-1].execution_id or ""


async def worked(grid: Running, execution_id: str, *lines: str, **end: Any) -> None:
    """What a worker does with it: these lines are printed, then it ends so."""
    handler = grid.parts.grid.handler
    await handler.handle(EXECUTION, execution_id, CLAIM, cause())
    printed = [
        NewLine(
            execution_id=execution_id, attempt=1, fencing_token=1, sequence_number=number, stream="stdout",
            logged_at=clock.now(), message=line,
        )
        for number, line in enumerate(lines)
    ]  # fmt: skip
    await logs.repair(grid.parts.grid.pool, printed)
    command = FinishAttempt(**{"fencing_token": 1, "end": "completed", "exit_code": 0, "duration_ms": 5, **end})
    await handler.handle(EXECUTION, execution_id, command, cause())


def test_a_script_hands_on_its_files_and_the_object_that_it_prints_last(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with running(database, tmp_path) as grid:
            takes = {"execution_id": "${steps.work.output.execution_id}", "filename": "made.csv"}
            await grid.define(
                "flow",
                step("work", "EXECUTION", params=SCRIPT),
                step("next", "EXECUTION", params={**SCRIPT, "inputs": {"in.csv": takes}}),
            )
            run_id = await grid.trigger("flow")
            made = StoredArtifact(
                artifact_id=new_id("art"), filename="made.csv", size_bytes=3, content_type="text/csv",
                sha256=await grid.parts.grid.objects.put_bytes(b"a;b"),
            )  # fmt: skip
            first = await begun(grid, run_id)
            await worked(grid, first, "some", '{"row_count": 7}', artifacts=[made])
            second = await begun(grid, run_id, "next")
            state, _ = await grid.parts.grid.handler.load(EXECUTION, second)
            assert [(file.name, file.sha256) for file in state.inputs] == [("in.csv", made.sha256)]
            assert state.spec is not None
            assert state.spec.name == "flow.next"
            assert state.spec.origin is not None
            assert (state.spec.origin.workflow_run_id, state.spec.origin.step) == (run_id, "next")
            await worked(grid, second, '{"not": "the last"}', "no object")
            done = await grid.ended(run_id)
            assert done.status == "COMPLETED"
            assert done.steps["work"].row_count == 7
            assert done.steps["work"].outputs == {
                "execution_id": first,
                "exit_code": 0,
                "artifacts": [{"artifact_id": made.artifact_id, "filename": "made.csv", "size_bytes": 3}],
                "stdout_json": {"row_count": 7},
            }
            assert (done.steps["next"].outputs or {})["stdout_json"] is None

    asyncio.run(run())


def test_a_script_that_fails_is_tried_again_when_the_step_says_so(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with running(database, tmp_path) as grid:
            again = RetryPolicy(max_attempts=3, initial_seconds=0.01)
            await grid.define("flow", step("work", "EXECUTION", params=SCRIPT, retry=again))
            run_id = await grid.trigger("flow")
            failed = {"end": "failed", "exit_code": 1, "failure_reason": "exit_code", "error": "It ended with 1."}
            await worked(grid, await begun(grid, run_id), **failed)
            second = await begun(grid, run_id, attempt=2)
            await worked(grid, second, '{"error_category": "PARSE"}', **failed)
            done = await grid.ended(run_id)
            assert (done.status, done.steps["work"].attempt, done.steps["work"].category) == ("FAILED", 2, "PARSE")
            assert "It ended with 1." in (done.steps["work"].error or "")

    asyncio.run(run())


def test_a_template_that_makes_no_sense_fails_the_step(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with running(database, tmp_path) as grid:
            await grid.define("flow", step("work", "EXECUTION", params={**SCRIPT, "cpu": "${params.cpu}"}))
            done = await grid.ran("flow", {"cpu": 99})
            assert (done.status, done.steps["work"].category) == ("FAILED", "CONFIGURATION")
            assert "cpu" in (done.steps["work"].error or "")

    asyncio.run(run())


def test_an_end_that_was_lost_on_the_way_is_found(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with running(database, tmp_path, ticks=False) as grid:
            await grid.define("flow", step("work", "EXECUTION", params=SCRIPT))
            run_id = await grid.trigger("flow")
            execution_id = await begun(grid, run_id)
        # As if the event of the end had been parked as a dead letter, and given up.
        connection = await connect(database)
        skip = "update rgrid.checkpoints set position = position + 1000 where subscriber = $1"
        assert await connection.execute(skip, NAME) == "UPDATE 1"
        await connection.close()
        async with running(database, tmp_path, ticks=False) as grid:
            await worked(grid, execution_id)
            await asyncio.sleep(0.3)
            assert (await grid.state(run_id)).status == "RUNNING"
            async with running(database, tmp_path) as other:
                assert (await other.ended(run_id)).status == "COMPLETED"

    asyncio.run(run())
