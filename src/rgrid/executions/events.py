"""Facts about executions. Public: projections and higher slices may import this. Stream `execution-{id}`; those of
batches and of what a month may cost are in `batch_events` and `budget_events`.
"""

from datetime import datetime
from typing import Final, Literal

import msgspec

from rgrid.executions.batch_events import (
    BatchCancelRequested,
    BatchCreated,
    BatchEnded,
    BatchFailedFast,
    BatchFailureCounted,
    BatchRetried,
)
from rgrid.executions.budget_events import BudgetBlocked, BudgetLimitRemoved, BudgetLimitSet, BudgetWarned
from rgrid.kernel.messages import Event

AttemptStatus = Literal["running", "completed", "failed", "cancelled", "timed_out", "lost"]
FailureReason = Literal[
    "exit_code", "timeout", "out_of_memory", "worker_lost", "input_missing", "dependency_install",
    "runtime_unavailable", "cancelled", "internal",
]  # fmt: skip


class DeclaredInput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file the script needs. Size and hash as the submitter declared them, or None."""

    name: str
    size_bytes: int | None = None
    sha256: str | None = None
    content_type: str | None = None


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file the object store holds, verified."""

    name: str
    size_bytes: int
    sha256: str


class StoredArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """An output. `filename` is relative to the working directory, POSIX."""

    artifact_id: str
    filename: str
    size_bytes: int
    sha256: str
    content_type: str


class RetryRules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which ends of an attempt lead to another one, and the wait before it: `backoff_s`, doubled each time."""

    reasons: list[FailureReason] = []
    exit_codes: list[int] = []
    backoff_s: float
    backoff_max_s: float


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What made an execution, when it was not a request: a try of a step of a workflow run, or a schedule's run, which
    was due at `scheduled_at`. Its final event says so, too."""

    workflow_run_id: str | None = None
    step: str | None = None
    step_attempt: int | None = None
    schedule_id: str | None = None
    schedule_run_id: str | None = None
    scheduled_at: datetime | None = None


class ExecutionSubmitted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that was asked for. Without `retry` the grid's own rules hold. `reserved_micros` counts against a
    spending limit until the execution ends. `env_sealed` values are encrypted under the stream's data key; `env_names`
    are in clear; the script itself lies in the object store under `script_sha256`, the packages it needs under
    `requirements_sha256`."""

    name: str | None = None
    script_sha256: str
    script_size_bytes: int
    runtime: str
    args: list[str] = []
    env_sealed: dict[str, str] = {}
    secret_env: dict[str, str] = {}
    timeout_s: int
    cpu: float
    memory_mb: int
    network: bool = False
    max_retries: int
    user_metadata: dict[str, str] | None = None
    inputs: list[DeclaredInput] = []
    batch_id: str | None = None
    batch_index: int | None = None
    retry_of: str | None = None
    root_execution_id: str
    created_by: str
    submitted_at: datetime
    inputs_deadline: datetime | None = None
    retry: RetryRules | None = None
    queue_timeout_s: int | None = None
    priority: int = 0
    reserved_micros: int = 0
    requirements_sha256: str | None = None
    requirements_size_bytes: int | None = None
    origin: Origin | None = None


class InputsVerified(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Every declared input is in the object store with the size and hash given here."""

    files: list[StoredFile]
    verified_at: datetime


class ExecutionQueued(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A worker may claim it from `not_before` until `expires_at`, those of higher priority first. Carries what a claim
    must know to match worker and execution."""

    attempt: int
    runtime: str
    cpu: float
    memory_mb: int
    batch_id: str | None = None
    not_before: datetime
    queued_at: datetime
    expires_at: datetime | None = None
    priority: int = 0


class ExecutionClaimed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A worker owns the attempt for as long as it renews its lease. `hourly_micros` is the price of this attempt."""

    attempt: int
    fencing_token: int
    worker_id: str
    worker_hostname: str
    runner_kind: str
    sandbox_level: str
    hourly_micros: int
    claimed_at: datetime


class OutputsStored(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The object store holds these outputs of the attempt."""

    attempt: int
    artifacts: list[StoredArtifact]
    stored_at: datetime


class AttemptEnded(Event, frozen=True, kw_only=True, omit_defaults=True):
    """How one attempt ended and what it cost. stdout and stderr sizes are what the script printed."""

    attempt: int
    status: AttemptStatus
    exit_code: int | None = None
    failure_reason: FailureReason | None = None
    error: str | None = None
    hint: str | None = None
    started_at: datetime
    ended_at: datetime
    duration_ms: int
    cost_micros: int
    stdout_size_bytes: int = 0
    stderr_size_bytes: int = 0
    output_truncated: bool = False
    metadata: dict[str, str] = {}


class CancelRequested(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody wants the running attempt stopped; the worker will say how it ended."""

    requested_by: str
    reason: str | None = None
    requested_at: datetime


class ExecutionCompleted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Final: exit code 0."""

    finalized_cost_micros: int
    completed_at: datetime
    origin: Origin | None = None


class ExecutionFailed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Final. `error` is the last attempt's, or why there was none."""

    failure_reason: FailureReason
    exit_code: int | None = None
    error: str | None = None
    finalized_cost_micros: int
    completed_at: datetime
    origin: Origin | None = None


class ExecutionTimedOut(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Final: the wall clock limit was reached and everything was killed."""

    error: str | None = None
    finalized_cost_micros: int
    completed_at: datetime
    origin: Origin | None = None


class ExecutionCancelled(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Final: stopped because somebody asked for it."""

    cancelled_by: str
    reason: str | None = None
    finalized_cost_micros: int
    completed_at: datetime
    origin: Origin | None = None


class StaleResultRefused(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A worker whose lease was over tried to hand in a result."""

    fencing_token: int
    end: str
    refused_at: datetime


class ObjectsExpired(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Inputs and outputs are no longer kept for this execution. `released` has the SHA-256 of each file that the
    execution held, as often as it held it; the record of the files stays."""

    released: list[str]
    expired_at: datetime


class Excerpt(msgspec.Struct, frozen=True, kw_only=True):
    """What stays of one output stream when its lines go: an object, and whether it is less than all there was."""

    sha256: str
    size_bytes: int
    truncated: bool


class LogBlock(msgspec.Struct, frozen=True, kw_only=True):
    """Some lines of one attempt, from the sequence number `first` to `last`, as an object: compressed JSON, one
    text line each. The bytes of a stream are those of its messages, each with a newline."""

    sha256: str
    size_bytes: int
    attempt: int
    first: int
    last: int
    stdout_lines: int
    stderr_lines: int
    stdout_bytes: int
    stderr_bytes: int


class LogsArchived(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Log lines have moved to the object store. `is_whole` says that it was the last of them; a very long log moves in
    several steps."""

    lines: int
    blocks: list[LogBlock]
    is_whole: bool
    archived_at: datetime


class LogsExpired(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The log lines are no longer kept; the excerpts of the last attempt stay. None: there was nothing to keep.
    `released` has the SHA-256 of each block that the archive held."""

    stdout: Excerpt | None = None
    stderr: Excerpt | None = None
    released: list[str] = []
    expired_at: datetime


class InputsCached(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A set of verified inputs may be referred to until `expires_at`. Stream `input_cache-{hash}`, where the hash
    covers names and contents."""

    files: list[StoredFile]
    cached_at: datetime
    expires_at: datetime


class CachedInputsExpired(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The cache no longer holds these objects, one SHA-256 for each file."""

    released: list[str]
    expired_at: datetime


ExecutionEvent = (
    ExecutionSubmitted
    | InputsVerified
    | ExecutionQueued
    | ExecutionClaimed
    | OutputsStored
    | AttemptEnded
    | CancelRequested
    | ExecutionCompleted
    | ExecutionFailed
    | ExecutionTimedOut
    | ExecutionCancelled
    | StaleResultRefused
    | ObjectsExpired
    | LogsArchived
    | LogsExpired
)
InputCacheEvent = InputsCached | CachedInputsExpired

TOPICS: Final[dict[str, type[Event]]] = {
    "execution.submitted.v1": ExecutionSubmitted,
    "execution.inputs_verified.v1": InputsVerified,
    "execution.queued.v1": ExecutionQueued,
    "execution.claimed.v1": ExecutionClaimed,
    "execution.outputs_stored.v1": OutputsStored,
    "execution.attempt_ended.v1": AttemptEnded,
    "execution.cancel_requested.v1": CancelRequested,
    "execution.completed.v1": ExecutionCompleted,
    "execution.failed.v1": ExecutionFailed,
    "execution.timed_out.v1": ExecutionTimedOut,
    "execution.cancelled.v1": ExecutionCancelled,
    "execution.stale_result_refused.v1": StaleResultRefused,
    "budget.limit_set.v1": BudgetLimitSet,
    "budget.limit_removed.v1": BudgetLimitRemoved,
    "budget.warned.v1": BudgetWarned,
    "budget.blocked.v1": BudgetBlocked,
    "batch.created.v1": BatchCreated,
    "batch.cancel_requested.v1": BatchCancelRequested,
    "batch.failure_counted.v1": BatchFailureCounted,
    "batch.failed_fast.v1": BatchFailedFast,
    "batch.retried.v1": BatchRetried,
    "batch.ended.v1": BatchEnded,
    "execution.objects_expired.v1": ObjectsExpired,
    "execution.logs_archived.v1": LogsArchived,
    "execution.logs_expired.v1": LogsExpired,
    "input_cache.stored.v1": InputsCached,
    "input_cache.expired.v1": CachedInputsExpired,
}
