"""A run once more from a step on: what runs again, what is taken over, and what that is likely to take. Pure."""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from rgrid.kernel.errors import Invalid, Rejected
from rgrid.workflows.plan import Plan
from rgrid.workflows.run_state import Run


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """`restored` are the outputs that are taken over, by step name; all other steps are in `again`."""

    from_step: str
    restored: Mapping[str, dict[str, Any] | None]
    again: list[str]


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What a step took before."""

    duration_ms: int
    cost_micros: int = 0


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is likely to take, but for the steps in `unknown`, of which nothing is known."""

    duration_ms: int
    cost_micros: int
    unknown: list[str]


def retried(run: Run, from_step: str | None = None) -> Retry:
    """What a retry of an ended run does; without a step from the first that failed or was cancelled. Raises Rejected,
    Invalid `unknown_step`."""
    _check_retriable(run, from_step)
    start = _first_to_blame(run) if from_step is None else from_step
    if start not in run.steps:
        listed = ", ".join(run.plan.order[:20])
        raise Invalid(f"The run has no step {start}.", code="unknown_step", fields=[("from_step", f"One of {listed}.")])
    after = run.plan.after(start) | {start}
    restored = {
        name: None if step.outputs is None else dict(step.outputs)
        for name, step in run.steps.items()
        if step.has_output and name not in after
    }
    return Retry(from_step=start, restored=restored, again=[name for name in run.steps if name not in restored])


def _check_retriable(run: Run, from_step: str | None) -> None:
    if not run.is_ended:
        why = "can't be retried before it has ended"
    elif run.asked.dry_run:
        why = "was a dry run: there is nothing to retry"
    elif run.status == "COMPLETED" and from_step is None:
        why = "has nothing that failed; name from_step"
    else:
        return
    raise Rejected(f"Workflow run {run.asked.run_id} is {run.status} and {why}.", extra={"current_status": run.status})


def _first_to_blame(run: Run) -> str:
    # A run that was cancelled before anything began, or between two steps, has only steps that were left out.
    for is_to_blame in (lambda one: one.status in ("FAILED", "CANCELLED"), lambda one: one.is_left_out):
        for name, step in run.steps.items():
            if is_to_blame(step):
                return name
    return run.plan.order[0]


def expected(plan: Plan, again: Collection[str], spent: Mapping[str, Spent]) -> Expected:
    """What these steps will take if each takes what it took before, side by side as far as order and places allow.
    Branches count as if all of them ran: the more, not the less."""
    ends: dict[str, int] = {}
    free_at = [0] * plan.policy.max_concurrency
    left = [name for name in plan.order if name in again]
    while left:
        begins = {
            name: max([ends.get(edge.source, 0) for edge in plan.waits_for[name]], default=0)
            for name in left
            if not any(edge.source in left for edge in plan.waits_for[name])
        }
        name = min(begins, key=lambda one: begins[one])
        place = min(range(len(free_at)), key=lambda index: free_at[index])
        duration_ms = spent[name].duration_ms if name in spent else 0
        ends[name] = free_at[place] = max(begins[name], free_at[place]) + duration_ms
        left.remove(name)
    return Expected(
        duration_ms=max(ends.values(), default=0),
        cost_micros=sum(spent[name].cost_micros for name in ends if name in spent),
        unknown=[name for name in ends if name not in spent],
    )
