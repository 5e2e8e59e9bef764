"""Runs go forward by themselves: every type of step on a real log, with handlers of the test's own."""

import asyncio
from pathlib import Path

from workflows.running import how, running, step


async def add(a: int, b: int = 1) -> dict[str, int]:
    return {"sum": a + b}


def test_a_chain_hands_its_outputs_on(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with running(database, tmp_path, {"math.add": add}) as grid:
            await grid.define(
                "chain",
                step("a", target_name="math.add", params={"a": "${params.n}"}),
                step("b", target_name="math.add", params={"a": "${steps.a.output.sum}", "b": 10}),
            )
            done = await grid.ran("chain", {"n": 1})
            assert (done.status, how(done)) == ("COMPLETED", {"a": "COMPLETED", "b": "COMPLETED"})
            assert done.steps["b"].outputs == {"sum": 12}

    asyncio.run(run())
