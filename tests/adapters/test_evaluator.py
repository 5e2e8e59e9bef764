"""The evaluator: what expressions come to, and that hostile ones fail alone."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from rgrid.adapters.expressions import Check, Evaluator, ExpressionFailed

VARIABLES: dict[str, Any] = {
    "params": {"a": 1, "s": "text", "list": list(range(200)), "none": None, "day": "2026-01-09", "f": 1.5},
    "steps": {
        "load": {"output": {"rows": 3, "names": ["x", "y"]}, "status": "COMPLETED"},
        "gone": {"output": None, "status": "FAILED"},
    },
    "run": {"id": "run_1", "partition": None},
    "item": {"id": 7},
    "index": 2,
}


def with_evaluator(test: Callable[[Evaluator], Awaitable[None]]) -> None:
    async def main() -> None:
        async with _evaluator() as evaluator:
            await test(evaluator)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("params.a + 1", 2),
        ("params.f * 2.0", 3.0),
        ("params.none", None),
        ("steps.load.output.rows > 2 && steps.load.status == 'COMPLETED'", True),
        ("steps['load'].output.names.map(x, x + '!')", ["x!", "y!"]),
        ("steps.gone.output == null", True),
        ("has(params.missing) ? params.missing : 'z'", "z"),
        ("has(steps.never) ? 1 : 2", 2),
        ("item.id + index", 9),
        ("run.id", "run_1"),
        ("size(params.list)", 200),
        ("params.list.filter(x, x >= 198)", [198, 199]),
        ("params.list.exists(x, x == 3) && !params.list.all(x, x < 3)", True),
        ("params.s.startsWith('te') && params.s.matches('^t.*t$')", True),
        ("string(1) + string(true) + string(2.5)", "1true2.5"),
        ("int('5') + int(2.9)", 7),
        ("date_add(params.day, 7)", "2026-01-16"),
        ("date_add(timestamp('2026-01-09T12:00:00Z'), -9)", "2025-12-31T12:00:00Z"),
        ("date_add('2026-01-09T12:00:00+02:00', 1)", "2026-01-10T12:00:00+02:00"),
        ("timestamp('2026-01-09T01:30:00+02:00')", "2026-01-08T23:30:00Z"),
        ("duration('90m')", "5400s"),
        ("timestamp('2026-01-09T00:00:00Z').getFullYear()", 2026),
        ("b'abc'", "YWJj"),
        ("{'a': 1, 2: true}", {"a": 1, "2": True}),
        ("'a,b'.split(',')", ["a", "b"]),
        ("math.greatest(params.a, 3)", 3),
        ("[3, 1].sort().first().orValue(0)", 1),
        ("18446744073709551615u", 2**64 - 1),
        ("// only this\n1", 1),
    ],
)
def test_an_expression_comes_to_a_value(expression: str, value: Any) -> None:
    async def check(evaluator: Evaluator) -> None:
        found = await evaluator.evaluate(expression, VARIABLES)
        assert (found, type(found)) == (value, type(value))

    with_evaluator(check)


def test_what_is_wrong_with_an_expression_is_said() -> None:
    async def check(evaluator: Evaluator) -> None:
        for expression, said in {
            "params.missing": "There is no missing",
            "nobody.knows": "nobody",
            "steps.never.output": "There is no never",
            "params.list[200]": "out of bounds",
            "1 +": "column 4",
            "'a' + 1": "string + int",
            "1 / 0": "zero",
            "9223372036854775807 + 1": "overflow",
            "1.0 / 0.0": "no number",
            "params.s.nonsense()": "nonsense",
            "string(null)": "string()",
            "date_add('tomorrow', 1)": "date_add",
            "date_add(params.day, 10000000000)": "date_add",
            "has(params)": "has()",
        }.items():
            with pytest.raises(ExpressionFailed, match=r"(?i)^`") as failed:
                await evaluator.evaluate(expression, VARIABLES)
            assert failed.value.category == "CONFIGURATION"
            assert said.lower() in failed.value.message.lower()

    with_evaluator(check)


@pytest.mark.parametrize(
    "expression",
    [
        "params.s.__class__",
        "params.__class__",
        "params.__init__.__globals__",
        "params.list.__len__()",
        "date_add.__globals__",
        "__import__('os').system('id')",
        "params.getClass()",
        "math.__dict__",
        "''.join(params.list).__class__",
        "google.protobuf.Any{}",
    ],
)
def test_no_attribute_of_the_host_language_is_reachable(expression: str) -> None:
    async def check(evaluator: Evaluator) -> None:
        with pytest.raises(ExpressionFailed) as failed:
            await evaluator.evaluate(expression, VARIABLES)
        assert failed.value.category == "CONFIGURATION"

    with_evaluator(check)


@pytest.mark.parametrize(
    "expression",
    [
        "params.list.map(a, params.list.map(b, params.list.map(c, a * b * c)))",
        "params.list.all(a, params.list.all(b, params.list.all(c, params.list.all(d, a + b + c + d >= 0))))",
        "lists.range(100000000)",
        "lists.range(10000000).map(x, params.s)",
        "size(lists.range(2000).map(x, big)) > 0",
        "lists.range(400).map(x, params.list)",
        "[big, big].map(x, x + x + x + x + x + x)",
        "big",
    ],
)
def test_an_expression_over_its_bounds_fails_alone(expression: str) -> None:
    async def check(evaluator: Evaluator) -> None:
        variables = {**VARIABLES, "big": "x" * 2_000_000}
        assert await evaluator.evaluate("1 + 1", VARIABLES) == 2
        with pytest.raises(ExpressionFailed) as failed:
            await evaluator.evaluate(expression, variables)
        assert failed.value.category == "RESOURCE"
        assert await evaluator.evaluate("1 + 1", VARIABLES) == 2

    with_evaluator(check)


@pytest.mark.parametrize(
    "expression",
    ["(" * 900 + "1" + ")" * 900, "[" * 990 + "]" * 990, "-" * 1900 + "1", "a." * 900 + "b", "true ? " * 250 + "1"],
)
def test_deep_expressions_are_harmless(expression: str) -> None:
    async def check(evaluator: Evaluator) -> None:
        try:
            await evaluator.evaluate(expression, {"a": {}})
        except ExpressionFailed as failed:
            assert failed.category in ("CONFIGURATION", "RESOURCE")
        assert await evaluator.evaluate("1 + 1", VARIABLES) == 2

    with_evaluator(check)


def test_hostile_and_decent_expressions_go_side_by_side() -> None:
    async def check(evaluator: Evaluator) -> None:
        hostile = "params.list.map(a, params.list.map(b, params.list.map(c, a * b * c)))"

        async def one(number: int) -> Any:
            try:
                return await evaluator.evaluate(hostile if number % 10 == 0 else f"params.a + {number}", VARIABLES)
            except ExpressionFailed as failed:
                return failed.category

        found = await asyncio.gather(*(one(number) for number in range(40)))
        assert found == ["RESOURCE" if number % 10 == 0 else number + 1 for number in range(40)]

    with_evaluator(check)


def test_a_tree_of_parameters_is_resolved_at_once() -> None:
    tree = {
        "script_content": "echo $${HOME} ${params.s}",
        "args": ["${params.a}", "${params.a + 1} of ${size(params.list)}", 5, None, True],
        "env": {"ROWS": "${string(steps.load.output.rows)}", "NAMES": "${steps.load.output.names}"},
    }

    async def check(evaluator: Evaluator) -> None:
        assert await evaluator.resolve(tree, VARIABLES) == {
            "script_content": "echo ${HOME} text",
            "args": [1, "2 of 200", 5, None, True],
            "env": {"ROWS": "3", "NAMES": ["x", "y"]},
        }
        assert await evaluator.resolve({"a": "plain"}, {}) == {"a": "plain"}

    with_evaluator(check)


@pytest.mark.parametrize(
    ("tree", "category"),
    [
        ({"a": "${params.a}", "b": "${params.nope}"}, "CONFIGURATION"),
        ({"a": "${"}, "CONFIGURATION"),
        ({"a": ["${big}"] * 3}, "RESOURCE"),
        ({"a": [f"${{big + '{number}'}}" for number in range(3)]}, "RESOURCE"),
        ([f"${{{number}}}" for number in range(1001)], "RESOURCE"),
    ],
)
def test_a_tree_that_cannot_be_resolved_says_why(tree: Any, category: str) -> None:
    async def check(evaluator: Evaluator) -> None:
        with pytest.raises(ExpressionFailed) as failed:
            await evaluator.resolve(tree, {**VARIABLES, "big": "x" * 500_000})
        assert failed.value.category == category

    with_evaluator(check)


def test_variables_that_json_does_not_have_are_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    async def check(evaluator: Evaluator) -> None:
        for value in (object(), "\ud800", deep):
            with pytest.raises(ExpressionFailed) as failed:
                await evaluator.evaluate("params.x", {"params": {"x": value, "y": 1}})
            assert failed.value.category == "CONFIGURATION"
            assert await evaluator.evaluate("params.y", {"params": {"x": value, "y": 1}}) == 1

    with_evaluator(check)


def test_a_condition_is_true_or_false() -> None:
    async def check(evaluator: Evaluator) -> None:
        assert await evaluator.condition("params.a == 1", VARIABLES) is True
        assert await evaluator.condition("params.a == 2", VARIABLES) is False
        for expression in ("1", "'true'", "null", "[]"):
            with pytest.raises(ExpressionFailed, match="neither true nor false"):
                await evaluator.condition(expression, VARIABLES)

    with_evaluator(check)


def test_faults_are_found_before_anything_is_known() -> None:
    async def check(evaluator: Evaluator) -> None:
        samples = [{"params": {"a": "x"}}]
        faults = await evaluator.faults(
            [
                Check("params.whatever + steps.a.output.b[0]"),
                Check("params.a >"),
                Check("nosuch(params.a)"),
                Check("params.a.nosuch()"),
                Check("params.a > 1", samples),
                Check("params.a + 'b'", samples),
                Check("int(params.a)", samples),
                Check("params.n * 1.5", [{"params": {"n": 1.5}}, {"params": {"n": 1}}]),
                Check("lists.range(10000).map(a, lists.range(10000).map(b, a * b))", [{"params": {}}]),
                Check("math.abs(-1) + [1].map(x, x).sum()"),
                Check("params.a", samples, "condition"),
                Check("params.a == 'x'", samples, "condition"),
                Check("params.a", samples, "list"),
                Check("[params.a]", samples, "list"),
                Check("5", [{"params": {}}], "time"),
                Check("timestamp('2026-01-09T00:00:00Z')", [{"params": {}}], "time"),
                Check("params.a[7]", [{"params": {"a": []}}], "condition"),
            ]
        )
        wrong = {1: "column 11", 2: "nosuch", 3: "nosuch", 4: 'With params.a = "x"', 7: "params.n = 1.", 8: "100 ms"}
        wrong |= {10: "true or false", 12: "a list", 14: "a time"}
        for index, fault in enumerate(faults):
            assert (wrong[index] in (fault or "")) if index in wrong else fault is None

    with_evaluator(check)


def test_the_processes_have_an_empty_environment_and_end_with_the_evaluator() -> None:
    async def main() -> None:
        async with _evaluator() as evaluator:
            await evaluator.evaluate("1", {})
            children = _children()
            assert children
            assert all(Path(f"/proc/{child.pid}/environ").read_bytes() == b"" for child in children)
        assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]

    asyncio.run(main())


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_something_else_kills_is_replaced(sent: signal.Signals) -> None:
    async def check(evaluator: Evaluator) -> None:
        assert await evaluator.evaluate("1 + 1", {}) == 2
        for child in _children():
            os.kill(child.pid, sent)
        assert await evaluator.evaluate("1 + 2", {}) == 3

    with_evaluator(check)


def test_nothing_is_left_of_a_service_that_was_killed() -> None:
    program = (
        "import asyncio, os, psutil, signal\n"
        "from rgrid.adapters.expressions import Evaluator\n"
        "async def main():\n"
        "    await Evaluator().evaluate('1', {})\n"
        "    print(*[one.pid for one in psutil.Process().children()], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    (pid,) = map(int, ended.stdout.split())
    gone, left = psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=30)
    assert not [one for one in left if one.status() != psutil.STATUS_ZOMBIE], gone


def test_whoever_stops_waiting_takes_nothing_from_others() -> None:
    async def check(evaluator: Evaluator) -> None:
        slow = "params.list.map(a, params.list.map(b, params.list.map(c, a * b * c)))"
        for _ in range(5):
            waiting = asyncio.create_task(evaluator.evaluate(slow, VARIABLES))
            await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert await evaluator.evaluate("params.a", VARIABLES) == 1

    with_evaluator(check)


@asynccontextmanager
async def _evaluator() -> AsyncIterator[Evaluator]:
    async with Evaluator() as evaluator:
        yield evaluator


def _children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if any("expression_child" in arg for arg in one.cmdline())]
