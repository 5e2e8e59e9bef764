"""Everything that can be said against a definition before it runs, all at once. Pure: what only the surroundings tell
(which handlers there are, whether an expression can be read) comes along as `Known`."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from rgrid.workflows import expressions
from rgrid.workflows.document import Document, Parameter, Step, outline
from rgrid.workflows.expressions import Complaint
from rgrid.workflows.issues import Issue, StepAt
from rgrid.workflows.parameters import mismatch
from rgrid.workflows.plan import Plan, cycle, plan_of
from rgrid.workflows.step_rules import fields_of_type, handler_params, target_params

LITERALS: Final = {"true": True, "false": False}
NESTED_MAX: Final = 1000


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow that a step may start: the workflows that its own steps start, and what it takes."""

    targets: Collection[str] = ()
    parameters: Sequence[Parameter] = ()
    defaults: Mapping[str, Any] = {}


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What a definition may name: handlers with the JSON Schema of their parameters, sources, workflows. `templates`
    has what is wrong with the execution template of a step, by the step's place in the list; `misspelt` what an
    evaluator said against the spelling and the types of expressions."""

    handlers: Mapping[str, Mapping[str, Any]] = {}
    sources: Collection[str] = ()
    workflows: Mapping[str, Target] = {}
    templates: Mapping[int, Sequence[tuple[str, str]]] = {}
    misspelt: Sequence[Complaint] = ()


def problems(document: Document, known: Known) -> tuple[list[Issue], list[Issue]]:
    """The errors and the warnings, each in the order of the document."""
    plan = plan_of([outline(step) for step in document.steps], document.policy)
    errors = [*_parameters(document), *_names(document)]
    for index, step in enumerate(document.steps):
        at = StepAt(index, step.name)
        errors += fields_of_type(at, step)
        errors += _order(at, step, document)
        errors += _target(at, step, document, known)
        errors += [at.issue("bad_template", why, f"params.{path}") for path, why in known.templates.get(index, ())]
    errors += _ring(document, plan)
    errors += _of_expressions(document, [*expressions.complaints(document), *known.misspelt])
    return errors, [*_unreachable(document, plan), *_unordered(document, plan), *_unused(document), *_untimed(document)]


def _parameters(document: Document) -> Iterator[Issue]:
    seen: set[str] = set()
    for index, one in enumerate(document.parameters):
        if one.name in seen:
            yield Issue(
                "duplicate_parameter", f"There are two parameters {one.name}.", None, f"parameters[{index}].name"
            )
        seen.add(one.name)
        expected = None if one.default is None else mismatch(one.type, one.default)
        if expected:
            yield Issue("bad_default", f"Expected {expected}.", None, f"parameters[{index}].default")
        value = document.defaults.get(one.name)
        expected = None if value is None else mismatch(one.type, value)
        if expected:
            yield Issue("bad_default", f"Expected {expected}.", None, f"defaults.{one.name}")


def _names(document: Document) -> Iterator[Issue]:
    seen: set[str] = set()
    for index, step in enumerate(document.steps):
        if step.name in seen:
            yield StepAt(index, step.name).issue("duplicate_step", f"There are two steps {step.name}.", "name")
        seen.add(step.name)


def _order(at: StepAt, step: Step, document: Document) -> Iterator[Issue]:
    """What a step waits for comes earlier, what a choice leads to comes later."""
    listed = _listed(document)
    for index, name in enumerate(step.depends_on or ()):
        field = f"depends_on[{index}]"
        if name not in listed:
            yield at.issue("unknown_step", f"There is no step {name}.", field)
        elif listed[name] >= at.index:
            yield at.issue("not_earlier", f"Step {name} doesn't come before {step.name} in the list.", field)
    if step.type != "CHOICE":
        return
    for field, target in (("then_step", step.then_step), ("else_step", step.else_step)):
        if target is None:
            continue
        if target not in listed:
            yield at.issue("unknown_step", f"There is no step {target}.", field)
        elif listed[target] <= at.index:
            yield at.issue("not_later", f"Step {target} doesn't come after {step.name} in the list.", field)
        elif chooser := _chooser_before(document, at.index, target):
            yield at.issue("target_of_two_choices", f"Step {target} is a target of {chooser} already.", field)
    if step.then_step is not None and step.then_step == step.else_step:
        yield at.issue("same_target", "Both targets are the same step, so there is nothing to choose.", "else_step")


def _chooser_before(document: Document, index: int, target: str) -> str | None:
    earlier = (step for step in document.steps[:index] if step.type == "CHOICE")
    return next((step.name for step in earlier if target in (step.then_step, step.else_step)), None)


def _listed(document: Document) -> Mapping[str, int]:
    """Where each step stands; of two with the same name the first."""
    return {step.name: index for index, step in reversed(list(enumerate(document.steps)))}


def _target(at: StepAt, step: Step, document: Document, known: Known) -> Iterator[Issue]:
    name = step.target_name
    if name is None:
        return
    if step.type == "HANDLER":
        if name not in known.handlers:
            yield at.issue("unknown_handler", f"No installed package registers the handler {name}.", "target_name")
        else:
            yield from handler_params(at, step, known.handlers[name])
    elif step.type == "SOURCE" and name not in known.sources:
        yield at.issue("unknown_source", f"There is no source {name}.", "target_name")
    elif step.type in ("WORKFLOW", "MAP"):
        if _leads_back(name, document.name, known.workflows):
            yield at.issue("recursive_workflow", f"{name} would run {document.name} within itself.", "target_name")
        elif name not in known.workflows:
            yield at.issue("unknown_workflow", f"There is no workflow {name}.", "target_name")
        else:
            target = known.workflows[name]
            yield from target_params(at, step, target.parameters, target.defaults)


def _leads_back(name: str, home: str, workflows: Mapping[str, Target]) -> bool:
    """Whether a run of the workflow could come to start one of the workflow that is being defined."""
    ahead, seen = [name], {name}
    while ahead and len(seen) <= NESTED_MAX:
        here = ahead.pop()
        if here == home:
            return True
        fresh = set(workflows[here].targets) - seen if here in workflows else set()
        seen |= fresh
        ahead += sorted(fresh)
    return False


def _ring(document: Document, plan: Plan) -> Iterator[Issue]:
    ring = list(cycle(plan))
    # Where two steps share a name, nobody can say which of them waits.
    if ring and len(plan.order) == len(document.steps):
        listed = _listed(document)
        first = min(ring, key=lambda name: listed[name])
        begin = ring.index(first)
        path = " → ".join([*ring[begin:], *ring[:begin], first])
        yield StepAt(listed[first], first).issue("cycle", f"Steps wait for each other: {path}.", None)


def _of_expressions(document: Document, complaints: Sequence[Complaint]) -> Iterator[Issue]:
    listed = _listed(document)
    for one in complaints:
        yield StepAt(listed[one.step], one.step).issue(one.code, one.message, one.field)


def _unreachable(document: Document, plan: Plan) -> Iterator[Issue]:
    """Branches that a condition without a question never takes, and what depends on nothing else."""
    never: set[str] = set()
    for step in document.steps:
        always = LITERALS.get((step.condition or "").strip()) if step.type == "CHOICE" else None
        if always is not None:
            never |= {name for name in (step.else_step if always else step.then_step,) if name is not None}
    for index, step in enumerate(document.steps):
        edges = [edge for edge in plan.waits_for[step.name] if edge.kind != "SEQUENCE"]
        if edges and all(edge.source in never for edge in edges):
            never.add(step.name)
        if step.name in never:
            yield StepAt(index, step.name).issue("unreachable", f"Step {step.name} can never run.", None)


def _unordered(document: Document, plan: Plan) -> Iterator[Issue]:
    """References to steps that may not have ended when they are evaluated, because nothing makes the step wait."""
    listed = _listed(document)
    for place in expressions.places(document)[0]:
        here = listed[place.step]
        named = expressions.references(place.expression).steps or frozenset()
        for name in sorted(named & listed.keys()):
            if listed[name] < here and place.step not in plan.after(name):
                told = f"Step {place.step} doesn't wait for {name}: name it in depends_on."
                yield StepAt(here, place.step).issue("unordered_reference", told, place.field)


def _unused(document: Document) -> Iterator[Issue]:
    unused = set(expressions.unused_parameters(document))
    for index, one in enumerate(document.parameters):
        if one.name in unused:
            yield Issue("unused_parameter", f"No expression uses {one.name}.", None, f"parameters[{index}].name")


def _untimed(document: Document) -> Iterator[Issue]:
    if document.policy.timeout_seconds is not None:
        return
    for index, step in enumerate(document.steps):
        waits_for_somebody = step.type == "WAIT" and step.duration_seconds is None and step.until is None
        own = step.timeout_seconds or (step.params.get("timeout_seconds") if step.type == "EXECUTION" else None)
        if own is None and (waits_for_somebody or step.type not in ("CHOICE", "ALERT", "WAIT")):
            told = "Neither this step nor the run has a timeout."
            yield StepAt(index, step.name).issue("missing_timeout", told, "timeout_seconds")
