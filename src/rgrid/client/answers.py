"""What the service answers, as far as a client looks at it. Fields that are not named here are ignored."""

from datetime import date, datetime
from typing import Final, Generic, TypeVar

import msgspec

T = TypeVar("T")
TERMINAL: Final = frozenset({"completed", "failed", "cancelled", "timed_out"})


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The root of all answers."""


class Pagination(Answer, frozen=True, kw_only=True):
    total: int
    has_more: bool
    next_cursor: str | None = None


class Page(Answer, Generic[T], frozen=True, kw_only=True):
    data: list[T]
    pagination: Pagination


class Action(Answer, frozen=True, kw_only=True):
    id: str
    status: str
    message: str = ""


class InputFile(Answer, frozen=True, kw_only=True):
    name: str
    state: str
    size_bytes: int | None = None
    sha256: str | None = None
    upload_url: str | None = None


class Attempt(Answer, frozen=True, kw_only=True):
    attempt: int
    status: str
    worker_hostname: str | None = None
    duration_ms: int | None = None
    exit_code: int | None = None
    failure_reason: str | None = None
    error: str | None = None
    cost_micros: int = 0


class Waiting(Answer, frozen=True, kw_only=True):
    """Why an execution has not started: `reason` for programs, `message` for people."""

    reason: str
    message: str
    queue_position: int | None = None
    until: datetime | None = None
    estimated_start_at: datetime | None = None


class ExecutionRow(Answer, frozen=True, kw_only=True):
    """One line of a list."""

    execution_id: str
    status: str
    created_at: datetime
    runtime: str
    name: str | None = None
    failure_reason: str | None = None
    batch_id: str | None = None
    exit_code: int | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration_ms: int | None = None
    cost_micros: int = 0
    retry_count: int = 0
    retry_of: str | None = None
    user_metadata: dict[str, str] | None = None
    created_by: str | None = None

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL


class Execution(ExecutionRow, frozen=True, kw_only=True):
    """One execution with all a client may want to know."""

    args: list[str] = []
    timeout_seconds: int = 0
    cpu: float = 1
    memory_mb: int = 0
    network: bool = False
    stdout: str | None = None
    stderr: str | None = None
    output_truncated: bool = False
    execution_error: str | None = None
    hint: str | None = None
    inputs: list[InputFile] = []
    upload_urls: dict[str, str] | None = None
    queue_position: int | None = None
    waiting: Waiting | None = None
    priority: int = 0
    cost_display: str = ""
    worker_hostname: str | None = None
    execution_metadata: dict[str, str] | None = None
    attempts: list[Attempt] = []
    max_retries: int = 0


class LogLine(Answer, frozen=True, kw_only=True):
    execution_id: str
    attempt: int
    sequence_number: int
    timestamp: datetime
    stream: str
    message: str


class StatusChange(Answer, frozen=True, kw_only=True):
    """The execution went on to another status or attempt while it was being followed."""

    status: str
    attempt: int


class Ended(Answer, frozen=True, kw_only=True):
    """The last thing a follower hears."""

    status: str
    exit_code: int | None = None
    failure_reason: str | None = None
    last_sequence_number: int = -1


class Artifact(Answer, frozen=True, kw_only=True):
    artifact_id: str
    execution_id: str
    artifact_type: str
    filename: str
    size_bytes: int
    content_type: str = "application/octet-stream"
    sha256: str | None = None
    expired: bool = False


class CachedInputs(Answer, frozen=True, kw_only=True):
    """References by name, if the service has the whole set."""

    file_references: dict[str, str] | None = None


class DownloadUrl(Answer, frozen=True, kw_only=True):
    download_url: str
    artifact_id: str
    filename: str
    size_bytes: int
    sha256: str | None = None


class Runtime(Answer, frozen=True, kw_only=True):
    name: str
    aliases: list[str]
    language: str
    version: str
    default: bool
    available: bool
    description: str | None = None


class Worker(Answer, frozen=True, kw_only=True):
    id: str
    hostname: str
    runner_kind: str
    status: str
    slots: int
    running: int
    version: str
    started_at: datetime
    last_heartbeat_at: datetime
    runtimes: list[str] = []


class CostRow(Answer, frozen=True, kw_only=True):
    executions: int
    compute_time_seconds: float
    cost_micros: int
    cost_display: str


class CostDay(CostRow, frozen=True, kw_only=True):
    date: date


class CostGroup(CostRow, frozen=True, kw_only=True):
    name: str | None


class Cost(Answer, frozen=True, kw_only=True):
    """What a span of UTC days cost; the days sum to the total."""

    start_date: date
    end_date: date
    total_cost_micros: int
    total_cost_display: str
    total_executions: int
    by_date: list[CostDay]
    group_by: str | None = None
    groups: list[CostGroup] | None = None


class Estimate(Answer, frozen=True, kw_only=True):
    runtime: str
    estimated_executions: int
    estimated_duration_seconds: float
    estimated_p90_seconds: float
    estimated_wall_seconds: float
    estimated_wall_p90_seconds: float
    estimated_cost_micros: int
    estimated_cost_display: str
    estimated_p90_cost_display: str
    basis: str
    sample_size: int
    assumptions: list[str] = []


class CostLimit(Answer, frozen=True, kw_only=True):
    """What the present month has cost and may cost."""

    has_limit: bool
    monthly_limit_micros: int | None
    monthly_limit_display: str
    current_usage_micros: int
    current_usage_display: str
    reserved_micros: int
    reserved_display: str
    usage_percent: int | None
    status: str
    alert_threshold_percent: int
    period_start: datetime
    message: str | None = None


class CostLimitAction(Action, frozen=True, kw_only=True):
    monthly_limit_micros: int | None
    monthly_limit_display: str


class Me(Answer, frozen=True, kw_only=True):
    actor: str
    actor_kind: str
    scopes: list[str]
    key_id: str | None = None
    name: str | None = None
    expires_at: datetime | None = None


class Key(Answer, frozen=True, kw_only=True):
    id: str
    name: str
    prefix: str
    scopes: list[str]
    status: str
    created_at: datetime
    last_used_at: datetime | None = None
    expires_at: datetime | None = None


class NewKey(Action, frozen=True, kw_only=True):
    """The only answer that holds a secret; `key` is null when the same request is answered a second time."""

    key: str | None
    name: str
    prefix: str
    scopes: list[str]
    expires_at: datetime | None = None
    previous_valid_until: datetime | None = None


class ComponentHealth(Answer, frozen=True, kw_only=True):
    status: str
    message: str | None = None
    latency_ms: int | None = None


class Health(Answer, frozen=True, kw_only=True):
    status: str
    version: str
    components: dict[str, ComponentHealth]
    position: int | None = None
    projection_lag: int | None = None
    queue_depth: int | None = None
    live_workers: int | None = None


class EventRecord(Answer, frozen=True, kw_only=True):
    position: int
    stream: str
    stream_version: int
    type: str
    occurred_at: datetime
    actor: str
