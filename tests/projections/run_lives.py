"""The life of a workflow run as events, for tests of what is projected from them."""

from typing import Any, Final

from lives import at

from rgrid.workflows.document import Outline, Policy
from rgrid.workflows.events import (
    RunCancelRequested,
    RunEnd,
    RunEnded,
    RunPaused,
    RunResumed,
    RunTriggered,
    SkipReason,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepWoken,
)

OUTLINES: Final = [
    Outline(name="a", type="HANDLER", target_name="demo.a"),
    Outline(name="b", type="EXECUTION"),
    Outline(name="c", type="EXECUTION"),
]


def triggered(seconds: float = 0, name: str = "refresh", **more: Any) -> RunTriggered:
    given = {"workflow_version": 3, "document_sha256": "ab" * 32, "outlines": OUTLINES, "policy": Policy()}
    given |= {"run_id": "r1", "trigger": "API", "triggered_by": "key:k", "triggered_at": at(seconds)}
    return RunTriggered(**{**given, "workflow_name": name, **more})


def started(step: str = "a", seconds: float = 1, attempt: int = 1, **more: Any) -> StepStarted:
    return StepStarted(step=step, attempt=attempt, started_at=at(seconds), **more)


def completed(step: str = "a", seconds: float = 2, attempt: int = 1, **more: Any) -> StepCompleted:
    return StepCompleted(**{"outputs": {}, **more, "step": step, "attempt": attempt, "completed_at": at(seconds)})


def failed(step: str = "a", seconds: float = 2, attempt: int = 1, again: float | None = None) -> StepFailed:
    """`again`: when the next try is due."""
    due_at = None if again is None else at(again)
    return StepFailed(
        step=step, attempt=attempt, error="no", category="TRANSIENT", next_attempt_at=due_at, failed_at=at(seconds)
    )


def woken(step: str = "a", seconds: float = 3, attempt: int = 1) -> StepWoken:
    return StepWoken(step=step, attempt=attempt, woken_at=at(seconds))


def skipped(step: str, seconds: float = 2, reason: SkipReason = "upstream_failed") -> StepSkipped:
    return StepSkipped(step=step, reason=reason, skipped_at=at(seconds))


def stopped(step: str, seconds: float = 2, attempt: int = 1) -> StepCancelled:
    return StepCancelled(step=step, attempt=attempt, cancelled_at=at(seconds))


def paused(seconds: float = 2) -> RunPaused:
    return RunPaused(paused_by="key:k", paused_at=at(seconds))


def resumed(seconds: float = 3) -> RunResumed:
    return RunResumed(resumed_by="key:k", resumed_at=at(seconds))


def cancel_asked(seconds: float = 2) -> RunCancelRequested:
    return RunCancelRequested(requested_by="key:k", requested_at=at(seconds))


def over(status: RunEnd = "COMPLETED", seconds: float = 9, **more: Any) -> RunEnded:
    return RunEnded(status=status, ended_at=at(seconds), **more)
