"""A MAP starts a child run for each item, no more at a time than it may, and hands on what came of all of them."""

import asyncio
from pathlib import Path
from typing import Any

from workflows.running import how, running, step

from rgrid.workflows.document import Parameter
from rgrid.workflows.handlers import StepError


async def half(n: int) -> dict[str, float]:
    if n < 0:
        raise StepError(f"{n} is too little", "VALIDATION")
    return {"half": n / 2}


CHILD = step("half", target_name="half", params={"n": "${params.item.n}"})
MAP = {"target_name": "halve", "items": "params.numbers"}


def test_a_map_hands_on_the_results_in_the_order_of_the_items(database: str, tmp_path: Path) -> None:
    together = most = 0
    three_met = asyncio.Event()

    async def meet(n: int) -> dict[str, int]:
        nonlocal together, most
        together += 1
        most = max(most, together)
        if together == 3:
            three_met.set()
        await asyncio.wait_for(three_met.wait(), 30)
        # The later an item, the sooner it ends.
        await asyncio.sleep(0.05 - n / 250)
        together -= 1
        return {"n": n}

    async def run() -> None:
        async with running(database, tmp_path, {"meet": meet}) as grid:
            await grid.define("one", step("meet", target_name="meet", params={"n": "${params.index}"}))
            await grid.define("all", step("each", "MAP", target_name="one", items="params.all", max_concurrency=3))
            done = await grid.ran("all", {"all": list("abcdefghij")})
            output: dict[str, Any] = dict(done.steps["each"].outputs or {})
            assert done.status == "COMPLETED"
            assert output == {"results": [{"meet": {"n": index}} for index in range(10)], "failed": []}
            assert most == 3
            children = [await grid.state(item.child_run_id) for item in done.steps["each"].items]
            assert [child.asked.params for child in children] == [
                {"item": letter, "index": index} for index, letter in enumerate("abcdefghij")
            ]

    asyncio.run(run())


def test_a_failed_child_fails_the_map_after_all_have_ended(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with running(database, tmp_path, {"half": half}) as grid:
            numbers = {"numbers": [{"n": 2}, {"n": -1}, {"n": 4}]}
            await grid.define("halve", CHILD)
            await grid.define("strict", step("each", "MAP", max_concurrency=2, **MAP))
            await grid.define("lenient", step("each", "MAP", max_concurrency=2, on_error="CONTINUE", **MAP))
            strict = await grid.ran("strict", numbers)
            assert (strict.status, strict.steps["each"].category) == ("FAILED", "VALIDATION")
            assert [item.status for item in strict.steps["each"].items] == ["COMPLETED", "FAILED", "COMPLETED"]
            lenient = await grid.ran("lenient", numbers)
            assert lenient.status == "COMPLETED"
            output = dict(lenient.steps["each"].outputs or {})
            assert output["results"] == [{"half": {"half": 1.0}}, None, {"half": {"half": 2.0}}]
            assert [one["index"] for one in output["failed"]] == [1]

    asyncio.run(run())


def test_no_items_are_fine_and_no_list_is_not(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with running(database, tmp_path, {"half": half}) as grid:
            await grid.define("halve", CHILD)
            await grid.define("map", step("each", "MAP", **MAP))
            none = await grid.ran("map", {"numbers": []})
            assert (none.status, none.steps["each"].outputs) == ("COMPLETED", {"results": [], "failed": []})
            assert (await grid.ran("map", {"numbers": "all"})).steps["each"].category == "CONFIGURATION"
            many = await grid.ran("map", {"numbers": [0] * 10_001})
            assert (many.status, many.steps["each"].category) == ("FAILED", "RESOURCE")

    asyncio.run(run())


def test_items_are_parameters_of_the_child_whether_it_declares_them_or_not(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with running(database, tmp_path, {"half": half}) as grid:
            own = step("half", target_name="half", params={"n": "${params.n}"})
            await grid.define("halve", own, parameters=[Parameter(name="n", type="integer", required=True)])
            params = {"n": "${number.n + index}"}
            await grid.define("map", step("each", "MAP", item_name="number", params=params, **MAP))
            done = await grid.ran("map", {"numbers": [{"n": 2}, {"n": 3}]})
            assert done.status == "COMPLETED", done.steps
            assert (done.steps["each"].outputs or {})["results"] == [{"half": {"half": 1.0}}, {"half": {"half": 2.0}}]
            children = [await grid.state(item.child_run_id) for item in done.steps["each"].items]
            assert [child.asked.params for child in children] == [
                {"n": 2, "number": {"n": 2}, "index": 0},
                {"n": 4, "number": {"n": 3}, "index": 1},
            ]

    asyncio.run(run())


def test_an_item_that_can_not_begin_fails_the_map(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with running(database, tmp_path, {"half": half}) as grid:
            await grid.define("map", step("each", "MAP", **MAP))
            done = await grid.ran("map", {"numbers": [1]})
            assert (done.status, how(done)) == ("FAILED", {"each": "FAILED"})
            assert done.steps["each"].category == "NOT_FOUND"

    asyncio.run(run())
