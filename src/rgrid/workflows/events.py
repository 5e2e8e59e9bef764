"""Facts about workflow definitions and runs. Public: projections and higher slices may import this.

Streams `workflow-{name}` and `run-{id}`. Documents lie in the object store by SHA-256; a run carries the outlines of
its version.
"""

from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from rgrid.kernel.messages import Event
from rgrid.workflows.document import ErrorCategory, Outline, Parameter, Policy

RunTrigger = Literal["SCHEDULE", "MANUAL", "API", "DEPENDENCY", "RETRY"]
RunEnd = Literal["COMPLETED", "PARTIAL", "FAILED", "CANCELLED"]
SkipReason = Literal[
    "branch_not_taken", "upstream_skipped", "upstream_failed", "restored", "dry_run", "cancelled", "cached"
]
Severity = Literal["INFO", "WARNING", "ERROR", "CRITICAL"]
Wake = Literal["wait", "retry", "step_timeout", "run_timeout"]


class WorkflowDefined(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A version came to be. `document_sha256` is that of the canonical JSON of `Document` in the object store;
    `targets` are the names of the workflows that its steps start."""

    version: int
    document_sha256: str
    document_size_bytes: int
    domain: str | None = None
    description: str | None = None
    tags: list[str] = []
    parameters: list[Parameter] = []
    defaults: dict[str, Any] = {}
    outlines: list[Outline]
    policy: Policy
    targets: list[str] = []
    defined_by: str
    defined_at: datetime


class WorkflowActivated(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Runs may be triggered again."""

    activated_by: str
    activated_at: datetime


class WorkflowDeactivated(Event, frozen=True, kw_only=True, omit_defaults=True):
    """No run may be triggered until it is activated."""

    deactivated_by: str
    deactivated_at: datetime


class WorkflowDeleted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The name is free; runs and versions stay, and a later definition goes on counting versions."""

    deleted_by: str
    deleted_at: datetime


class Parent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The step that started a child run; `index` is the item's of a MAP. `ancestors` are the names of the workflows
    above, for no workflow may come to run within itself."""

    run_id: str
    step: str
    attempt: int
    index: int | None = None
    ancestors: list[str] = []


class RunTriggered(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A run exists, pinned to a version. `restored` are outputs of an earlier run by step name, `from_step` the step
    that a retry starts from; `partition` is the canonical JSON of the partition key. The wait before another try of a
    step is drawn from `run_id`."""

    run_id: str
    workflow_name: str
    workflow_version: int
    document_sha256: str
    domain: str | None = None
    outlines: list[Outline]
    policy: Policy
    params: dict[str, Any] = {}
    partition: str | None = None
    trigger: RunTrigger
    triggered_by: str
    dry_run: bool = False
    retry_of: str | None = None
    from_step: str | None = None
    restored: dict[str, dict[str, Any] | None] = {}
    parent: Parent | None = None
    schedule_id: str | None = None
    schedule_run_id: str | None = None
    due_at: datetime | None = None
    triggered_at: datetime
    times_out_at: datetime | None = None


class StepStarted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A try of a step began; what it started began in the same append. `inputs` are its evaluated parameters without
    scripts and variables. A WAIT has `wakes_at`, `signal` or both; a MAP `items_total`, its items in the object store.
    The first one starts the run."""

    step: str
    attempt: int
    inputs: dict[str, Any] = {}
    execution_id: str | None = None
    fetch_id: str | None = None
    child_run_id: str | None = None
    wakes_at: datetime | None = None
    signal: str | None = None
    items_total: int | None = None
    items_sha256: str | None = None
    times_out_at: datetime | None = None
    started_at: datetime


class MapItemStarted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The child run of one item began, in the same append."""

    step: str
    attempt: int
    index: int
    child_run_id: str
    started_at: datetime


class MapItemEnded(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The child run of one item ended; `outputs` are the child's."""

    step: str
    attempt: int
    index: int
    child_run_id: str
    status: RunEnd
    outputs: dict[str, Any] | None = None
    error: str | None = None
    category: ErrorCategory | None = None
    ended_at: datetime


class StepCompleted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """`taken` is the target that a CHOICE chose (None: none of them); `warnings` are those of soft quality gates."""

    step: str
    attempt: int
    outputs: dict[str, Any]
    row_count: int | None = None
    taken: str | None = None
    warnings: list[str] = []
    completed_at: datetime


class StepFailed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A try failed. With `next_attempt_at` another one follows then."""

    step: str
    attempt: int
    error: str
    category: ErrorCategory
    next_attempt_at: datetime | None = None
    failed_at: datetime


class StepWoken(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The wait before another try is over; `attempt` is the one that failed."""

    step: str
    attempt: int
    woken_at: datetime


class StepSkipped(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The step will not run; `outputs` are those that were restored or cached."""

    step: str
    reason: SkipReason
    outputs: dict[str, Any] | None = None
    skipped_at: datetime


class StepCancelled(Event, frozen=True, kw_only=True, omit_defaults=True):
    """What the step had started was stopped."""

    step: str
    attempt: int
    cancelled_at: datetime


class SignalReceived(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Something from outside that a WAIT waits for, now or later: an event or an approval."""

    name: str
    payload: dict[str, Any] = {}
    sent_by: str
    received_at: datetime


class RunPaused(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Nothing new starts; what runs goes on."""

    paused_by: str
    note: str | None = None
    paused_at: datetime


class RunResumed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Steps start again."""

    resumed_by: str
    resumed_at: datetime


class RunCancelRequested(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Nothing new starts and what runs is to be stopped: within a grace time, or at once when `forced`."""

    requested_by: str
    reason: str | None = None
    forced: bool = False
    requested_at: datetime


class RunTimedOut(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The time of the whole run is over; what runs is to be stopped, and the run ends FAILED."""

    timed_out_at: datetime


class RunEnded(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Terminal. `outputs` are the steps' by name; the error is that of `failed_step`, the first that failed."""

    status: RunEnd
    outputs: dict[str, Any] = {}
    failed_step: str | None = None
    error: str | None = None
    error_category: ErrorCategory | None = None
    rows_processed: int | None = None
    ended_at: datetime


class AlertRequested(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An ALERT step wants people told of something. Stream `alert_request-{id}`, which began with the step."""

    severity: Severity
    title: str
    message: str
    source: str
    domain: str | None = None
    dedup_key: str | None = None
    metadata: dict[str, Any] = {}
    run_id: str
    step: str
    attempt: int
    requested_at: datetime


WorkflowEvent = WorkflowDefined | WorkflowActivated | WorkflowDeactivated | WorkflowDeleted
RunEvent = (
    RunTriggered
    | StepStarted
    | MapItemStarted
    | MapItemEnded
    | StepCompleted
    | StepFailed
    | StepWoken
    | StepSkipped
    | StepCancelled
    | SignalReceived
    | RunPaused
    | RunResumed
    | RunCancelRequested
    | RunTimedOut
    | RunEnded
)

TOPICS: Final[dict[str, type[Event]]] = {
    "workflow.defined.v1": WorkflowDefined,
    "workflow.activated.v1": WorkflowActivated,
    "workflow.deactivated.v1": WorkflowDeactivated,
    "workflow.deleted.v1": WorkflowDeleted,
    "run.triggered.v1": RunTriggered,
    "run.step_started.v1": StepStarted,
    "run.map_item_started.v1": MapItemStarted,
    "run.map_item_ended.v1": MapItemEnded,
    "run.step_completed.v1": StepCompleted,
    "run.step_failed.v1": StepFailed,
    "run.step_woken.v1": StepWoken,
    "run.step_skipped.v1": StepSkipped,
    "run.step_cancelled.v1": StepCancelled,
    "run.signal_received.v1": SignalReceived,
    "run.paused.v1": RunPaused,
    "run.resumed.v1": RunResumed,
    "run.cancel_requested.v1": RunCancelRequested,
    "run.timed_out.v1": RunTimedOut,
    "run.ended.v1": RunEnded,
    "alert_request.requested.v1": AlertRequested,
}
