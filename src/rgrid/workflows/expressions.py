"""Where a definition holds expressions, and what each one refers to: what can be said before anything runs.

Conditions, `until` and `items` are expressions; parameters hold them as `${…}`. The variables are `params`, `steps`,
`run`, and in the parameters of a MAP its item and `index`.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, Literal

import msgspec

from rgrid.kernel.placeholders import BadPlaceholder, holes, paths_in
from rgrid.workflows.document import Document, Parameter, Step

Wants = Literal["any", "condition", "time", "list"]
RUN_MEMBERS: Final = ("id", "partition")
STEP_MEMBERS: Final = ("output", "status")
_SAMPLES: Final[Mapping[str, list[Any]]] = {
    "string": ["a"],
    "integer": [1],
    "number": [1, 1.5],
    "boolean": [True],
    "date": ["2026-01-09"],
    "datetime": ["2026-01-09T00:00:00Z"],
    "array": [[]],
    "object": [{}],
}
_SCALARS: Final = frozenset({"string", "integer", "number", "boolean", "date", "datetime"})


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """An expression of a definition: `field` is its path within the step, as in `params.args[0]`."""

    step: str
    field: str
    expression: str
    wants: Wants = "any"
    variables: tuple[str, ...] = ("params", "steps", "run")


class Complaint(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong at a place. `code` is `bad_expression`, `unknown_step`, `unknown_parameter`, `unknown_variable` or
    `not_earlier`."""

    code: str
    message: str
    step: str
    field: str


class References(msgspec.Struct, frozen=True):
    """What an expression refers to. None: all of them, or some that only its evaluation can tell."""

    params: frozenset[str] | None
    steps: frozenset[str] | None
    others: frozenset[str]


def places(document: Document) -> tuple[list[Place], list[Complaint]]:
    """Every expression there is, and the placeholders that hold none."""
    found: list[Place] = []
    wrong: list[Complaint] = []
    for step in document.steps:
        found += _own(step)
        more = (step.item_name, "index") if step.type == "MAP" else ()
        try:
            for path, expression in holes(step.params):
                names = ("params", "steps", "run", *more)
                found.append(Place(step=step.name, field=f"params.{path}", expression=expression, variables=names))
        except BadPlaceholder as bad:
            wrong.append(Complaint(code="bad_expression", message=str(bad), step=step.name, field=f"params.{bad.path}"))
    return found, wrong


def references(expression: str) -> References:
    """What an expression of a definition refers to."""
    paths = paths_in(expression)
    return References(
        params=_members(paths, "params"),
        steps=_members(paths, "steps"),
        others=frozenset(path[0] for path in paths) - {"params", "steps"},
    )


def complaints(document: Document) -> list[Complaint]:
    """Everything wrong with what the expressions refer to. Their spelling is for an evaluator to judge, with the
    `samples` of each."""
    found, wrong = places(document)
    listed = {step.name: index for index, step in reversed(list(enumerate(document.steps)))}
    declared = {parameter.name for parameter in document.parameters}
    for place in found:
        wrong += [
            Complaint(code=code, message=message, step=place.step, field=place.field)
            for code, message in _refused(place, listed, declared)
        ]
    return wrong


def unused_parameters(document: Document) -> list[str]:
    """Those declared that no expression names; none when one takes the parameters as a whole."""
    named = [references(place.expression).params for place in places(document)[0]]
    if any(names is None for names in named):
        return []
    used = frozenset[str]().union(*(names for names in named if names is not None))
    return [parameter.name for parameter in document.parameters if parameter.name not in used]


def samples(place: Place, parameters: Collection[Parameter]) -> tuple[list[dict[str, Any]], Wants]:
    """Values that its variables might have, so that trying them out tells whether its types go together, and what must
    come of it. None when it refers to something whose type is known only when it runs."""
    used = references(place.expression)
    kinds = {parameter.name: parameter.type for parameter in parameters}
    if used.params is None or used.steps is None or used.steps or used.others - {"run"} or used.params - kinds.keys():
        return [], "any"
    run = {"id": "run_00000000000000000000000000", "partition": None}
    found = [
        {"params": {name: _SAMPLES[kinds[name]][-1 if last else 0] for name in used.params}, "run": run}
        for last in ((False, True) if any(kinds[name] == "number" for name in used.params) else (False,))
    ]
    # What is in a list or an object nobody knows, so what comes of it may be anything.
    return found, place.wants if all(kinds[name] in _SCALARS for name in used.params) else "any"


def _own(step: Step) -> Iterator[Place]:
    own: tuple[tuple[str, str | None, Wants], ...] = (
        ("condition", step.condition, "condition"),
        ("until", step.until, "time"),
        ("items", step.items, "list"),
    )
    for field, expression, wants in own:
        if expression is not None:
            yield Place(step=step.name, field=field, expression=expression, wants=wants)


def _members(paths: Collection[tuple[str, ...]], name: str) -> frozenset[str] | None:
    of_it = [path for path in paths if path[0] == name]
    return None if any(len(path) == 1 for path in of_it) else frozenset(path[1] for path in of_it)


def _refused(place: Place, listed: Mapping[str, int], declared: Collection[str]) -> Iterator[tuple[str, str]]:
    here = listed.get(place.step, len(listed))
    for name, *members in sorted(paths_in(place.expression)):
        if name not in place.variables:
            known = ", ".join(place.variables)
            yield "unknown_variable", f"There is no variable {name} here, only {known}; $${{ stands for the text ${{."
        elif not members:
            continue
        elif name == "params" and declared and members[0] not in declared:
            yield "unknown_parameter", f"No parameter {members[0]} is declared."
        elif name == "run" and members[0] not in RUN_MEMBERS:
            yield "unknown_variable", f"A run has {' and '.join(RUN_MEMBERS)}, not {members[0]}."
        elif name == "steps" and members[0] not in listed:
            yield "unknown_step", f"There is no step {members[0]}."
        elif name == "steps" and listed[members[0]] >= here:
            yield "not_earlier", f"Step {members[0]} doesn't come before {place.step}."
        elif name == "steps" and len(members) > 1 and members[1] not in STEP_MEMBERS:
            yield "unknown_variable", f"A step has {' and '.join(STEP_MEMBERS)}, not {members[1]}."
