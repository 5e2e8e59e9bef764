"""What steps of each type must say and mustn't: fields that belong together, parameters that the target takes. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, get_args

from rgrid.workflows.alert_request import AlertParams
from rgrid.workflows.document import Parameter, Step, StepType
from rgrid.workflows.events import Severity
from rgrid.workflows.issues import Issue, StepAt
from rgrid.workflows.parameters import mismatch, undeclared

REQUIRED: Final[Mapping[StepType, Sequence[str]]] = {
    "SOURCE": ("target_name",),
    "WORKFLOW": ("target_name",),
    "HANDLER": ("target_name",),
    "CHOICE": ("condition", "then_step"),
    "MAP": ("target_name", "items"),
}
OWNERS: Final[Mapping[str, frozenset[StepType]]] = {
    "target_name": frozenset({"SOURCE", "WORKFLOW", "HANDLER", "MAP"}),
    "condition": frozenset({"CHOICE"}),
    "then_step": frozenset({"CHOICE"}),
    "else_step": frozenset({"CHOICE"}),
    "duration_seconds": frozenset({"WAIT"}),
    "until": frozenset({"WAIT"}),
    "signal": frozenset({"WAIT"}),
    "items": frozenset({"MAP"}),
    "item_name": frozenset({"MAP"}),
    "max_concurrency": frozenset({"MAP"}),
    "params": frozenset({"EXECUTION", "SOURCE", "WORKFLOW", "HANDLER", "ALERT", "MAP"}),
    "quality": frozenset({"EXECUTION", "SOURCE", "WORKFLOW", "HANDLER", "MAP"}),
    "cache_seconds": frozenset({"EXECUTION", "SOURCE", "WORKFLOW", "HANDLER", "MAP"}),
}
"""The types that a field belongs to; a field that isn't here belongs to all."""
UNSAID: Final[Mapping[str, Any]] = {"item_name": "item", "max_concurrency": 4, "params": {}}
"""The value of a field that nobody wrote; of the others it is None."""
_JSON_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}


def fields_of_type(at: StepAt, step: Step) -> Iterator[Issue]:
    """Fields that the type needs are there, those of other types are not."""
    for field in REQUIRED.get(step.type, ()):
        if getattr(step, field) is None:
            yield at.issue("missing_field", f"A {step.type} step needs {field}.", field)
    for field, owners in OWNERS.items():
        if step.type not in owners and getattr(step, field) != UNSAID.get(field):
            yield at.issue("unexpected_field", f"{field} means nothing in a {step.type} step.", field)
    match step.type:
        case "WAIT":
            yield from _wait(at, step)
        case "ALERT":
            yield from _alert(at, step)
        case "EXECUTION" if not step.params:
            yield at.issue("missing_field", "An EXECUTION step needs params: the script and how to run it.", "params")


def _wait(at: StepAt, step: Step) -> Iterator[Issue]:
    if step.duration_seconds is None and step.until is None and step.signal is None:
        told = "A WAIT step needs duration_seconds, until or signal."
        yield at.issue("missing_field", told, "duration_seconds")
    if step.duration_seconds is not None and step.until is not None:
        yield at.issue("unexpected_field", "A WAIT step has duration_seconds or until, not both.", "until")


def _alert(at: StepAt, step: Step) -> Iterator[Issue]:
    for name in step.params:
        if name not in AlertParams.__struct_fields__:
            yield at.issue("unknown_parameter", f"An alert has no {name}.", f"params.{name}")
    if "title" not in step.params:
        yield at.issue("missing_parameter", "An alert needs a title.", "params.title")
    severity = step.params.get("severity", "ERROR")
    if severity not in get_args(Severity) and not is_open(severity):
        yield at.issue("bad_parameter", f"Expected one of {', '.join(get_args(Severity))}.", "params.severity")


def target_params(
    at: StepAt, step: Step, parameters: Sequence[Parameter], defaults: Mapping[str, Any]
) -> Iterator[Issue]:
    """What a child run is given, against the parameters that its workflow declares."""
    for name, why in undeclared(parameters, defaults, step.params):
        yield at.issue("unknown_parameter", why, f"params.{name}")
    provided = {step.item_name, "index"} if step.type == "MAP" else set()
    for one in parameters:
        value = step.params.get(one.name, defaults.get(one.name, one.default))
        if value is None:
            if one.required and one.name not in provided:
                told = f"{step.target_name} needs the parameter {one.name}."
                yield at.issue("missing_parameter", told, f"params.{one.name}")
        elif one.name in step.params and not is_open(value) and (expected := mismatch(one.type, value)):
            yield at.issue("bad_parameter", f"Expected {expected}.", f"params.{one.name}")


def handler_params(at: StepAt, step: Step, schema: Mapping[str, Any]) -> Iterator[Issue]:
    """What a handler is given, against the names and plain types of its schema; the rest is found out by the call."""
    properties: Mapping[str, Any] = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in step.params:
            told = f"{step.target_name} needs the parameter {name}."
            yield at.issue("missing_parameter", told, f"params.{name}")
    for name, value in step.params.items():
        if name not in properties:
            if schema.get("additionalProperties", True) is False:
                told = f"{step.target_name} has no parameter {name}."
                yield at.issue("unknown_parameter", told, f"params.{name}")
        elif not is_open(value) and not _fits(properties[name], value):
            told = f"Expected {properties[name]['type']}."
            yield at.issue("bad_parameter", told, f"params.{name}")


def _fits(schema: Mapping[str, Any], value: object) -> bool:
    kinds = _JSON_TYPES.get(schema["type"]) if isinstance(schema.get("type"), str) else None
    if kinds is None:
        return True
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def is_open(value: object) -> bool:
    """Whether a value, or something within it, is still to be evaluated."""
    match value:
        case str():
            return "${" in value
        case dict():
            return any(map(is_open, value.values()))
        case list():
            return any(map(is_open, value))
    return False
