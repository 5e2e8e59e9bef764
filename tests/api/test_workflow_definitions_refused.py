"""Definitions that can't be used: every broken rule is named, with its place, before anything runs."""

import re
from pathlib import Path
from typing import Any

import pytest
from api.one_service import Live
from api.workflow_texts import YAML, definition, script, wait

PATH = "/api/v1/workflows/definitions"
YAML_TYPE = {"content-type": "application/yaml"}


def validated(live: Live, body: dict[str, Any]) -> dict[str, Any]:
    answer = live.http.post(f"{PATH}/validate", json=body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def test_a_valid_definition_is_drawn(idle: Live) -> None:
    choice = {"name": "c", "type": "choice", "condition": "1 == 1", "then_step": "x", "else_step": "y"}
    result = validated(idle, definition(wait("a"), choice, wait("x"), wait("y"), wait("z")))
    assert (result["valid"], result["errors"]) == (True, [])
    assert [node["name"] for node in result["graph"]["nodes"]] == ["a", "c", "x", "y", "z"]
    edges = {(edge["source"], edge["target"], edge["kind"]) for edge in result["graph"]["edges"]}
    assert {("a", "c", "SEQUENCE"), ("c", "x", "THEN"), ("c", "y", "ELSE")} <= edges


def test_the_definition_of_the_documentation_is_valid(idle: Live) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/workflows.md").read_text()
    (text,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    result = idle.http.post(f"{PATH}/validate", content=text, headers=YAML_TYPE).json()
    assert (result["errors"], result["warnings"]) == ([], [])


@pytest.mark.parametrize("kind", ["handler", "Pipeline", "OPERATION", "lambda"])
def test_types_are_taken_in_any_case_and_by_their_old_names(idle: Live, kind: str) -> None:
    result = validated(idle, definition({"name": "a", "type": kind, "target_name": "nobody.registers"}))
    assert [one["code"] for one in result["errors"]] == ["unknown_handler"]
    assert result["graph"]["nodes"][0]["type"] == "HANDLER"


def test_every_broken_rule_is_reported_at_once(idle: Live) -> None:
    body = definition(
        script("a", "print('${params.nope}')"),
        wait("a", until="now()"),
        {"name": "c", "type": "CHOICE", "condition": "1 +", "then_step": "nowhere"},
        wait("d", depends_on=["e"]),
        {"name": "e", "type": "MAP", "target_name": "nothing", "items": "steps.zzz.output"},
        {"name": "f", "type": "SOURCE", "target_name": "nothing"},
        {"name": "g", "type": "EXECUTION", "params": {"script_content": "", "bogus": 1}},
        {"name": "h", "type": "WORKFLOW", "target_name": "selfish"},
        parameters=[{"name": "p", "type": "integer", "default": "x"}],
        name="selfish",
    )
    result = validated(idle, body)
    found = {(one["code"], one["field"]) for one in result["errors"]}
    assert result["valid"] is False
    assert {
        ("unknown_parameter", "steps[0].params.script_content"),
        ("duplicate_step", "steps[1].name"),
        ("unknown_step", "steps[2].then_step"),
        ("bad_expression", "steps[2].condition"),
        ("not_earlier", "steps[3].depends_on[0]"),
        ("unknown_workflow", "steps[4].target_name"),
        ("unknown_step", "steps[4].items"),
        ("unknown_source", "steps[5].target_name"),
        ("bad_template", "steps[6].params.bogus"),
        ("recursive_workflow", "steps[7].target_name"),
        ("bad_default", "parameters[0].default"),
    } <= found
    refused = idle.http.put(f"{PATH}/selfish", json=body)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_definition")
    assert {one["field"] for one in refused.json()["errors"]} == {field for _, field in found}
    assert {one["code"] for one in refused.json()["issues"]} == {code for code, _ in found}
    assert idle.http.get(f"{PATH}/selfish").status_code == 404


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("params.count > 'x'", "overload"),
        ("params.text + 1", "string + int"),
        ("params.count.nonsense()", "nonsense"),
        ("nonsense(params.count)", "nonsense"),
        ("params.count >", "column"),
        ("params.count", "true or false"),
        ("params.share * 2 > 1", "params.share = 1.5"),
        ("other.count > 1", "other"),
        ("run.nothing == 1", "nothing"),
    ],
)
def test_an_expression_is_checked_when_it_is_written(idle: Live, condition: str, said: str) -> None:
    body = definition(
        {"name": "c", "type": "CHOICE", "condition": condition, "then_step": "x"},
        wait("x"),
        parameters=[{"name": "count", "type": "integer"}, {"name": "text"}, {"name": "share", "type": "number"}],
    )
    errors = validated(idle, body)["errors"]
    assert [one["field"] for one in errors] == ["steps[0].condition"]
    assert said in errors[0]["message"]


def test_workflows_that_would_lead_back_to_themselves_are_refused(idle: Live) -> None:
    def starts(other: str) -> dict[str, Any]:
        return definition({"name": "go", "type": "WORKFLOW", "target_name": other})

    assert idle.http.put(f"{PATH}/ring.a", json=definition()).status_code == 201
    assert idle.http.put(f"{PATH}/ring.b", json=starts("ring.a")).status_code == 201
    assert idle.http.put(f"{PATH}/ring.c", json=starts("ring.b")).status_code == 201
    answer = idle.http.put(f"{PATH}/ring.a", json=starts("ring.c"))
    assert [one["code"] for one in answer.json()["issues"]] == ["recursive_workflow"]


def test_warnings_do_not_refuse(idle: Live) -> None:
    never = {"name": "c", "type": "CHOICE", "condition": "true", "then_step": "a", "else_step": "b"}
    body = definition(never, wait("a"), wait("b"), script("s"), parameters=[{"name": "unused"}], policy=None)
    result = validated(idle, body)
    assert result["valid"] is True
    assert {one["code"] for one in result["warnings"]} == {"unreachable", "unused_parameter", "missing_timeout"}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"steps"}),
        ({"steps": []}, {"steps"}),
        ({"steps": [{"name": "", "type": "NOPE"}], "bogus": 1}, {"steps[0].name", "steps[0].type", "bogus"}),
        ({"steps": [wait("a", duration_seconds=-1, on_error="x")]}, {"steps[0].duration_seconds", "steps[0].on_error"}),
        ({"steps": [wait("a", retry={"jitter": 2, "a": 1})]}, {"steps[0].retry.jitter", "steps[0].retry.a"}),
        ({"steps": [wait("a", params={"x": "\u0000"})]}, {"steps[0].params.x"}),
        ({"steps": [wait("a")] * 201}, {"steps"}),
        ({"steps": [wait("a", type=7)]}, {"steps[0].type"}),
    ],
)  # fmt: skip
def test_the_wrong_shape_is_422_with_every_field(idle: Live, body: dict[str, Any], fields: set[str]) -> None:
    for answer in (idle.http.post(f"{PATH}/validate", json=body), idle.http.put(f"{PATH}/shape", json=body)):
        assert answer.status_code == 422, answer.text
        assert {one["field"] for one in answer.json()["errors"]} == fields


def test_broken_yaml_is_refused_with_its_line(idle: Live) -> None:
    for text, line in (
        (YAML + "  - name: [", 26),
        ("steps:\n  - name: a\n    name: b\n", 3),
        ("a: !!python/name:os.system", 1),
    ):
        answer = idle.http.put(f"{PATH}/broken", content=text, headers=YAML_TYPE)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_yaml")
        assert f"line {line}" in answer.json()["detail"]
    for text in (b"\xff", b"", b"--- 1\n--- 2", b"[" * 5000):
        assert idle.http.put(f"{PATH}/broken", content=text, headers=YAML_TYPE).status_code == 400


def test_a_wrong_field_of_yaml_is_named_with_its_line(idle: Live) -> None:
    answer = idle.http.put(f"{PATH}/shape", content=YAML + "    on_error: ignore\n", headers=YAML_TYPE)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "steps[2].on_error"
    assert error["message"].startswith("Line 25: ")


def test_a_broken_rule_in_yaml_is_named_with_its_line(idle: Live) -> None:
    text = YAML.replace("then_step: dry off", "then_step: swim").replace("${params.day}", "${params.date}")
    refused = idle.http.put(f"{PATH}/ruled", content=text, headers=YAML_TYPE)
    assert refused.status_code == 400
    assert {(one["field"], one["line"]) for one in refused.json()["issues"]} == {
        ("steps[0].params.args[0]", 17),
        ("steps[1].then_step", 21),
    }
    assert {one["message"].split(":")[0] for one in refused.json()["errors"]} == {"Line 17", "Line 21"}
    checked = idle.http.post(f"{PATH}/validate", content=text, headers={"content-type": "text/yaml"}).json()
    assert {one["line"] for one in checked["errors"]} == {17, 21}


def test_another_media_type_is_refused(idle: Live) -> None:
    for kind in ("text/plain", "application/toml"):
        answer = idle.http.put(f"{PATH}/media", content=b"{}", headers={"content-type": kind})
        assert answer.status_code == 415


def test_hostile_expressions_hold_nobody_up(idle: Live) -> None:
    nested = "lists.range(9999).map(a, lists.range(9999).map(b, lists.range(9999).map(c, a * b * c)))"
    result = validated(
        idle, definition({"name": "c", "type": "CHOICE", "condition": nested, "then_step": "x"}, wait("x"))
    )
    assert result["valid"] is False
    assert "100 ms" in result["errors"][0]["message"]
    many = definition(*(script(f"s{n}", "${" + nested + "}") for n in range(20)))
    assert len(validated(idle, many)["errors"]) == 20


def test_large_definitions_come_back_as_they_were(idle: Live) -> None:
    long = "# " + "x" * 1_000_000
    body = definition(*(script(f"s{n}", long) for n in range(3)))
    assert idle.http.put(f"{PATH}/large", json=body).status_code == 201
    shown = idle.http.get(f"{PATH}/large").json()
    assert [step["params"]["script_content"] for step in shown["steps"]] == [long] * 3
