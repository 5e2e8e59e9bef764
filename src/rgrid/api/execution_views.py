"""How an execution is shown: the list's row and the full resource, from what the log says of it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from projections.execution_detail import TERMINAL, Attempt, Detail
from rgrid.api.execution_requests import ExecutionStatus
from rgrid.executions.events import AttemptStatus, ExecutionSubmitted, FailureReason, Origin, RetryRules
from rgrid.executions.execution import BACKOFF_MAX_S, BACKOFF_S, RETRIED
from rgrid.kernel.money import display

WaitingReason = Literal[
    "inputs_missing",
    "backoff",
    "queued",
    "queued_behind",
    "batch_limit",
    "no_worker",
    "no_worker_with_runtime",
    "too_large_for_workers",
]
InputState = Literal["pending", "uploaded", "verified", "cached", "expired"]


class InputFile(msgspec.Struct, kw_only=True):
    """One input: declared, then uploaded, then verified."""

    name: str
    size_bytes: int | None
    sha256: str | None
    content_type: str | None
    state: InputState
    upload_url: str | None
    upload_expires_at: datetime | None


class AttemptDetail(msgspec.Struct, kw_only=True):
    """One attempt on one worker."""

    attempt: int
    status: AttemptStatus
    worker_id: str | None
    worker_hostname: str | None
    runner_kind: str
    sandbox_level: str
    fencing_token: int
    started_at: datetime
    completed_at: datetime | None
    duration_ms: int | None
    exit_code: int | None
    failure_reason: FailureReason | None
    error: str | None
    hourly_micros: int
    cost_micros: int


class ExecutionSummary(msgspec.Struct, kw_only=True):
    """A row of the list."""

    execution_id: str
    name: str | None
    status: ExecutionStatus
    failure_reason: FailureReason | None
    runtime: str
    batch_id: str | None
    batch_index: int | None
    exit_code: int | None
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    duration_ms: int | None
    duration_seconds: float | None
    cost_micros: int
    retry_count: int
    retry_of: str | None
    user_metadata: dict[str, str] | None
    created_by: str | None


class Waiting(msgspec.Struct, kw_only=True):
    """Why it has not started: `reason` for programs, `message` for people. `until` is when that ends or it gives up.
    `estimated_start_at` goes by how long the same runtime took lately."""

    reason: WaitingReason
    message: str
    queue_position: int | None = None
    until: datetime | None = None
    estimated_start_at: datetime | None = None


class ExecutionResponse(ExecutionSummary, kw_only=True):
    """Everything about one execution."""

    script_content: str
    script_sha256: str
    runtime_image: str | None
    args: list[str]
    env_vars: dict[str, str]
    secret_env: dict[str, str]
    timeout_seconds: int
    cpu: float
    memory_mb: int
    network: bool
    requirements_content: str | None
    stdout: str | None
    stderr: str | None
    output_truncated: bool
    execution_error: str | None
    hint: str | None
    input_files: list[str]
    inputs: list[InputFile]
    upload_urls: dict[str, str] | None
    download_urls: dict[str, str] | None
    urls_expire_at: datetime | None
    inputs_deadline: datetime | None
    queue_position: int | None
    waiting: Waiting | None
    cancel_requested_at: datetime | None
    cost_display: str
    finalized_cost_micros: int | None
    cost_finalized_at: datetime | None
    worker_id: str | None
    worker_hostname: str | None
    execution_metadata: dict[str, str] | None
    max_retries: int
    retry_on: list[FailureReason | int]
    retry_backoff_seconds: float
    retry_backoff_max_seconds: float
    queue_timeout_seconds: int | None
    priority: int
    root_execution_id: str
    schedule_id: str | None
    workflow_run_id: str | None
    attempts: list[AttemptDetail]
    expires_at: datetime | None
    version: int


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs to the resource but lies outside its stream: texts, links, its place in the queue."""

    script_content: str
    requirements_content: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    output_cut: bool = False
    inputs: list[InputFile] = []
    upload_urls: dict[str, str] | None = None
    download_urls: dict[str, str] | None = None
    urls_expire_at: datetime | None = None
    waiting: Waiting | None = None


def summary(row: Mapping[str, Any]) -> ExecutionSummary:
    """From a row of the read model."""
    values = dict(row)
    if values["user_metadata"] is not None:
        values["user_metadata"] = msgspec.json.decode(values["user_metadata"])
    return ExecutionSummary(**values)


def response(detail: Detail, around: Surroundings, keep_days: int) -> ExecutionResponse:
    """The full resource."""
    spec, last = detail.spec, detail.last
    origin = spec.origin or Origin()
    duration_ms = last.duration_ms if last else None
    return ExecutionResponse(
        execution_id=detail.execution_id,
        name=spec.name,
        status=detail.status,
        failure_reason=detail.failure_reason,
        runtime=spec.runtime,
        batch_id=spec.batch_id,
        batch_index=spec.batch_index,
        exit_code=detail.exit_code,
        created_at=spec.submitted_at,
        queued_at=detail.queued_at,
        started_at=detail.started_at,
        completed_at=detail.completed_at,
        duration_ms=duration_ms,
        duration_seconds=None if duration_ms is None else duration_ms / 1000,
        cost_micros=detail.cost_micros,
        retry_count=detail.retry_count,
        retry_of=spec.retry_of,
        user_metadata=spec.user_metadata,
        created_by=spec.created_by,
        script_content=around.script_content,
        script_sha256=spec.script_sha256,
        args=spec.args,
        env_vars=dict.fromkeys(spec.env_sealed, "***"),
        secret_env=spec.secret_env,
        requirements_content=around.requirements_content,
        stdout=around.stdout,
        stderr=around.stderr,
        output_truncated=around.output_cut or bool(last and last.output_truncated),
        execution_error=None if detail.status == "completed" else detail.error or (last.error if last else None),
        hint=last.hint if last and detail.status != "completed" else None,
        input_files=[file.name for file in spec.inputs],
        inputs=around.inputs,
        upload_urls=around.upload_urls,
        download_urls=around.download_urls,
        urls_expire_at=around.urls_expire_at,
        inputs_deadline=spec.inputs_deadline,
        queue_position=around.waiting.queue_position if around.waiting else None,
        waiting=around.waiting,
        cancel_requested_at=detail.cancel_requested_at,
        cost_display=display(detail.cost_micros),
        finalized_cost_micros=detail.finalized_cost_micros,
        cost_finalized_at=detail.completed_at if detail.status in TERMINAL else None,
        worker_id=last.worker_id if last else None,
        worker_hostname=last.worker_hostname if last else None,
        execution_metadata={"sandbox": last.sandbox_level, **last.metadata} if last else None,
        **_limits(spec),
        root_execution_id=spec.root_execution_id,
        runtime_image=None,  # nothing of this installation has images
        schedule_id=origin.schedule_id,
        workflow_run_id=origin.workflow_run_id,
        attempts=[_attempt(attempt) for attempt in detail.attempts],
        expires_at=detail.completed_at + timedelta(days=keep_days) if detail.completed_at else None,
        version=detail.version,
    )


def _limits(spec: ExecutionSubmitted) -> dict[str, Any]:
    """What it may use, and what is tried again: by the submitter's rules, or by those of the grid."""
    rules = spec.retry or RetryRules(reasons=sorted(RETRIED), backoff_s=BACKOFF_S, backoff_max_s=BACKOFF_MAX_S)
    return {
        "timeout_seconds": spec.timeout_s,
        "cpu": spec.cpu,
        "memory_mb": spec.memory_mb,
        "network": spec.network,
        "max_retries": spec.max_retries,
        "retry_on": [*rules.reasons, *rules.exit_codes],
        "retry_backoff_seconds": rules.backoff_s,
        "retry_backoff_max_seconds": rules.backoff_max_s,
        "queue_timeout_seconds": spec.queue_timeout_s,
        "priority": spec.priority,
    }


def _attempt(attempt: Attempt) -> AttemptDetail:
    return AttemptDetail(
        attempt=attempt.attempt,
        status=attempt.status,
        worker_id=attempt.worker_id,
        worker_hostname=attempt.worker_hostname,
        runner_kind=attempt.runner_kind,
        sandbox_level=attempt.sandbox_level,
        fencing_token=attempt.fencing_token,
        started_at=attempt.started_at,
        completed_at=attempt.completed_at,
        duration_ms=attempt.duration_ms,
        exit_code=attempt.exit_code,
        failure_reason=attempt.failure_reason,
        error=attempt.error,
        hourly_micros=attempt.hourly_micros,
        cost_micros=attempt.cost_micros,
    )
