"""What a run would do before it does: which steps run, which are taken over, how long that takes and what it costs."""

from collections.abc import Mapping, Sequence
from typing import Final

from projections import costs, run_tries
from projections.run_tries import Lately
from rgrid.api.grid import Grid
from rgrid.api.workflow_run_views import PlannedStep, RetryPlan
from rgrid.executions.estimate import median
from rgrid.kernel.money import display
from rgrid.workflows.commands import TriggerRun
from rgrid.workflows.document import Outline, StepType
from rgrid.workflows.plan import plan_of
from rgrid.workflows.retrying import Spent, expected

_WITH_CHILDREN: Final[frozenset[StepType]] = frozenset({"WORKFLOW", "MAP"})


async def steps(grid: Grid, command: TriggerRun) -> list[PlannedStep]:
    """What would become of each step, by how the same steps of the workflow did lately."""
    fresh = [one for one in command.outlines if one.name not in command.restored]
    await grid.caught_up()
    lately = await run_tries.lately(grid.pool, command.workflow_name, [one.name for one in fresh])
    spent = await _spent(grid, command.workflow_name, [one for one in fresh if one.name in lately], lately)
    return [
        _reused(order, one)
        if one.name in command.restored
        else _planned(order, one, lately.get(one.name), spent.get(one.name))
        for order, one in enumerate(command.outlines)
    ]


async def _spent(
    grid: Grid, workflow_name: str, known: Sequence[Outline], lately: Mapping[str, Lately]
) -> dict[str, list[int]]:
    """What single tries of each step cost, in ascending order; steps of which that isn't known are left out."""
    above = [one.name for one in known if one.type in _WITH_CHILDREN]
    below = await run_tries.below(grid.pool, workflow_name, above) if above else []
    ids = [execution_id for one in lately.values() for execution_id in one.execution_ids]
    ids += [execution_id for one in below or [] for execution_id in one.execution_ids]
    micros = await costs.of_executions(grid.pool, ids) if ids else {}
    found: dict[str, list[int]] = {}
    for outline in known:
        tries = [one.execution_ids for one in below or [] if one.step == outline.name]
        if outline.type not in _WITH_CHILDREN:
            tries = [[one] for one in lately[outline.name].execution_ids]
        elif below is None:
            continue
        # What runs nothing on the grid costs nothing.
        found[outline.name] = sorted(sum(micros.get(one, 0) for one in each) for each in tries) or [0]
    return found


async def of_retry(grid: Grid, command: TriggerRun) -> RetryPlan:
    """What this command would begin."""
    assert command.retry_of is not None and command.from_step is not None, "a retry has both"
    planned = await steps(grid, command)
    again = [one for one in planned if one.action == "run"]
    known = {
        one.step_name: Spent(duration_ms=one.expected_ms, cost_micros=one.expected_cost_micros or 0)
        for one in again
        if one.expected_ms is not None
    }
    likely = expected(plan_of(command.outlines, command.policy), [one.step_name for one in again], known)
    return RetryPlan(
        run_id=command.retry_of,
        workflow_name=command.workflow_name,
        workflow_version=command.workflow_version,
        from_step=command.from_step,
        run_again=[one.step_name for one in again],
        reused=[one.step_name for one in planned if one.action == "reuse"],
        expected_ms=likely.duration_ms if known else None,
        expected_cost_micros=likely.cost_micros if known else None,
        cost_display=display(likely.cost_micros) if known else None,
        unknown=likely.unknown,
        steps=planned,
    )


def _reused(order: int, outline: Outline) -> PlannedStep:
    return PlannedStep(
        step_name=outline.name,
        step_type=outline.type,
        step_order=order,
        action="reuse",
        expected_ms=0,
        expected_cost_micros=0,
    )


def _planned(order: int, outline: Outline, lately: Lately | None, spent: Sequence[int] | None) -> PlannedStep:
    return PlannedStep(
        step_name=outline.name,
        step_type=outline.type,
        step_order=order,
        action="run",
        expected_ms=round(median(lately.durations_ms)) if lately else None,
        expected_cost_micros=round(median(spent)) if spent else None,
    )
