"""What follows from where the steps of a run stand, without anybody asking for it: what is skipped, what needs no
stopping, and the end of the run. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rgrid.workflows.events import RunEnd, RunEnded, RunEvent, SkipReason, StepSkipped
from rgrid.workflows.outcome import run_timeout, stopped
from rgrid.workflows.plan import CHOICE_KINDS, Edge
from rgrid.workflows.run_state import Run, StepState, evolve


def consequences(state: Run, now: datetime) -> Sequence[RunEvent]:
    """The events that follow now."""
    if state.is_ended:
        return []
    events: list[RunEvent] = []
    for event in _stopped(state, now):
        events.append(event)
        state = evolve(state, event)
    # One skip may lead to another, which the list order of the steps doesn't tell.
    while skips := list(_skips(state, now)):
        for skip in skips:
            events.append(skip)
            state = evolve(state, skip)
    if all(step.is_over for step in state.steps.values()):
        events.append(_ended(state, now))
    return events


def _stopped(state: Run, now: datetime) -> Iterable[RunEvent]:
    """Of what is to be stopped, that which began nothing outside the run."""
    if not state.is_stopping:
        return
    for name, step in state.steps.items():
        is_map_at_rest = state.outline(name).type == "MAP" and not step.items.running
        if step.status == "WAITING" or (step.status == "RUNNING" and is_map_at_rest):
            yield stopped(state, name, step.attempt, now)


def _skips(state: Run, now: datetime) -> Iterable[StepSkipped]:
    for name, step in state.steps.items():
        if step.status == "PENDING":
            reason = _halted(state) or _reason(state, name)
            if reason:
                yield StepSkipped(step=name, reason=reason, skipped_at=now)


def _halted(state: Run) -> SkipReason | None:
    if state.status == "CANCELLING":
        return "cancelled"
    return "upstream_failed" if state.is_halted else None


def _reason(state: Run, name: str) -> SkipReason | None:
    """Why a step will not run. Plain list order is none: what follows a branch in the list joins it. All that the step
    depends on must be over first, so that the reason is the same in whatever order that came about."""
    edges = [edge for edge in state.plan.waits_for[name] if edge.kind != "SEQUENCE"]
    if not edges or not all(state.steps[edge.source].is_over for edge in edges):
        return None
    by_choice = (_by_choice(state, edge) for edge in edges if edge.kind in CHOICE_KINDS)
    by_failure = (_by_failure(state, edge) for edge in edges if edge.kind not in CHOICE_KINDS)
    found = next((reason for reasons in (by_choice, by_failure) for reason in reasons if reason), None)
    if found is None and all(state.steps[edge.source].is_left_out for edge in edges):
        return "upstream_skipped"
    return found


def _by_choice(state: Run, edge: Edge) -> SkipReason | None:
    choice = state.steps[edge.source]
    if choice.has_output:
        return None if choice.taken == edge.target else "branch_not_taken"
    if choice.is_left_out:
        return "upstream_failed" if choice.skip_reason == "upstream_failed" else "upstream_skipped"
    # Without a choice made no branch may run, even when what follows the branches does.
    return "branch_not_taken" if state.outline(edge.source).on_error == "CONTINUE" else "upstream_failed"


def _by_failure(state: Run, edge: Edge) -> SkipReason | None:
    source = state.steps[edge.source]
    is_failure = source.status == "FAILED" and state.outline(edge.source).on_error != "CONTINUE"
    return "upstream_failed" if is_failure or source.skip_reason == "upstream_failed" else None


def _ended(state: Run, now: datetime) -> RunEnded:
    status, failure = _verdict(state)
    step = state.steps[failure] if failure else StepState()
    rows = [one.row_count for one in state.steps.values() if one.row_count is not None]
    is_late = status == "FAILED" and state.is_timed_out
    return RunEnded(
        status=status,
        outputs=_outputs(state),
        failed_step=failure,
        error=run_timeout(state) if is_late else step.error,
        error_category="TIMEOUT" if is_late else step.category,
        rows_processed=sum(rows) if rows else None,
        ended_at=now,
    )


def _verdict(state: Run) -> tuple[RunEnd, str | None]:
    """How the run ends, and the step that tells why: the first failure that nothing made up for, else the first."""
    grave = [name for name in state.failures if state.outline(name).on_error != "CONTINUE"]
    if state.status == "CANCELLING":
        return "CANCELLED", None
    if grave or state.is_timed_out:
        return "FAILED", next(iter([*grave, *state.failures]), None)
    if state.failures:
        return "PARTIAL", state.failures[0]
    return "COMPLETED", None


def _outputs(state: Run) -> dict[str, Any]:
    return {name: step.outputs for name, step in state.steps.items() if step.has_output}
