"""Runs go forward by themselves: every type of step on a real log, with handlers of the test's own."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from workflows.running import Functions, Running, how, kinds, running, step

from rgrid.workflows.commands import SendSignal
from rgrid.workflows.document import Parameter, Policy, RetryPolicy
from rgrid.workflows.events import AlertRequested, StepFailed, StepStarted
from rgrid.workflows.handlers import HandlerContext, StepError

PARALLEL = Policy(mode="PARALLEL", max_concurrency=3)


def on_grid(database: str, folder: Path, functions: Functions, main: Callable[[Running], Awaitable[None]]) -> None:
    async def run() -> None:
        async with running(database, folder, functions) as grid:
            await main(grid)

    asyncio.run(run())


async def add(a: int, b: int = 1) -> dict[str, int]:
    return {"sum": a + b}


async def echo(**params: Any) -> dict[str, Any]:
    return params


async def fail() -> None:
    raise StepError("not today", "TRANSFORM")


def test_a_chain_hands_its_outputs_on_in_one_append_for_each_step(database: str, tmp_path: Path) -> None:
    async def main(grid: Running) -> None:
        await grid.define(
            "chain",
            step("a", target_name="add", params={"a": "${params.n}"}),
            step("b", target_name="add", params={"a": "${steps.a.output.sum}", "b": 10}),
        )
        done = await grid.ran("chain", {"n": 1})
        assert (done.status, how(done)) == ("COMPLETED", {"a": "COMPLETED", "b": "COMPLETED"})
        assert done.steps["b"].outputs == {"sum": 12}
        events = await grid.events(done.asked.run_id)
        assert kinds(events) == [
            "RunTriggered", "StepStarted", "StepCompleted", "StepStarted", "StepCompleted", "RunEnded",
        ]  # fmt: skip
        _, _, a_completed, b_started, _, _ = events
        assert a_completed.cause.command_id == b_started.cause.command_id
        assert b_started.event.inputs == {"a": 2, "b": 10}
        assert {one.cause.correlation_id for one in events} == {events[0].cause.correlation_id}

    on_grid(database, tmp_path, {"add": add}, main)


def test_steps_side_by_side_are_no_more_than_the_policy_allows(database: str, tmp_path: Path) -> None:
    together = most = 0

    async def meet() -> None:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0.02)
        together -= 1

    async def main(grid: Running) -> None:
        names = [f"s{number}" for number in range(8)]
        last = step("last", target_name="meet", depends_on=names)
        await grid.define("wide", *(step(name, target_name="meet") for name in names), last, policy=PARALLEL)
        done = await grid.ran("wide")
        assert (done.status, most) == ("COMPLETED", 3)
        started = [one.event.step for one in await grid.events(done.asked.run_id) if type(one.event) is StepStarted]
        assert started[-1] == "last"

    on_grid(database, tmp_path, {"meet": meet}, main)


@pytest.mark.parametrize(("n", "taken"), [(1, "small"), (100, "big")])
def test_a_choice_runs_one_branch_and_then_the_join(n: int, taken: str, database: str, tmp_path: Path) -> None:
    async def main(grid: Running) -> None:
        await grid.define(
            "choose",
            step("first", target_name="echo", params={"n": "${params.n}"}),
            step("size", "CHOICE", condition="steps.first.output.n > 10", then_step="big", else_step="small"),
            step("big", target_name="echo"),
            step("small", target_name="echo"),
            step("join", target_name="echo", params={"way": "${steps.size.output.taken}"}),
        )
        done = await grid.ran("choose", {"n": n})
        other = "small" if taken == "big" else "big"
        assert done.status == "COMPLETED"
        assert how(done)[other] == "branch_not_taken"
        assert how(done)[taken] == "COMPLETED"
        assert done.steps["join"].outputs == {"way": taken}

    on_grid(database, tmp_path, {"echo": echo}, main)


@pytest.mark.parametrize(
    ("condition", "category"), [("steps.first.output.nothing > 1", "CONFIGURATION"), ("1 + 1", "CONFIGURATION")]
)
def test_a_condition_that_comes_to_nothing_fails_the_choice(
    condition: str, category: str, database: str, tmp_path: Path
) -> None:
    async def main(grid: Running) -> None:
        await grid.define(
            "choose",
            step("first", target_name="echo"),
            step("size", "CHOICE", condition=condition, then_step="big"),
            step("big", target_name="echo"),
        )
        done = await grid.ran("choose")
        assert (done.status, how(done)["size"], how(done)["big"]) == ("FAILED", "FAILED", "upstream_failed")
        assert done.steps["size"].category == category

    on_grid(database, tmp_path, {"echo": echo}, main)


def test_a_wait_ends_at_its_time_or_with_its_signal(database: str, tmp_path: Path) -> None:
    async def main(grid: Running) -> None:
        until = f"{datetime.now(UTC).year}-01-01T00:00:00Z"
        await grid.define(
            "wait",
            step("long_ago", "WAIT", until="params.since"),
            step("short", "WAIT", duration_seconds=1),
            step("approval", "WAIT", signal="approved"),
        )
        run_id = await grid.trigger("wait", {"since": until})
        waiting = await grid.until(run_id, lambda run: run.steps["approval"].status == "WAITING")
        short = [one.event for one in await grid.events(run_id) if getattr(one.event, "step", None) == "short"]
        assert 1 <= (short[1].completed_at - short[0].started_at).total_seconds() < 2
        assert waiting.steps["short"].outputs == {}
        await grid.tell(run_id, SendSignal(name="approved", payload={"by": "ann"}, sent_by="key:1"))
        done = await grid.ended(run_id)
        assert done.status == "COMPLETED"
        assert done.steps["approval"].outputs == {"signal": "approved", "payload": {"by": "ann"}, "sent_by": "key:1"}

    on_grid(database, tmp_path, {}, main)


def test_an_until_that_is_no_time_fails_the_wait(database: str, tmp_path: Path) -> None:
    async def main(grid: Running) -> None:
        await grid.define("wait", step("soon", "WAIT", until="params.since"))
        done = await grid.ran("wait", {"since": "soon"})
        assert (done.status, done.steps["soon"].category) == ("FAILED", "CONFIGURATION")

    on_grid(database, tmp_path, {}, main)


def test_a_child_run_hands_its_outputs_to_the_step(database: str, tmp_path: Path) -> None:
    async def main(grid: Running) -> None:
        await grid.define(
            "child",
            step("sum", target_name="add", params={"a": "${params.a}"}),
            parameters=[Parameter(name="a", type="integer", required=True)],
        )
        await grid.define("parent", step("call", "WORKFLOW", target_name="child", params={"a": "${params.n}"}))
        done = await grid.ran("parent", {"n": 4})
        assert done.status == "COMPLETED"
        assert done.steps["call"].outputs == {"sum": {"sum": 5}}
        child = await grid.state(done.steps["call"].begun[0].child_run_id or "")
        assert child.asked.parent is not None
        assert (child.asked.trigger, child.asked.parent.ancestors) == ("DEPENDENCY", ["parent"])
        wrong = await grid.ran("parent", {"n": "four"})
        assert (wrong.status, wrong.steps["call"].category) == ("FAILED", "CONFIGURATION")
        assert "params.a" in (wrong.steps["call"].error or "")

    on_grid(database, tmp_path, {"add": add}, main)


def test_a_child_run_that_fails_fails_the_step_for_the_same_reason(database: str, tmp_path: Path) -> None:
    async def main(grid: Running) -> None:
        await grid.define("child", step("boom", target_name="fail"))
        await grid.define("parent", step("call", "WORKFLOW", target_name="child"))
        await grid.define("lost", step("call", "WORKFLOW", target_name="nowhere"))
        await grid.define("self", step("call", "WORKFLOW", target_name="self"))
        failed = (await grid.ran("parent")).steps["call"]
        assert (failed.category, failed.error) == ("TRANSFORM", "not today")
        assert (await grid.ran("lost")).steps["call"].category == "NOT_FOUND"
        itself = (await grid.ran("self")).steps["call"]
        assert "self → self" in (itself.error or "")

    on_grid(database, tmp_path, {"fail": fail}, main)


def test_an_alert_says_so_on_the_log(database: str, tmp_path: Path) -> None:
    async def main(grid: Running) -> None:
        told = {"severity": "WARNING", "title": "Week ${params.week}", "message": "late"}
        await grid.define("tell", step("tell", "ALERT", params=told), domain="sales.eu")
        done = await grid.ran("tell", {"week": 3})
        assert done.status == "COMPLETED"
        alert_id = (done.steps["tell"].outputs or {})["alert_id"]
        [recorded] = await grid.parts.grid.store.read_stream(f"alert_request-{alert_id}")
        event: AlertRequested = recorded.event
        assert (event.severity, event.title, event.message) == ("WARNING", "Week 3", "late")
        assert (event.domain, event.source, event.run_id) == ("sales.eu", "workflow:tell", done.asked.run_id)
        await grid.define("wrong", step("tell", "ALERT", params={"severity": "LOUD"}))
        assert (await grid.ran("wrong")).steps["tell"].category == "CONFIGURATION"

    on_grid(database, tmp_path, {}, main)


def test_a_failed_try_is_followed_by_others_as_the_policy_says(database: str, tmp_path: Path) -> None:
    tries: list[str] = []

    async def shaky(context: HandlerContext) -> dict[str, int]:
        tries.append(context.attempt_key)
        if len(tries) < 3:
            raise StepError("away", "TRANSIENT")
        return {"tries": len(tries)}

    async def main(grid: Running) -> None:
        again = RetryPolicy(max_attempts=3, initial_seconds=0.1, multiplier=2, jitter=0)
        await grid.define("shaky", step("call", target_name="shaky", retry=again))
        done = await grid.ran("shaky")
        assert (done.status, done.steps["call"].attempt) == ("COMPLETED", 3)
        run_id = done.asked.run_id
        assert tries == [f"{run_id}/call/{attempt}" for attempt in (1, 2, 3)]
        failures = [one.event for one in await grid.events(run_id) if type(one.event) is StepFailed]
        assert [(one.next_attempt_at - one.failed_at).total_seconds() for one in failures] == [0.1, 0.2]

    on_grid(database, tmp_path, {"shaky": shaky}, main)


def test_what_can_not_be_called_fails_with_its_reason(database: str, tmp_path: Path) -> None:
    async def main(grid: Running) -> None:
        for name, one, category in [
            ("unknown", step("x", target_name="nobody"), "CONFIGURATION"),
            ("wrong", step("x", target_name="add", params={"a": "one"}), "CONFIGURATION"),
            ("lost", step("x", target_name="add", params={"a": "${params.nothing}"}), "CONFIGURATION"),
            ("endless", step("x", target_name="echo", params={"a": "${" + ENDLESS + "}"}), "RESOURCE"),
            ("source", step("x", "SOURCE", target_name="sales.eu"), "NOT_FOUND"),
        ]:
            await grid.define(name, one)
            done = await grid.ran(name, {"l": list(range(200))})
            assert (done.status, done.steps["x"].category) == ("FAILED", category), name
            assert done.steps["x"].attempt == 1

    on_grid(database, tmp_path, {"add": add, "echo": echo}, main)


ENDLESS = "params.l.map(a, params.l.map(b, params.l.map(c, a * b * c))).size()"


def test_an_output_is_used_again_for_equal_inputs(database: str, tmp_path: Path) -> None:
    calls = 0

    async def count(of: str) -> dict[str, int]:
        nonlocal calls
        calls += 1
        return {"calls": calls}

    async def main(grid: Running) -> None:
        await grid.define("cached", step("count", target_name="count", params={"of": "${params.of}"}, cache_seconds=60))
        first, again, other = [await grid.ran("cached", {"of": of}) for of in ("a", "a", "b")]
        assert [how(run)["count"] for run in (first, again, other)] == ["COMPLETED", "cached", "COMPLETED"]
        assert [run.steps["count"].outputs for run in (first, again, other)] == [
            {"calls": 1}, {"calls": 1}, {"calls": 2},
        ]  # fmt: skip
        assert again.status == "COMPLETED"

    on_grid(database, tmp_path, {"count": count}, main)


def test_a_dry_run_calls_nothing(database: str, tmp_path: Path) -> None:
    async def main(grid: Running) -> None:
        await grid.define("boom", step("boom", target_name="fail"))
        done = await grid.ran("boom", dry_run=True)
        assert (done.status, how(done)) == ("COMPLETED", {"boom": "dry_run"})

    on_grid(database, tmp_path, {"fail": fail}, main)
