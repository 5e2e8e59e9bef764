"""What may be asked of a workflow definition or a run. Public: drivers and higher slices may import this."""

from datetime import datetime
from typing import Any

import msgspec

from rgrid.kernel.messages import Command
from rgrid.workflows.document import ErrorCategory, Outline, Parameter, Policy
from rgrid.workflows.events import Parent, RunEnd, RunTrigger, Severity, Wake


class DefineWorkflow(Command, frozen=True, kw_only=True):
    """Make this the newest version, unless it is so already. The document was validated and stored; `create_only`
    refuses when there is one."""

    document_sha256: str
    document_size_bytes: int
    domain: str | None
    description: str | None
    tags: list[str]
    parameters: list[Parameter]
    defaults: dict[str, Any]
    outlines: list[Outline]
    policy: Policy
    targets: list[str]
    is_active: bool
    create_only: bool = False
    defined_by: str


class DeleteWorkflow(Command, frozen=True, kw_only=True):
    """Take it out of lists and triggers."""

    deleted_by: str


class TriggerRun(Command, frozen=True, kw_only=True):
    """Begin a run of a version; `params` are checked and complete. The rest as in RunTriggered."""

    run_id: str
    workflow_name: str
    workflow_version: int
    document_sha256: str
    domain: str | None = None
    outlines: list[Outline]
    policy: Policy
    params: dict[str, Any]
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


class StartStep(Command, frozen=True, kw_only=True):
    """Begin the next try of a step that is ready. Decides `[]` when it began already, is no longer to run, or no place
    is free."""

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


class MapItem(msgspec.Struct, frozen=True, kw_only=True):
    """An item of a MAP that is to start, and the id of its child run."""

    index: int
    child_run_id: str


class StartMapItems(Command, frozen=True, kw_only=True):
    """Begin child runs of a MAP, no more than there are places."""

    step: str
    attempt: int
    items: list[MapItem]


class EndMapItem(Command, frozen=True, kw_only=True):
    """The child run of an item ended."""

    step: str
    attempt: int
    index: int
    child_run_id: str
    status: RunEnd
    outputs: dict[str, Any] | None = None
    error: str | None = None
    category: ErrorCategory | None = None


class CompleteStep(Command, frozen=True, kw_only=True):
    """Hand in what came of a try: quality gates and the size of the output are judged by the decision. For a CHOICE,
    which has no try of its own, `chosen` is what its condition came to."""

    step: str
    attempt: int
    outputs: dict[str, Any]
    row_count: int | None = None
    chosen: bool | None = None


class FailStep(Command, frozen=True, kw_only=True):
    """A try failed, or could not begin: then there is no StepStarted before it and the decision adds one."""

    step: str
    attempt: int
    error: str
    category: ErrorCategory


class ReuseStep(Command, frozen=True, kw_only=True):
    """Skip a step that is ready, because equal inputs led to this output a short time ago."""

    step: str
    outputs: dict[str, Any]


class ConfirmCancelled(Command, frozen=True, kw_only=True):
    """What a step of a run that is being cancelled (or timed out) had started has ended."""

    step: str
    attempt: int


class WakeRun(Command, frozen=True, kw_only=True):
    """A time that the run waits for may have come: of a WAIT, a retry, a timeout of a step or of the run."""

    kind: Wake
    step: str | None = None
    attempt: int | None = None


class SendSignal(Command, frozen=True, kw_only=True):
    """Tell a run of something that one of its WAITs waits for."""

    name: str
    payload: dict[str, Any]
    sent_by: str


class PauseRun(Command, frozen=True, kw_only=True):
    """Let nothing new start."""

    paused_by: str
    note: str | None = None


class ResumeRun(Command, frozen=True, kw_only=True):
    """Let steps start again."""

    resumed_by: str


class CancelRun(Command, frozen=True, kw_only=True):
    """Stop it. `forced` gives what runs no grace."""

    requested_by: str
    reason: str | None = None
    forced: bool = False


class RequestAlert(Command, frozen=True, kw_only=True):
    """Have people told, as an ALERT step wants it."""

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


WorkflowCommand = DefineWorkflow | DeleteWorkflow
RunCommand = (
    TriggerRun
    | StartStep
    | StartMapItems
    | EndMapItem
    | CompleteStep
    | FailStep
    | ReuseStep
    | ConfirmCancelled
    | WakeRun
    | SendSignal
    | PauseRun
    | ResumeRun
    | CancelRun
)
