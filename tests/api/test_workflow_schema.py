"""The published JSON Schema of definitions says what the interface takes."""

import re
from typing import Any

import pytest
from api.one_service import Live
from api.workflow_texts import YAML, definition, wait

from rgrid.adapters.yaml_source import read
from rgrid.api import workflow_schema
from rgrid.workflows.document import ALIASES
from rgrid.workflows.step_rules import REQUIRED


def test_the_schema_is_served_to_everybody(idle: Live) -> None:
    answer = idle.call("GET", "/schema/workflow.json", None)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/schema+json")
    assert answer.content == workflow_schema.published()


@pytest.mark.parametrize(
    "body", [read(YAML).data, definition(wait("a", signal="go")), definition(name="x", tags=["a"])]
)
def test_what_the_interface_takes_fits_the_schema(body: dict[str, Any]) -> None:
    assert misfits(body, workflow_schema.schema()) == []


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "steps"),
        (definition(bogus=1), "bogus"),
        (definition(wait("a", type="nope")), "steps[0].type"),
        (definition({"name": "a", "type": "choice"}), "steps[0].condition"),
        (definition({"name": "a", "type": "Map"}), "steps[0].type"),
        (definition({"name": "a", "type": "lambda"}), "steps[0].target_name"),
        (definition(wait("a", duration_seconds=-1)), "steps[0].duration_seconds"),
        (definition(wait("a" * 101)), "steps[0].name"),
    ],
)
def test_what_does_not_fit_is_seen_by_editors(body: dict[str, Any], path: str) -> None:
    assert path in misfits(body, workflow_schema.schema())


def test_every_spelling_of_a_type_needs_the_same_fields() -> None:
    for kind, fields in REQUIRED.items():
        for spelling in (kind, kind.lower(), *(alias for alias, meant in ALIASES.items() if meant == kind)):
            found = misfits(definition({"name": "a", "type": spelling}), workflow_schema.schema())
            assert found == [f"steps[0].{field}" for field in fields]


def misfits(value: Any, schema: dict[str, Any]) -> list[str]:
    """The paths of what doesn't fit: as much of JSON Schema as the schema makes use of."""
    return list(dict.fromkeys(_misfits(value, schema, "", schema["$defs"])))


def _misfits(value: Any, schema: dict[str, Any], path: str, parts: dict[str, Any]) -> list[str]:
    if "$ref" in schema:
        return _misfits(value, parts[schema["$ref"].removeprefix("#/$defs/")], path, parts)
    found: list[str] = []
    if "anyOf" in schema:
        tried = [_misfits(value, option, path, parts) for option in schema["anyOf"]]
        found += [] if [] in tried else max(tried, key=len)
    if "enum" in schema and value not in schema["enum"]:
        found.append(path)
    if not _is_a(value, schema.get("type")) or not _is_within(value, schema):
        return [*found, path]
    if isinstance(value, list):
        for index, one in enumerate(value):
            found += _misfits(one, schema.get("items", {}), f"{path}[{index}]", parts)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        at = f"{path}." if path else ""
        found += [at + name for name in schema.get("required", ()) if name not in value]
        if schema.get("additionalProperties") is False:
            found += [at + name for name in value if name not in properties]
        for name, one in value.items():
            found += _misfits(one, properties.get(name, {}), at + name, parts)
        for rule in schema.get("allOf", ()):
            if not _misfits(value, rule["if"], path, parts):
                found += _misfits(value, rule["then"], path, parts)
    return found


def _is_a(value: Any, kind: str | None) -> bool:
    kinds = {"string": str, "object": dict, "array": list, "boolean": bool, "null": type(None), "integer": int}
    if kind == "number":
        return isinstance(value, int | float)
    return kind is None or (isinstance(value, kinds[kind]) and (kind != "integer" or not isinstance(value, bool)))


def _is_within(value: Any, schema: dict[str, Any]) -> bool:
    if isinstance(value, int | float):
        return schema.get("minimum", value) <= value <= schema.get("maximum", value)
    if isinstance(value, str):
        fits = re.search(schema.get("pattern", ""), value) is not None
        return fits and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
    if isinstance(value, list):
        return bool(schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)))
    return True
