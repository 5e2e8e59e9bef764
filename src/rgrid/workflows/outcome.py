"""How a try ends: its output judged by size and quality, its failure followed by another try or not. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from rgrid.workflows.document import ErrorCategory
from rgrid.workflows.events import RunEvent, StepCancelled, StepCompleted, StepFailed, StepWoken
from rgrid.workflows.map_items import size_bytes
from rgrid.workflows.quality import complaints, measures
from rgrid.workflows.retry import next_attempt_at
from rgrid.workflows.run_state import Run

OUTPUT_BYTES_MAX: Final = 256 * 1024


def completed(
    state: Run,
    step: str,
    attempt: int,
    outputs: Mapping[str, Any],
    row_count: int | None,
    now: datetime,
    *,
    taken: str | None = None,
    warnings: Sequence[str] = (),
) -> Sequence[RunEvent]:
    """A try came to its end. That is a failure when it hands on too much or too bad data."""
    size = size_bytes(outputs)
    if size > OUTPUT_BYTES_MAX:
        error = f"The output has {size} bytes as JSON; a step hands on up to {OUTPUT_BYTES_MAX}."
        return failed(state, step, attempt, error, "RESOURCE", now)
    found = measures(outputs, row_count)
    gate = state.outline(step).quality
    complained = complaints(gate, found) if gate else ()
    if gate and gate.hard and complained:
        return failed(state, step, attempt, " ".join(complained), "DATA_QUALITY", now)
    return [
        StepCompleted(
            step=step,
            attempt=attempt,
            outputs=dict(outputs),
            row_count=found.row_count,
            taken=taken,
            warnings=[*warnings, *complained],
            completed_at=now,
        )
    ]


def failed(
    state: Run, step: str, attempt: int, error: str, category: ErrorCategory, now: datetime
) -> Sequence[RunEvent]:
    """A try failed. Of what is being stopped on purpose that is no failure."""
    if state.is_stopping and category == "CANCELLED":
        return [stopped(state, step, attempt, now)]
    again_at = None
    if not state.is_halted:
        outline = state.outline(step)
        again_at = next_attempt_at(outline, category, run_id=state.asked.run_id, attempt=attempt, now=now)
    failure = StepFailed(
        step=step, attempt=attempt, error=error, category=category, next_attempt_at=again_at, failed_at=now
    )
    if again_at is not None and again_at <= now:
        return [failure, StepWoken(step=step, attempt=attempt, woken_at=now)]
    return [failure]


def stopped(state: Run, step: str, attempt: int, now: datetime) -> RunEvent:
    """What a try had begun was stopped, because the run is cancelled or its time is over."""
    if not state.is_timed_out:
        return StepCancelled(step=step, attempt=attempt, cancelled_at=now)
    return StepFailed(step=step, attempt=attempt, error=run_timeout(state), category="TIMEOUT", failed_at=now)


def run_timeout(state: Run) -> str:
    """Why a run was ended whose time is over."""
    return f"The run took longer than {state.plan.policy.timeout_seconds} s."


def timed_out(state: Run, step: str, now: datetime) -> Sequence[RunEvent]:
    """The try took longer than the step may."""
    error = f"The step took longer than {state.outline(step).timeout_seconds} s."
    return failed(state, step, state.steps[step].attempt, error, "TIMEOUT", now)


def map_ended(state: Run, step: str, now: datetime) -> Sequence[RunEvent]:
    """What follows when one more item of a MAP has ended: nothing before the last one."""
    outline, one = state.outline(step), state.steps[step]
    items = one.items
    if items.ended < items.total:
        return []
    if items.is_cut and (not items.failed or outline.on_error == "CONTINUE"):
        error = f"The outputs of the items come to more than the {OUTPUT_BYTES_MAX} bytes that a step hands on."
        return failed(state, step, one.attempt, error, "RESOURCE", now)
    if not items.failed:
        return completed(state, step, one.attempt, items.output, None, now)
    told = f"{items.failed} of {items.total} items failed."
    if outline.on_error == "CONTINUE":
        return completed(state, step, one.attempt, items.output, None, now, warnings=[told])
    first = next(item for item in items if item.is_failed)
    error = f"{told} The first of them: {first.error}" if first.error else told
    return failed(state, step, one.attempt, error, first.category or "DEPENDENCY", now)
