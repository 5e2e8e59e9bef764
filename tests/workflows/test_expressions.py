"""Expressions as text: placeholders in values, and what an expression of a definition refers to."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid.kernel.placeholders import EXPRESSION_MAX, BadPlaceholder, Hole, filled, holes, paths_in, pieces
from rgrid.workflows import expressions
from rgrid.workflows.document import Document, Parameter, Step

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("plain $ and { braces }", ["plain $ and { braces }"]),
        ("${params.a}", [Hole("params.a")]),
        ("from ${ params.a } to ${b}!", ["from ", Hole("params.a"), " to ", Hole("b"), "!"]),
        ("$${HOME}/${params.a}", ["${HOME}/", Hole("params.a")]),
        ("$$$${x}", ["$$${x}"]),
        ("${{'a': {'b': 1}}.a.b}", [Hole("{'a': {'b': 1}}.a.b")]),
        ("${'}' + \"}\" + r'\\'}", [Hole("'}' + \"}\" + r'\\'")]),
        ("${'''}\n'''}", [Hole("'''}\n'''")]),
        ("${1 // a } in a comment\n}", [Hole("1 // a } in a comment")]),
    ],
)
def test_a_text_falls_into_pieces(text: str, found: list[str | Hole]) -> None:
    assert pieces(text) == found


@pytest.mark.parametrize("text", ["${", "a ${params.x", "${{}", "${}", "${  }", f"${{{'a' * EXPRESSION_MAX}1}}"])
def test_a_placeholder_without_an_expression_is_refused(text: str) -> None:
    with pytest.raises(BadPlaceholder):
        pieces(text)


@given(JSON)
def test_a_value_that_is_escaped_comes_back_as_it_was(value: Any) -> None:
    assert filled(_escaped(value), lambda _: "never") == value
    assert list(holes(_escaped(value))) == []


@given(JSON)
def test_alone_in_a_text_a_result_keeps_its_type(value: Any) -> None:
    assert filled({"a": ["${x}"]}, lambda _: value) == {"a": [value]}


@pytest.mark.parametrize(
    ("value", "text"), [("a", "a"), (1, "1"), (1.5, "1.5"), (True, "true"), (None, "null"), ({"a": [1]}, '{"a":[1]}')]
)
def test_within_text_a_result_becomes_text(value: Any, text: str) -> None:
    assert filled("<${x}>", lambda _: value) == f"<{text}>"


def test_holes_are_named_by_their_path() -> None:
    value = {"args": ["a", "${params.x}"], "env": {"REGION": "${params.region}-${steps.a.status}"}, "n": 3}
    assert list(holes(value)) == [
        ("args[1]", "params.x"),
        ("env.REGION", "params.region"),
        ("env.REGION", "steps.a.status"),
    ]


@pytest.mark.parametrize(
    ("expression", "paths"),
    [
        ("params.a + 1", {("params", "a")}),
        ("steps.load.output.rows > 0", {("steps", "load", "output", "rows")}),
        ("steps['load data'].output[\"x\"]", {("steps", "load data", "output", "x")}),
        ("steps[params.which].status", {("steps",), ("params", "which")}),
        ("size(params.list) > 0 && has(params.x)", {("params", "list"), ("params", "x")}),
        ("params.list.map(x, x.y + item)", {("params", "list"), ("item",)}),
        ("params.list.filter(params, params > 1)", {("params", "list")}),
        ("[1].map(x, x) == x", {("x",)}),
        ("math.greatest(params.a, index)", {("params", "a"), ("index",)}),
        ("math.pi", {("math", "pi")}),
        ("type(params.a) == int", {("params", "a")}),
        ("'params.a' + \"steps.b\" // params.c", set()),
        ("{'params': steps}", {("steps",)}),
        ("params.s.startsWith('a')", {("params", "s")}),
        ("params", {("params",)}),
        ("true || null in [false]", set()),
        ("1.5e3 + .5", set()),
    ],
)
def test_an_expression_names_variables(expression: str, paths: set[tuple[str, ...]]) -> None:
    assert paths_in(expression) == paths


@given(st.text())
def test_any_text_can_be_looked_at(text: str) -> None:
    paths_in(text)
    try:
        pieces(text)
    except BadPlaceholder as bad:
        assert str(bad)


def test_what_expressions_refer_to_is_checked() -> None:
    found = expressions.complaints(
        _document(
            _step("first", params={"a": "${params.region} ${steps.second.output}"}),
            _step("second", params={"a": ["${steps.first.outputs.x}", "${params.nope}", "${HOME}", "${run.name}"]}),
            Step(name="pick", type="CHOICE", condition="steps.nope.output.ok", then_step="first"),
            Step(name="each", type="MAP", target_name="w", items="item", params={"a": "${item.x + index + other}"}),
            _step("open", params={"b": {"c": "${"}}),
        )
    )
    assert {(one.step, one.field, one.code) for one in found} == {
        ("first", "params.a", "not_earlier"),
        ("second", "params.a[0]", "unknown_variable"),
        ("second", "params.a[1]", "unknown_parameter"),
        ("second", "params.a[2]", "unknown_variable"),
        ("second", "params.a[3]", "unknown_variable"),
        ("pick", "condition", "unknown_step"),
        ("each", "items", "unknown_variable"),
        ("each", "params.a", "unknown_variable"),
        ("open", "params.b.c", "bad_expression"),
    }
    assert any("$${ stands for" in one.message for one in found)


def test_any_parameter_may_be_named_when_none_are_declared() -> None:
    document = Document(name="w", steps=[_step("a", params={"x": "${params.anything}"})])
    assert expressions.complaints(document) == []


def test_parameters_that_nobody_names_are_found() -> None:
    steps = [_step("a", params={"x": "${params.region}"})]
    parameters = [Parameter(name="region"), Parameter(name="week")]
    assert expressions.unused_parameters(Document(name="w", parameters=parameters, steps=steps)) == ["week"]
    whole = [_step("a", params={"x": "${params}"})]
    assert expressions.unused_parameters(Document(name="w", parameters=parameters, steps=whole)) == []


def test_samples_are_made_where_all_types_are_known() -> None:
    declared = [Parameter(name="n", type="number"), Parameter(name="s"), Parameter(name="o", type="object")]

    def samples(expression: str) -> tuple[list[dict[str, Any]], str]:
        place = expressions.Place(step="a", field="condition", expression=expression, wants="condition")
        found, wants = expressions.samples(place, declared)
        return [one["params"] for one in found], wants

    assert samples("params.n > 1 && params.s == run.id") == ([{"n": 1, "s": "a"}, {"n": 1.5, "s": "a"}], "condition")
    assert samples("params.o.x") == ([{"o": {}}], "any")
    assert samples("true") == ([{}], "condition")
    for open_ended in ("params", "steps.a.output.x + params.n", "params.undeclared", "item"):
        assert samples(open_ended) == ([], "any")


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, dict):
        return {name: _escaped(one) for name, one in value.items()}
    return [_escaped(one) for one in value] if isinstance(value, list) else value


def _step(name: str, params: dict[str, Any]) -> Step:
    return Step(name=name, type="HANDLER", target_name="h", params=params)


def _document(*steps: Step) -> Document:
    return Document(name="w", parameters=[Parameter(name="region")], steps=list(steps))
