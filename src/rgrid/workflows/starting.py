"""From a wish to run a workflow to the command that begins a run of it: the version, its parameters, what is reused."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from rgrid.eventstore.handle import Handler
from rgrid.kernel.errors import NotFound, Rejected
from rgrid.workflows import retrying
from rgrid.workflows.commands import TriggerRun
from rgrid.workflows.definition import DECIDER as DEFINITION
from rgrid.workflows.events import Parent, RunTrigger, WorkflowDefined
from rgrid.workflows.parameters import complete
from rgrid.workflows.run import DECIDER as RUN

DEPTH_MAX: Final = 20


async def triggered(
    handler: Handler,
    run_id: str,
    name: str,
    params: Mapping[str, Any],
    *,
    trigger: RunTrigger,
    triggered_by: str,
    provided: Mapping[str, Any] | None = None,
    version: int | None = None,
    partition: str | None = None,
    dry_run: bool = False,
    parent: Parent | None = None,
    schedule_id: str | None = None,
    schedule_run_id: str | None = None,
    due_at: datetime | None = None,
) -> TriggerRun:
    """The command for a run of a workflow, of its newest version unless another one is named. `provided` are
    parameters that need no declaration (the item of a MAP, the due time of a schedule). Raises NotFound, Rejected
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
        params=complete(definition.parameters, definition.defaults, params, provided),
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
    retry = retrying.retried(old, from_step)
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
        from_step=retry.from_step,
        restored=dict(retry.restored),
    )


def _check_ancestors(name: str, parent: Parent) -> None:
    if name in parent.ancestors:
        path = " → ".join([*parent.ancestors, name])
        raise Rejected(f"A workflow can't run within itself: {path}.", code="recursive_workflow")
    if len(parent.ancestors) > DEPTH_MAX:
        raise Rejected(f"Workflows are nested more than {DEPTH_MAX} deep.", code="recursive_workflow")
