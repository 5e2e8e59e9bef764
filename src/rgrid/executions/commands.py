"""What may be asked of an execution or a batch. Public: drivers and higher slices may import this."""

from datetime import datetime
from typing import Literal

from rgrid.executions.batch_events import RetriedItem
from rgrid.executions.events import (
    DeclaredInput,
    Excerpt,
    FailureReason,
    LogBlock,
    Origin,
    RetryRules,
    StoredArtifact,
    StoredFile,
)
from rgrid.kernel.messages import Command


class SubmitExecution(Command, frozen=True, kw_only=True):
    """Run a script. `verified` are the inputs that the object store is known to hold already, some of them or all;
    `root_execution_id` is the first one of a chain of retries, the execution's own id for a fresh one."""

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
    verified: list[StoredFile] = []
    inputs_deadline_s: int
    batch_id: str | None = None
    batch_index: int | None = None
    retry_of: str | None = None
    root_execution_id: str
    created_by: str
    retry: RetryRules | None = None
    queue_timeout_s: int | None = None
    priority: int = 0
    reserved_micros: int = 0
    requirements_sha256: str | None = None
    requirements_size_bytes: int | None = None
    origin: Origin | None = None


class CompleteInputs(Command, frozen=True, kw_only=True):
    """Every declared input was found and verified."""

    files: list[StoredFile]


class ExpireInputs(Command, frozen=True, kw_only=True):
    """The deadline for inputs may have passed."""


class ExpireWait(Command, frozen=True, kw_only=True):
    """It may have waited for a worker for longer than it is willing to."""


class ClaimExecution(Command, frozen=True, kw_only=True):
    """A worker wants the next attempt."""

    worker_id: str
    worker_hostname: str
    runner_kind: str
    sandbox_level: str
    rate_micros: int


class FinishAttempt(Command, frozen=True, kw_only=True):
    """A worker hands in what came of its attempt. `caused_by_network` says of a failed installation of dependencies
    that another attempt may fare better."""

    fencing_token: int
    end: Literal["completed", "failed", "timed_out", "cancelled"]
    exit_code: int | None = None
    failure_reason: FailureReason | None = None
    error: str | None = None
    hint: str | None = None
    started_at: datetime | None = None
    duration_ms: int
    stdout_size_bytes: int = 0
    stderr_size_bytes: int = 0
    output_truncated: bool = False
    artifacts: list[StoredArtifact] = []
    metadata: dict[str, str] = {}
    caused_by_network: bool = False


class LoseAttempt(Command, frozen=True, kw_only=True):
    """The attempt's lease is over: its worker was last heard of at `last_heartbeat_at`."""

    fencing_token: int
    last_heartbeat_at: datetime
    error: str


class CancelExecution(Command, frozen=True, kw_only=True):
    """Stop it, whatever it does."""

    requested_by: str
    reason: str | None = None


class SetLimit(Command, frozen=True, kw_only=True):
    """Let a calendar month cost no more than this."""

    limit_micros: int
    threshold_percent: int
    set_by: str


class RemoveLimit(Command, frozen=True, kw_only=True):
    """Let a month cost anything."""

    removed_by: str


class NoteUsage(Command, frozen=True, kw_only=True):
    """What the month has cost so far: somebody may have to be told."""

    month: str
    used_micros: int


class ExpireObjects(Command, frozen=True, kw_only=True):
    """Let go of the files, if it had ended by then."""

    ended_before: datetime


class ArchiveLogs(Command, frozen=True, kw_only=True):
    """Count these lines as archived, if it had ended by then; the blocks are stored. They are those that follow the
    sequence number `after`."""

    ended_before: datetime
    after: int
    blocks: list[LogBlock]
    is_whole: bool


class ExpireLogs(Command, frozen=True, kw_only=True):
    """Let go of the log lines, if it had ended by then; the excerpts are stored."""

    ended_before: datetime
    stdout: Excerpt | None = None
    stderr: Excerpt | None = None


class CacheInputs(Command, frozen=True, kw_only=True):
    """Remember a set of verified inputs under the hash of their names and contents."""

    files: list[StoredFile]
    keep_days: int


class ExpireCachedInputs(Command, frozen=True, kw_only=True):
    """The time of a cache entry may be over."""


ExecutionCommand = (
    SubmitExecution
    | CompleteInputs
    | ExpireInputs
    | ExpireWait
    | ClaimExecution
    | FinishAttempt
    | LoseAttempt
    | CancelExecution
    | ExpireObjects
    | ArchiveLogs
    | ExpireLogs
)
InputCacheCommand = CacheInputs | ExpireCachedInputs
BudgetCommand = SetLimit | RemoveLimit | NoteUsage


class CreateBatch(Command, frozen=True, kw_only=True):
    """Make a batch of `total` executions, which are submitted along with it."""

    name: str | None = None
    total: int
    max_parallel: int | None = None
    fail_fast: bool = False
    failures_max: int | None = None
    user_metadata: dict[str, str] | None = None
    created_by: str


class CancelBatch(Command, frozen=True, kw_only=True):
    """Stop everything in it that hasn't ended."""

    requested_by: str
    reason: str | None = None


class CountFailure(Command, frozen=True, kw_only=True):
    """One of its executions ended failed or timed out."""

    execution_id: str


class RetryBatch(Command, frozen=True, kw_only=True):
    """Put new executions in the place of some that have ended. One that was retried before is left out, unless somebody
    asks for this very one `again`."""

    items: list[RetriedItem]
    requested_by: str
    again: bool = False


class EndBatch(Command, frozen=True, kw_only=True):
    """All of it has ended, as the read side saw it when it knew of `submitted` executions, retries included."""

    submitted: int
    status: Literal["completed", "partial", "failed", "cancelled"]
    total: int
    completed: int
    failed: int
    timed_out: int
    cancelled: int
    total_cost_micros: int
    completed_at: datetime


BatchCommand = CreateBatch | CancelBatch | CountFailure | RetryBatch | EndBatch
