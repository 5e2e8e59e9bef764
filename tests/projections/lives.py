"""The life of an execution as events, for tests of what is projected from them."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rgrid.executions.events import (
    AttemptEnded,
    AttemptStatus,
    DeclaredInput,
    ExecutionClaimed,
    ExecutionCompleted,
    ExecutionQueued,
    ExecutionSubmitted,
    FailureReason,
    InputsVerified,
    OutputsStored,
    StoredArtifact,
    StoredFile,
)

NOON: Final = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def submitted(seconds: float = 0, **more: Any) -> ExecutionSubmitted:
    given = {"script_sha256": "ab" * 32, "script_size_bytes": 8, "runtime": "python:3.11", "timeout_s": 300, "cpu": 1.0}
    given |= {"memory_mb": 512, "max_retries": 2, "root_execution_id": "e1", "created_by": "key:k", "args": []}
    return ExecutionSubmitted(**{**given, "submitted_at": at(seconds), **more})


def waiting(*names: str) -> ExecutionSubmitted:
    return submitted(inputs=[DeclaredInput(name=name) for name in names], inputs_deadline=at(3600))


def verified(*names: str) -> InputsVerified:
    files = [StoredFile(name=name, size_bytes=1, sha256="cd" * 32) for name in names]
    return InputsVerified(files=files, verified_at=at(1))


def queued(seconds: float = 1, attempt: int = 1, **more: Any) -> ExecutionQueued:
    given = {
        "runtime": "python:3.11",
        "cpu": 1.0,
        "memory_mb": 512,
        "not_before": at(seconds),
        "queued_at": at(seconds),
    }
    return ExecutionQueued(**{**given, "attempt": attempt, **more})


def claimed(seconds: float = 2, attempt: int = 1, worker: str = "wrk_1") -> ExecutionClaimed:
    return ExecutionClaimed(
        attempt=attempt,
        fencing_token=attempt,
        worker_id=worker,
        worker_hostname="host",
        runner_kind="sandbox",
        sandbox_level="bubblewrap",
        hourly_micros=8000,
        claimed_at=at(seconds),
    )


def ended(
    seconds: float = 3,
    attempt: int = 1,
    status: AttemptStatus = "completed",
    reason: FailureReason | None = None,
    **more: Any,
) -> AttemptEnded:
    given = {"started_at": at(seconds - 1), "ended_at": at(seconds), "duration_ms": 1000, "cost_micros": 2}
    return AttemptEnded(**{**given, "attempt": attempt, "status": status, "failure_reason": reason, **more})


def stored(*names: str, attempt: int = 1) -> OutputsStored:
    made = [
        StoredArtifact(
            artifact_id=f"art_{attempt}{index}",
            filename=name,
            size_bytes=2,
            sha256="ef" * 32,
            content_type="text/plain",
        )
        for index, name in enumerate(names)
    ]
    return OutputsStored(attempt=attempt, artifacts=made, stored_at=at(3))


COMPLETED: Final = ExecutionCompleted(finalized_cost_micros=2, completed_at=at(3))
HAPPY: Final = [submitted(), queued(), claimed(), ended(), COMPLETED]
