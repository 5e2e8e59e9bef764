"""How a workflow run and its steps are shown, from a row of the list or from what the log says of it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from projections.run_detail import Detail, RunStatus, StepStatus, Try
from rgrid.executions.logs import LogRow
from rgrid.kernel.ids import derived_id
from rgrid.web.operation import ActionResponse
from rgrid.workflows.document import ErrorCategory, StepType
from rgrid.workflows.events import RunTrigger, SkipReason

RETRYABLE: Final = frozenset({"TRANSIENT", "TIMEOUT", "NETWORK", "RATE_LIMIT", "DEPENDENCY"})
"""What may well work when it is tried again as it is."""


class PlannedStep(msgspec.Struct, kw_only=True):
    """What would become of a step: it runs, or the output that it had is taken over. Expected are the median of how
    long its last tries took and of what their executions cost, those of child runs included; null without any."""

    step_name: str
    step_type: StepType
    step_order: int
    action: Literal["run", "reuse"]
    expected_ms: int | None
    expected_cost_micros: int | None


class RetryPlan(msgspec.Struct, kw_only=True):
    """What a retry would do. `expected_ms` and the cost are of all steps that run again but those in `unknown`, which
    never came to their end before."""

    run_id: str
    workflow_name: str
    workflow_version: int
    from_step: str
    run_again: list[str]
    reused: list[str]
    expected_ms: int | None
    expected_cost_micros: int | None
    cost_display: str | None
    unknown: list[str]
    steps: list[PlannedStep]


class WorkflowTriggerResponse(msgspec.Struct, kw_only=True):
    """What was started. A dry run has its plan."""

    run_id: str
    workflow_name: str | None
    status: Literal["PENDING", "STARTED"]
    message: str
    target_type: Literal["EXECUTION", "WORKFLOW", "SOURCE"]
    schedule_run_id: str | None = None
    plan: list[PlannedStep] | None = None


class WorkflowRunSummary(msgspec.Struct, kw_only=True):
    """A row of the list."""

    run_id: str
    workflow_name: str
    workflow_version: int
    status: RunStatus
    domain: str | None
    partition_key: dict[str, Any] | None
    trigger: RunTrigger
    triggered_by: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    duration_ms: int | None
    duration_seconds: float | None
    total_steps: int
    completed_steps: int
    failed_steps: int
    skipped_steps: int
    step_count: int
    completed_step_count: int
    error: str | None


class WorkflowStepDetail(msgspec.Struct, kw_only=True):
    """One try of a step; one that has not begun is PENDING."""

    step_id: str
    run_id: str
    step_name: str
    step_type: StepType
    step_order: int
    status: StepStatus
    attempt: int
    max_attempts: int
    started_at: datetime | None
    completed_at: datetime | None
    duration_ms: int | None
    inputs: dict[str, Any] | None
    outputs: dict[str, Any] | None
    row_count: int | None
    warnings: list[str]
    error: str | None
    error_category: ErrorCategory | None
    skip_reason: SkipReason | None
    execution_id: str | None
    fetch_id: str | None
    child_run_ids: list[str]
    next_attempt_at: datetime | None
    wakes_at: datetime | None
    signal: str | None
    times_out_at: datetime | None
    items_total: int | None
    items_ended: int
    items_failed: int


class ReceivedSignal(msgspec.Struct, kw_only=True):
    """An event or an approval that somebody sent."""

    name: str
    sent_by: str
    received_at: datetime


class WorkflowRunDetail(WorkflowRunSummary, kw_only=True):
    """One run, with every try of its steps."""

    params: dict[str, Any]
    outputs: dict[str, Any]
    error_category: ErrorCategory | None
    error_retryable: bool | None
    failed_step: str | None
    rows_processed: int | None
    dry_run: bool
    retry_of: str | None
    from_step: str | None
    parent_run_id: str | None
    parent_step: str | None
    schedule_id: str | None
    schedule_run_id: str | None
    scheduled_at: datetime | None
    created_by: str | None
    cancel_requested_at: datetime | None
    cancel_reason: str | None
    paused_at: datetime | None
    pause_note: str | None
    times_out_at: datetime | None
    signals: list[ReceivedSignal]
    version: int
    steps: list[WorkflowStepDetail]


class RunLogRow(LogRow, frozen=True, kw_only=True):
    """A line of one of a run's executions, and whose it is."""

    run_id: str
    step_name: str
    step_attempt: int


class BulkItem(msgspec.Struct, kw_only=True):
    """What came of one run: `new_run_id` for a retry, `error` and `code` when it was refused."""

    run_id: str
    status: str
    new_run_id: str | None = None
    code: str | None = None
    error: str | None = None


class BulkResponse(msgspec.Struct, kw_only=True):
    """`matched` runs are meant by the filter, as many as the limit says were taken, oldest first."""

    dry_run: bool
    matched: int
    done: int
    refused: int
    runs: list[BulkItem]


def summary(row: Mapping[str, Any]) -> WorkflowRunSummary:
    """From a row of the read model."""
    partition = row["partition"]
    values = {name: row[name] for name in WorkflowRunSummary.__struct_fields__ if name in row}
    return WorkflowRunSummary(
        **values,
        partition_key=None if partition is None else msgspec.json.decode(partition),
        step_count=row["total_steps"],
        completed_step_count=row["completed_steps"],
    )


def detail(run: Detail, *, include_steps: bool) -> WorkflowRunDetail:
    """The whole of it, from the log."""
    spec, ended, duration_ms = run.spec, run.ended, run.duration_ms
    category = ended.error_category if ended else None
    completed = run.count("COMPLETED")
    return WorkflowRunDetail(
        run_id=run.run_id,
        workflow_name=spec.workflow_name,
        workflow_version=spec.workflow_version,
        status=run.status,
        domain=spec.domain,
        partition_key=None if spec.partition is None else msgspec.json.decode(spec.partition),
        trigger=spec.trigger,
        triggered_by=spec.triggered_by,
        created_at=spec.triggered_at,
        started_at=run.started_at,
        completed_at=ended.ended_at if ended else None,
        duration_ms=duration_ms,
        duration_seconds=None if duration_ms is None else duration_ms / 1000,
        total_steps=len(spec.outlines),
        completed_steps=completed,
        failed_steps=run.count("FAILED"),
        skipped_steps=run.count("SKIPPED"),
        step_count=len(spec.outlines),
        completed_step_count=completed,
        error=ended.error if ended else None,
        params=spec.params,
        outputs=run.outputs,
        error_category=category,
        error_retryable=None if category is None else category in RETRYABLE,
        failed_step=ended.failed_step if ended else None,
        rows_processed=ended.rows_processed if ended else None,
        **_origin(run),
        **_interventions(run),
        version=run.version,
        steps=[step(run, one) for one in run.tries] if include_steps else [],
    )


def _origin(run: Detail) -> dict[str, Any]:
    spec = run.spec
    return {
        "dry_run": spec.dry_run,
        "retry_of": spec.retry_of,
        "from_step": spec.from_step,
        "parent_run_id": spec.parent.run_id if spec.parent else None,
        "parent_step": spec.parent.step if spec.parent else None,
        "schedule_id": spec.schedule_id,
        "schedule_run_id": spec.schedule_run_id,
        "scheduled_at": spec.due_at,
        "created_by": spec.triggered_by,
        "times_out_at": spec.times_out_at,
    }


def _interventions(run: Detail) -> dict[str, Any]:
    asked, paused = run.cancel_requested, run.paused
    return {
        "cancel_requested_at": asked.requested_at if asked else None,
        "cancel_reason": asked.reason if asked else None,
        "paused_at": paused.paused_at if paused and not run.is_over else None,
        "pause_note": paused.note if paused and not run.is_over else None,
        "signals": [
            ReceivedSignal(name=one.name, sent_by=one.sent_by, received_at=one.received_at) for one in run.signals
        ],
    }


def step(run: Detail, one: Try) -> WorkflowStepDetail:
    shown = {name: getattr(one, name) for name in WorkflowStepDetail.__struct_fields__ if hasattr(one, name)}
    return WorkflowStepDetail(
        **shown,
        step_id=derived_id("step", int(run.spec.triggered_at.timestamp() * 1000), run.run_id, one.step, one.attempt),
        run_id=run.run_id,
        step_name=one.step,
        step_type=one.outline.type,
        step_order=one.order,
        error_category=one.category,
    )


def cancelled(run_id: str, status: str) -> ActionResponse:
    over = status == "CANCELLED"
    return ActionResponse(
        id=run_id,
        status="cancelled" if over else "cancelling",
        message="The run is cancelled." if over else "Nothing new starts, and what runs is being stopped.",
    )
