"""What a run would do before it does: which steps run, which are taken over, how long that takes and what it costs."""

from collections.abc import Mapping
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

_FREE: Final[frozenset[StepType]] = frozenset({"HANDLER", "CHOICE", "WAIT", "ALERT", "SOURCE"})
"""What runs nothing on the grid."""


async def steps(grid: Grid, command: TriggerRun) -> list[PlannedStep]:
    """What would become of each step, by how the same steps of the workflow did lately."""
    fresh = [one.name for one in command.outlines if one.name not in command.restored]
    await grid.caught_up()
    lately = await run_tries.lately(grid.pool, command.workflow_name, fresh)
    ids = [execution_id for one in lately.values() for execution_id in one.execution_ids]
    spent = await costs.of_executions(grid.pool, ids) if ids else {}
    return [
        _planned(order, one, one.name in command.restored, lately.get(one.name), spent)
        for order, one in enumerate(command.outlines)
    ]


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


def _planned(
    order: int, outline: Outline, is_reused: bool, lately: Lately | None, spent: Mapping[str, int]
) -> PlannedStep:
    expected_ms, micros = None, None
    if is_reused:
        expected_ms, micros = 0, 0
    else:
        costs_known = sorted(spent[one] for one in lately.execution_ids if one in spent) if lately else []
        expected_ms = round(median(lately.durations_ms)) if lately else None
        micros = round(median(costs_known)) if costs_known else 0 if outline.type in _FREE else None
    return PlannedStep(
        step_name=outline.name,
        step_type=outline.type,
        step_order=order,
        action="reuse" if is_reused else "run",
        expected_ms=expected_ms,
        expected_cost_micros=micros,
    )
