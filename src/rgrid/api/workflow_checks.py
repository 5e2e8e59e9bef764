"""Everything that can be said against a definition here and now: its own rules, and what they must know of the grid."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from rgrid.adapters.expressions import Check
from rgrid.api.grid import Grid
from rgrid.api.templates import check_on_grid
from rgrid.workflows import expressions
from rgrid.workflows.definition import DECIDER
from rgrid.workflows.document import Document
from rgrid.workflows.expressions import Complaint
from rgrid.workflows.issues import Issue
from rgrid.workflows.validation import Known, Target, problems

WORKFLOWS_MAX: Final = 1_000
"""So many workflows are looked at to see whether one of them leads back."""
_STARTS_OTHERS: Final = ("WORKFLOW", "MAP")


def targets_of(document: Document) -> list[str]:
    """The workflows that its steps start."""
    names = (step.target_name for step in document.steps if step.type in _STARTS_OTHERS)
    return list(dict.fromkeys(name for name in names if name is not None))


async def issues_of(grid: Grid, document: Document) -> tuple[list[Issue], list[Issue]]:
    """The errors and the warnings."""
    known = Known(
        handlers=grid.handlers.schemas(),
        workflows=await _workflows(grid, targets_of(document)),
        templates=await _templates(grid, document),
        misspelt=await _spelling(grid, document),
    )
    return problems(document, known)


async def _workflows(grid: Grid, names: Sequence[str]) -> Mapping[str, Target]:
    """These and whatever they lead to, as the log has them now."""
    found: dict[str, Target] = {}
    ahead, seen = deque(names), set(names)
    while ahead and len(found) < WORKFLOWS_MAX:
        name = ahead.popleft()
        workflow, _ = await grid.handler.load(DECIDER, name)
        if not workflow.exists:
            continue
        newest = workflow.newest
        found[name] = Target(targets=newest.targets, parameters=newest.parameters, defaults=newest.defaults)
        ahead.extend(one for one in newest.targets if one not in seen)
        seen.update(newest.targets)
    return found


async def _templates(grid: Grid, document: Document) -> Mapping[int, Sequence[tuple[str, str]]]:
    found: dict[int, Sequence[tuple[str, str]]] = {}
    for index, step in enumerate(document.steps):
        if (
            step.type == "EXECUTION"
            and step.params
            and (wrong := await check_on_grid(grid, step.params, expressions=True))
        ):
            found[index] = wrong
    return found


async def _spelling(grid: Grid, document: Document) -> Sequence[Complaint]:
    places, _ = expressions.places(document)
    checks = [Check(one.expression, *expressions.samples(one, document.parameters)) for one in places]
    faults = await grid.evaluator.faults(checks)
    return [
        Complaint(code="bad_expression", message=fault, step=place.step, field=place.field)
        for place, fault in zip(places, faults, strict=True)
        if fault is not None
    ]
