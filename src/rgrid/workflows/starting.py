"""From a wish to run a workflow to the command that begins a run of it: the version, its parameters, what is reused."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from rgrid.eventstore.handle import Handler
from rgrid.kernel.errors import Invalid, NotFound, Rejected
from rgrid.workflows.commands import TriggerRun
from rgrid.workflows.definition import DECIDER as DEFINITION
from rgrid.workflows.document import Parameter, ParameterType
from rgrid.workflows.events import Parent, RunTrigger, WorkflowDefined
from rgrid.workflows.run import DECIDER as RUN
from rgrid.workflows.run_state import Run

DEPTH_MAX: Final = 20
_KINDS: Final[dict[ParameterType, tuple[tuple[type, ...], str]]] = {
    "string": ((str,), "a string"),
    "integer": ((int,), "an integer"),
    "number": ((int, float), "a number"),
    "boolean": ((bool,), "true or false"),
    "object": ((dict,), "an object"),
    "array": ((list,), "an array"),
}


async def triggered(
    handler: Handler,
    run_id: str,
    name: str,
    params: Mapping[str, Any],
    *,
    trigger: RunTrigger,
    triggered_by: str,
    version: int | None = None,
    partition: str | None = None,
    dry_run: bool = False,
    parent: Parent | None = None,
    schedule_id: str | None = None,
    schedule_run_id: str | None = None,
    due_at: datetime | None = None,
) -> TriggerRun:
    """The command for a run of a workflow, of its newest version unless another one is named. Raises NotFound, Rejected
    `workflow_inactive` or `recursive_workflow`, Invalid with every parameter that is wrong."""
    definition = await runnable(handler, name, version)
    if parent is not None:
        _check_ancestors(name, parent)
    return TriggerRun(
        run_id=run_id,
        workflow_name=name,
        workflow_version=definition.version,
        document_sha256=definition.document_sha256,
        domain=definition.domain,
        outlines=definition.outlines,
        policy=definition.policy,
        params=complete(definition.parameters, definition.defaults, params),
        partition=partition,
        trigger=trigger,
        triggered_by=triggered_by,
        dry_run=dry_run,
        parent=parent,
        schedule_id=schedule_id,
        schedule_run_id=schedule_run_id,
        due_at=due_at,
    )


async def runnable(handler: Handler, name: str, version: int | None = None) -> WorkflowDefined:
    """The version that a run would be of. Raises NotFound, Rejected `workflow_inactive`."""
    workflow, _ = await handler.load(DEFINITION, name)
    if not workflow.exists:
        raise NotFound(f"Workflow not found: {name}")
    if version is not None and version not in workflow.versions:
        raise NotFound(f"Workflow {name} has no version {version}.")
    if not workflow.is_active:
        raise Rejected(f"Workflow {name} is inactive: runs can't be triggered.", code="workflow_inactive")
    return workflow.newest if version is None else workflow.versions[version]


async def retried(
    handler: Handler, old_run_id: str, run_id: str, *, from_step: str | None, triggered_by: str
) -> TriggerRun:
    """The command for a run that does an earlier one once more from a step on; without a step, from the first that
    failed or was cancelled. Raises NotFound, Rejected, Invalid `unknown_step`."""
    old, _ = await handler.load(RUN, old_run_id)
    if old.triggered is None:
        raise NotFound(f"Workflow run not found: {old_run_id}")
    start = _start_of_retry(old, old_run_id, from_step)
    again = {start, *old.plan.after(start)}
    asked = old.asked
    return TriggerRun(
        run_id=run_id,
        workflow_name=asked.workflow_name,
        workflow_version=asked.workflow_version,
        document_sha256=asked.document_sha256,
        domain=asked.domain,
        outlines=asked.outlines,
        policy=asked.policy,
        params=asked.params,
        partition=asked.partition,
        trigger="RETRY",
        triggered_by=triggered_by,
        retry_of=old_run_id,
        from_step=start,
        restored={
            name: None if step.outputs is None else dict(step.outputs)
            for name, step in old.steps.items()
            if step.has_output and name not in again
        },
    )


def complete(parameters: Sequence[Parameter], defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a run: what was given, and the defaults for what was not. Raises Invalid with every field."""
    values = {one.name: one.default for one in parameters if one.default is not None} | {**defaults, **given}
    wrong = [("params." + one.name, "This parameter is required.") for one in parameters if _lacks(one, values)]
    if parameters:
        names = {one.name for one in parameters}
        wrong += [(f"params.{name}", "There is no such parameter.") for name in given if name not in names]
    for one in parameters:
        value = values.get(one.name)
        if value is not None and (expected := _mismatch(one.type, value)):
            wrong.append((f"params.{one.name}", f"Expected {expected}."))
    if wrong:
        names_of = ", ".join(field.removeprefix("params.") for field, _ in wrong)
        raise Invalid(f"Some parameters are wrong: {names_of}.", code="invalid_params", fields=wrong)
    return values


def _lacks(parameter: Parameter, values: Mapping[str, Any]) -> bool:
    return parameter.required and values.get(parameter.name) is None


def _mismatch(kind: ParameterType, value: object) -> str | None:
    """What was expected instead, None when it fits."""
    if kind == "date":
        return None if _parses(date.fromisoformat, value) and len(str(value)) == 10 else "a date such as 2026-01-31"
    if kind == "datetime":
        aware = _parses(datetime.fromisoformat, value) and datetime.fromisoformat(str(value)).tzinfo is not None
        return None if aware else "a time with its offset, such as 2026-01-31T06:00:00Z"
    types, said = _KINDS[kind]
    fits = isinstance(value, types) and (kind == "boolean" or not isinstance(value, bool))
    is_whole = kind == "integer" and isinstance(value, float) and value.is_integer()
    return None if fits or is_whole else said


def _parses(parse: Any, value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parse(value)
    except ValueError:
        return False
    return True


def _check_ancestors(name: str, parent: Parent) -> None:
    if name in parent.ancestors:
        path = " → ".join([*parent.ancestors, name])
        raise Rejected(f"A workflow can't run within itself: {path}.", code="recursive_workflow")
    if len(parent.ancestors) > DEPTH_MAX:
        raise Rejected(f"Workflows are nested more than {DEPTH_MAX} deep.", code="recursive_workflow")


def _start_of_retry(old: Run, old_run_id: str, from_step: str | None) -> str:
    if not old.is_ended or (old.status == "COMPLETED" and from_step is None):
        why = "has nothing that failed; name from_step" if old.is_ended else "can't be retried before it has ended"
        raise Rejected(f"Workflow run {old_run_id} is {old.status} and {why}.", extra={"current_status": old.status})
    if from_step is None:
        return next(
            (name for name, step in old.steps.items() if step.status in ("FAILED", "CANCELLED")),
            # It was cancelled before anything began, or while nothing was under way.
            next((name for name, step in old.steps.items() if step.is_left_out), old.plan.order[0]),
        )
    if from_step not in old.steps:
        raise Invalid(
            f"The run has no step {from_step}.",
            code="unknown_step",
            fields=[("from_step", f"One of {', '.join(old.plan.order[:20])}.")],
        )
    return from_step
