"""What is said against a definition before it runs: all of it at once, each with its rule and its place."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workflows.any_run import definitions

from rgrid.workflows.document import Document, Parameter, Policy, Step
from rgrid.workflows.expressions import Complaint
from rgrid.workflows.validation import Known, Target, problems

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "label": {"type": "string"}, "any": {}},
    "required": ["n"],
    "additionalProperties": False,
}
KNOWN = Known(
    handlers={"sales.load": SCHEMA, "sales.open": {"type": "object"}},
    sources={"sales.eu"},
    workflows={
        "child": Target(parameters=[Parameter(name="region", required=True), Parameter(name="top", type="integer")]),
        "outer": Target(targets=["middle"]),
        "middle": Target(targets=["flow"]),
        "open": Target(),
    },
)
SCRIPT = {"script_content": "print(1)"}


def handler(name: str, **more: Any) -> Step:
    return Step(**{"name": name, "type": "HANDLER", "target_name": "sales.open", "timeout_seconds": 9, **more})


def document(*steps: Step, **more: Any) -> Document:
    return Document(**{"name": "flow", "steps": list(steps), **more})


def errors(*steps: Step, known: Known = KNOWN, **more: Any) -> list[tuple[str, str | None]]:
    """The rules that are broken, and where."""
    return [(issue.code, issue.field) for issue in problems(document(*steps, **more), known)[0]]


def warnings(*steps: Step, **more: Any) -> list[tuple[str, str | None]]:
    found, warned = problems(document(*steps, **more), KNOWN)
    assert found == []
    return [(issue.code, issue.field) for issue in warned]


def test_nothing_is_said_against_a_definition_that_is_right() -> None:
    steps = [
        Step(name="a", type="EXECUTION", params=SCRIPT, timeout_seconds=9),
        Step(name="s", type="SOURCE", target_name="sales.eu", timeout_seconds=9),
        Step(name="c", type="CHOICE", condition="steps.a.output.n > 1", then_step="x", else_step="y"),
        handler("x", target_name="sales.load", params={"n": "${steps.a.output.n}", "label": "a ${run.id}"}),
        Step(name="y", type="WORKFLOW", target_name="child", params={"region": "EU", "top": 3}, timeout_seconds=9),
        Step(name="m", type="MAP", target_name="open", items="[1, 2]", params={"n": "${item}"}, timeout_seconds=9),
        Step(name="w", type="WAIT", duration_seconds=5),
        Step(name="z", type="ALERT", params={"title": "done", "message": "${params.who}"}, depends_on=["x", "y"]),
    ]
    assert problems(document(*steps, parameters=[Parameter(name="who")]), KNOWN) == ([], [])


def test_everything_is_said_at_once_and_where() -> None:
    steps = [
        handler("a", target_name="sales.lod", depends_on=["nobody"]),
        handler("a"),
        Step(name="c", type="CHOICE", condition="steps.gone.status == 'FAILED'", then_step="a"),
    ]
    found, _ = problems(document(*steps), KNOWN)
    assert [(issue.code, issue.step, issue.field) for issue in found] == [
        ("duplicate_step", "a", "steps[1].name"),
        ("unknown_step", "a", "steps[0].depends_on[0]"),
        ("unknown_handler", "a", "steps[0].target_name"),
        ("not_later", "c", "steps[2].then_step"),
        ("unknown_step", "c", "steps[2].condition"),
    ]
    assert all(issue.message.endswith(".") for issue in found)


def test_dependencies_come_earlier_and_targets_of_choices_later() -> None:
    assert errors(handler("a", depends_on=["b"]), handler("b", depends_on=[])) == [
        ("not_earlier", "steps[0].depends_on[0]")
    ]
    back = [handler("a"), Step(name="c", type="CHOICE", condition="true", then_step="a", else_step="c")]
    assert errors(*back)[:2] == [("not_later", "steps[1].then_step"), ("not_later", "steps[1].else_step")]


def test_a_ring_is_named_beside_what_makes_it() -> None:
    ring = [handler("a", depends_on=["c"]), handler("b", depends_on=["a"]), handler("c", depends_on=["b"])]
    found, _ = problems(document(*ring), KNOWN)
    assert [issue.code for issue in found] == ["not_earlier", "cycle"]
    assert "a → b → c → a" in found[1].message and found[1].step == "a"


def test_a_step_is_the_target_of_one_choice() -> None:
    steps = [
        Step(name="c", type="CHOICE", condition="true", then_step="x", else_step="d"),
        Step(name="d", type="CHOICE", condition="true", then_step="x"),
        handler("x"),
    ]
    assert errors(*steps) == [("target_of_two_choices", "steps[1].then_step")]
    twice = [Step(name="c", type="CHOICE", condition="true", then_step="x", else_step="x"), handler("x")]
    assert errors(*twice) == [("same_target", "steps[0].else_step")]


@pytest.mark.parametrize(
    ("step", "missing"),
    [
        (Step(name="a", type="SOURCE"), ["target_name"]),
        (Step(name="a", type="WORKFLOW"), ["target_name"]),
        (Step(name="a", type="HANDLER"), ["target_name"]),
        (Step(name="a", type="CHOICE"), ["condition", "then_step"]),
        (Step(name="a", type="MAP"), ["target_name", "items"]),
        (Step(name="a", type="WAIT"), ["duration_seconds"]),
        (Step(name="a", type="EXECUTION"), ["params"]),
    ],
)
def test_what_a_type_needs_is_there(step: Step, missing: list[str]) -> None:
    assert errors(step) == [("missing_field", f"steps[0].{field}") for field in missing]


@pytest.mark.parametrize(
    ("step", "field"),
    [
        (Step(name="a", type="EXECUTION", params=SCRIPT, target_name="x"), "target_name"),
        (handler("a", condition="true"), "condition"),
        (handler("a", duration_seconds=1), "duration_seconds"),
        (handler("a", signal="go"), "signal"),
        (handler("a", items="[1]"), "items"),
        (handler("a", item_name="tier"), "item_name"),
        (handler("a", max_concurrency=2), "max_concurrency"),
        (Step(name="a", type="WAIT", duration_seconds=1, params={"x": 1}), "params"),
        (Step(name="a", type="WAIT", duration_seconds=1, cache_seconds=1), "cache_seconds"),
        (Step(name="a", type="WAIT", duration_seconds=1, until="x"), "until"),
    ],
)
def test_what_belongs_to_another_type_is_not_there(step: Step, field: str) -> None:
    assert ("unexpected_field", f"steps[0].{field}") in errors(step)


def test_what_a_step_names_exists() -> None:
    assert errors(Step(name="a", type="SOURCE", target_name="?")) == [("unknown_source", "steps[0].target_name")]
    assert errors(Step(name="a", type="WORKFLOW", target_name="?")) == [("unknown_workflow", "steps[0].target_name")]


@pytest.mark.parametrize("target", ["flow", "middle", "outer"])
@pytest.mark.parametrize("kind", ["WORKFLOW", "MAP"])
def test_no_workflow_runs_within_itself(target: str, kind: Any) -> None:
    step = Step(name="a", type=kind, target_name=target, items="[1]" if kind == "MAP" else None)
    assert errors(step) == [("recursive_workflow", "steps[0].target_name")]


def test_a_handler_gets_the_parameters_that_it_takes() -> None:
    step = handler("a", target_name="sales.load", params={"n": "many", "more": 1, "label": "x", "any": None})
    assert errors(step) == [("bad_parameter", "steps[0].params.n"), ("unknown_parameter", "steps[0].params.more")]
    assert errors(handler("a", target_name="sales.load")) == [("missing_parameter", "steps[0].params.n")]
    assert errors(handler("a", target_name="sales.load", params={"n": True})) == [
        ("bad_parameter", "steps[0].params.n")
    ]


def test_a_child_gets_the_parameters_that_it_declares() -> None:
    step = Step(name="a", type="WORKFLOW", target_name="child", params={"top": "3", "more": 1})
    assert errors(step) == [
        ("unknown_parameter", "steps[0].params.more"),
        ("missing_parameter", "steps[0].params.region"),
        ("bad_parameter", "steps[0].params.top"),
    ]
    assert errors(Step(name="a", type="MAP", target_name="child", items="['EU']", item_name="region")) == []


def test_an_alert_says_something() -> None:
    assert errors(Step(name="a", type="ALERT", params={"colour": "red", "severity": "LOUD"})) == [
        ("unknown_parameter", "steps[0].params.colour"),
        ("missing_parameter", "steps[0].params.title"),
        ("bad_parameter", "steps[0].params.severity"),
    ]


def test_defaults_have_the_type_of_their_parameter() -> None:
    parameters = [
        Parameter(name="n", type="integer", default="3"),
        Parameter(name="d", type="date"),
        Parameter(name="n"),
    ]
    assert errors(handler("a"), parameters=parameters, defaults={"d": "soon", "other": 1}) == [
        ("bad_default", "parameters[0].default"),
        ("bad_default", "defaults.d"),
        ("duplicate_parameter", "parameters[2].name"),
    ]


def test_what_only_the_surroundings_tell_comes_along() -> None:
    known = Known(
        templates={0: [("memory_mb", "Expected integer.")]},
        misspelt=[Complaint(code="bad_expression", message="Cut short.", step="c", field="condition")],
    )
    steps = [
        Step(name="a", type="EXECUTION", params={**SCRIPT, "memory_mb": "x"}),
        Step(name="c", type="CHOICE", condition="1 >", then_step="z"),
        Step(name="z", type="WAIT", duration_seconds=1),
    ]
    assert errors(*steps, known=known) == [
        ("bad_template", "steps[0].params.memory_mb"),
        ("bad_expression", "steps[1].condition"),
    ]


def test_a_branch_that_is_never_taken_is_unreachable_with_what_needs_it() -> None:
    steps = [
        Step(name="c", type="CHOICE", condition=" true ", then_step="x", else_step="y"),
        handler("x"),
        handler("y"),
        handler("y2", depends_on=["y"]),
        handler("z", depends_on=["x", "y2"]),
    ]
    assert warnings(*steps) == [("unreachable", "steps[2]"), ("unreachable", "steps[3]")]


def test_parameters_that_nothing_uses_are_named() -> None:
    used = handler("a", params={"x": "${params.used}"})
    parameters = [Parameter(name="used"), Parameter(name="unused")]
    assert warnings(used, parameters=parameters) == [("unused_parameter", "parameters[1].name")]


def test_steps_without_an_end_are_named() -> None:
    steps = [
        Step(name="a", type="EXECUTION", params=SCRIPT),
        Step(name="b", type="EXECUTION", params={**SCRIPT, "timeout_seconds": 5}),
        Step(name="c", type="WAIT", signal="go"),
        Step(name="d", type="WAIT", signal="go", duration_seconds=5),
        Step(name="e", type="ALERT", params={"title": "t"}),
    ]
    assert warnings(*steps) == [
        ("missing_timeout", "steps[0].timeout_seconds"),
        ("missing_timeout", "steps[2].timeout_seconds"),
    ]
    assert warnings(*steps, policy=Policy(timeout_seconds=60)) == []


def test_a_step_that_reads_another_without_waiting_for_it_is_named() -> None:
    steps = [handler("a"), handler("b", params={"x": "${steps.a.output.n}"})]
    assert warnings(*steps) == []
    assert warnings(*steps, policy=Policy(mode="PARALLEL")) == [("unordered_reference", "steps[1].params.x")]


NAMES = st.sampled_from(["a", "b", "c", "flow", "child", "outer", "sales.load", "sales.eu", "?"])
WRITTEN = st.builds(
    Step,
    name=NAMES,
    type=st.sampled_from(["EXECUTION", "SOURCE", "WORKFLOW", "HANDLER", "ALERT", "CHOICE", "WAIT", "MAP"]),
    depends_on=st.none() | st.lists(NAMES, max_size=3),
    target_name=st.none() | NAMES,
    condition=st.none() | st.sampled_from(["true", "false", "params.p", "steps.a.output", "steps"]),
    then_step=st.none() | NAMES,
    else_step=st.none() | NAMES,
    items=st.none() | st.just("params.list"),
    params=st.dictionaries(NAMES, st.sampled_from([1, "x", "${steps.b.status}", "${", None]), max_size=2),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(WRITTEN, min_size=1, max_size=5), st.sampled_from(["SEQUENTIAL", "PARALLEL"]))
def test_whatever_is_written_is_judged_and_each_place_is_there(steps: list[Step], mode: Any) -> None:
    found, warned = problems(document(*steps, policy=Policy(mode=mode)), KNOWN)
    for issue in [*found, *warned]:
        assert issue.step is not None and issue.field is not None
        index = int(issue.field.removeprefix("steps[").partition("]")[0])
        assert steps[index].name == issue.step


@settings(max_examples=50, deadline=None)
@given(definitions())
def test_a_definition_that_runs_to_its_end_is_let_pass(wish: Any) -> None:
    own = {"HANDLER": {"target_name": "sales.open"}, "MAP": {"target_name": "open"}, "EXECUTION": {"params": SCRIPT}}
    fields = [{name: getattr(one, name) for name in one.__struct_fields__} for one in wish.outlines]
    named = [{**one, "condition": one["condition"] and "true", "items": one["items"] and "[1]"} for one in fields]
    steps = [Step(**{**one, **own.get(one["type"], {})}) for one in named]
    assert problems(document(*steps, policy=wish.policy), KNOWN)[0] == []
