"""What may happen next in a run, and what an expression sees of it. Pure: everything follows from the state."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from rgrid.workflows.document import StepType
from rgrid.workflows.run_state import REUSED, Begun, Run, StepState

PLACELESS: Final[frozenset[StepType]] = frozenset({"CHOICE", "WAIT"})
"""They hold no place among the steps that run at a time."""


class Ready(msgspec.Struct, frozen=True):
    """A step whose next try may start now."""

    step: str
    attempt: int


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """A try that must be stopped, and what it began: an execution, a fetch, child runs."""

    step: str
    attempt: int
    execution_id: str | None = None
    fetch_id: str | None = None
    child_run_ids: Sequence[str] = ()
    forced: bool = False


def ready(run: Run) -> list[Ready]:
    """What may start now, in the order of the list, no more than there are places."""
    if run.is_paused:
        return []
    free = places(run)
    found: list[Ready] = []
    for name in startable(run):
        if run.outline(name).type not in PLACELESS:
            if free <= 0:
                continue
            free -= 1
        found.append(Ready(name, run.steps[name].attempt + 1))
    return found


def places(run: Run) -> int:
    """How many more steps may run at this time."""
    return run.plan.policy.max_concurrency - sum(step.status == "RUNNING" for step in run.steps.values())


def startable(run: Run) -> list[str]:
    """The steps with nothing before them that is still to come, were there places enough and no pause."""
    if run.status not in ("PENDING", "RUNNING") or run.is_halted:
        return []
    is_settled = settled(run)
    return [
        name
        for name, step in run.steps.items()
        if (step.woken if step.is_retried else step.status == "PENDING")
        and all(is_settled(edge.source) for edge in run.plan.waits_for[name])
    ]


def settled(run: Run) -> Callable[[str], bool]:
    """Whether what comes after a step may start. A skipped step is passed over, so all that it would have waited for
    must be over as well: that keeps what follows a branch behind the branch that was taken."""
    known: dict[str, bool] = {}

    def is_settled(name: str) -> bool:
        if name not in known:
            step = run.steps[name]
            known[name] = step.is_over and (
                step.status != "SKIPPED" or all(is_settled(edge.source) for edge in run.plan.waits_for[name])
            )
        return known[name]

    return is_settled


def free_items(run: Run, step: str) -> list[int]:
    """The items of a MAP that may start now. They start in their order."""
    state = run.steps[step]
    if state.status != "RUNNING" or run.is_paused or run.is_stopping:
        return []
    items = state.items
    end = min(items.total, items.begun + run.outline(step).max_concurrency - items.running)
    return list(range(items.begun, end))


def to_stop(run: Run) -> list[Stop]:
    """The tries that must be stopped, because the run is being cancelled or its time is over."""
    if not run.is_stopping or run.is_ended:
        return []
    return [stop(run, name, step.attempt) for name, step in run.steps.items() if step.is_in_flight]


def stop(run: Run, step: str, attempt: int) -> Stop:
    """What a try began and what may still go on; also of a try that timed out and was followed by another one."""
    begun = next((one for one in run.steps[step].begun if one.attempt == attempt), Begun(attempt=attempt))
    children = [begun.child_run_id] if begun.child_run_id else []
    children += [item.child_run_id for item in begun.items if item.status is None]
    return Stop(
        step=step,
        attempt=attempt,
        execution_id=begun.execution_id,
        fetch_id=begun.fetch_id,
        child_run_ids=tuple(children),
        forced=run.forced,
    )


def variables(run: Run) -> dict[str, Any]:
    """What expressions may name. A step is there from its end on."""
    asked = run.asked
    return {
        "params": asked.params,
        "steps": {name: _seen(step) for name, step in run.steps.items() if step.is_over},
        "run": {
            "id": asked.run_id,
            "partition": None if asked.partition is None else msgspec.json.decode(asked.partition),
        },
    }


def _seen(step: StepState) -> dict[str, Any]:
    # A condition must come to the same in a retry, where a step has its output from an earlier run.
    status = "COMPLETED" if step.skip_reason in REUSED else step.status
    return {"output": step.outputs, "status": status}
