"""What time does to runs: what they wait for comes, and what they may have missed is looked for."""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar

from rgrid.kernel.errors import NotFound
from rgrid.workflows.commands import RunCommand, WakeRun
from rgrid.workflows.driving import Because, Driver
from rgrid.workflows.events import Parent, Wake
from rgrid.workflows.neighbours import Neighbours
from rgrid.workflows.results import of_child, of_execution

log = logging.getLogger(__name__)

AT_ONCE_MAX: Final = 64
PATIENCE_S: Final = 1.0
T = TypeVar("T")
Due = tuple[str, Wake, str | None, int | None]
"""(run, what for, step, attempt)."""


async def wake(driver: Driver, due: Sequence[Due]) -> None:
    """Tell runs that a time has come. One that has gone on is told in vain."""

    async def one(run_id: str, kind: Wake, step: str | None, attempt: int | None) -> None:
        try:
            await driver.tell(run_id, Because(), WakeRun(kind=kind, step=step, attempt=attempt))
        except NotFound:
            log.error("a timer of %s, which is not there", run_id)

    for first in range(0, len(due), AT_ONCE_MAX):
        await asyncio.gather(*(one(*timer) for timer in due[first : first + AT_ONCE_MAX]))


async def look_again(driver: Driver, neighbours: Neighbours, run_ids: Sequence[str]) -> None:
    """Begin in these runs what should have begun, and hand in what has ended unseen: whatever was lost on the way, by a
    dead letter or by a process that was cut off, goes on here."""
    for run_id in run_ids:
        await _careful(run_id, driver.advance(run_id, Because()))
    suspects = [run_id for run_id in run_ids if await _careful(run_id, _missed(driver, neighbours, run_id))]
    if suspects:
        # What ended a moment ago may be on its way.
        await asyncio.sleep(PATIENCE_S)
    for run_id in suspects:
        for command in await _careful(run_id, _missed(driver, neighbours, run_id)) or ():
            log.warning("%s had missed an end: %s", run_id, type(command).__name__)
            await _careful(run_id, driver.tell(run_id, Because(), command))


async def _careful(run_id: str, work: Coroutine[Any, Any, T]) -> T | None:
    try:
        return await work
    except Exception:  # A supervisor: one run that can't go on must not hide the others from it.
        log.exception("%s can't go on", run_id)
        return None


async def _missed(driver: Driver, neighbours: Neighbours, run_id: str) -> list[RunCommand]:
    run = await driver.fresh(run_id)
    found: list[RunCommand] = []
    for name, step in run.steps.items():
        if step.status != "RUNNING" or not step.begun:
            continue
        begun = step.begun[-1]
        if begun.execution_id is not None:
            outcome = await neighbours.ended(begun.execution_id)
            found += [] if outcome is None else [of_execution(name, begun.attempt, outcome)]
        children: dict[str, int | None] = {begun.child_run_id: None} if begun.child_run_id else {}
        children |= {item.child_run_id: index for index, item in enumerate(begun.items) if item.status is None}
        for child_id, index in children.items():
            child = await driver.fresh(child_id)
            if child.end is not None:
                parent = Parent(run_id=run_id, step=name, attempt=begun.attempt, index=index)
                found.append(of_child(parent, child_id, child.end))
    return found
