"""The parameters of a run: defaults overlaid by what was given, each of its type. Pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from rgrid.kernel.errors import Invalid
from rgrid.workflows.document import Parameter, ParameterType

_KINDS: Final[Mapping[ParameterType, tuple[tuple[type, ...], str]]] = {
    "string": ((str,), "a string"),
    "integer": ((int,), "an integer"),
    "number": ((int, float), "a number"),
    "boolean": ((bool,), "true or false"),
    "object": ((dict,), "an object"),
    "array": ((list,), "an array"),
}


def complete(
    parameters: Sequence[Parameter],
    defaults: Mapping[str, Any],
    given: Mapping[str, Any],
    provided: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The parameters of a run: what was given, and the defaults for what was not. `provided` comes from what starts the
    run (the item of a MAP, the due time of a schedule) and needs no declaration. Raises Invalid with every field."""
    values = {one.name: one.default for one in parameters if one.default is not None}
    values |= {**defaults, **given, **(provided or {})}
    wrong = [
        (f"params.{name}", message)
        for name, message in [*undeclared(parameters, defaults, given), *mismatches(parameters, values)]
    ]
    if wrong:
        named = ", ".join(dict.fromkeys(field.removeprefix("params.") for field, _ in wrong))
        raise Invalid(f"Some parameters are wrong: {named}.", code="invalid_params", fields=wrong)
    return values


def undeclared(
    parameters: Sequence[Parameter], defaults: Collection[str], given: Collection[str]
) -> list[tuple[str, str]]:
    """What was given although there is no such parameter. Where none are declared, all are welcome."""
    names = {one.name for one in parameters}
    return [(name, "There is no such parameter.") for name in given if names and name not in names.union(defaults)]


def mismatches(parameters: Sequence[Parameter], values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The parameters that are missing, or of another type than is declared, and why."""
    wrong: list[tuple[str, str]] = []
    for one in parameters:
        value = values.get(one.name)
        if value is None:
            wrong += [(one.name, "This parameter is required.")] if one.required else []
        elif expected := mismatch(one.type, value):
            wrong.append((one.name, f"Expected {expected}."))
    return wrong


def mismatch(kind: ParameterType, value: object) -> str | None:
    """What was expected instead; None when the value fits."""
    if kind == "date":
        return None if _parses(date.fromisoformat, value) and len(str(value)) == 10 else "a date such as 2026-01-31"
    if kind == "datetime":
        aware = _parses(datetime.fromisoformat, value) and datetime.fromisoformat(str(value)).tzinfo is not None
        return None if aware else "a time with its offset, such as 2026-01-31T06:00:00Z"
    types, said = _KINDS[kind]
    fits = isinstance(value, types) and (kind == "boolean" or not isinstance(value, bool))
    is_whole = kind == "integer" and isinstance(value, float) and value.is_integer()
    return None if fits or is_whole else said


def _parses(parse: Callable[[str], object], value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parse(value)
    except ValueError:
        return False
    return True
