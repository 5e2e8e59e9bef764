"""The log lines of all executions of a workflow run in one stream: try by try, in the order in which they began."""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from projections import run_tries
from projections.run_tries import StartedExecution
from rgrid.api.grid import Grid
from rgrid.api.workflow_run_requests import RunLogQuery
from rgrid.api.workflow_run_views import RunLogRow
from rgrid.api.workflow_runs import PATH, find
from rgrid.executions.log_reader import Wanted
from rgrid.executions.logs import LogRow
from rgrid.kernel.errors import Invalid
from rgrid.web.operation import Call, Operation, Reply
from rgrid.web.pages import Page, PageRequest, page_of

EXECUTIONS_MAX: Final = 1_000
COUNTED_AT_ONCE: Final = 4


class RunLogs:
    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    async def page(self, call: Call[RunLogQuery, None]) -> Reply:
        """The list of executions grows at its end only, so a cursor keeps its place while the run goes on."""
        run = await find(self._grid, call.path["run_id"])
        await self._grid.caught_up()
        begun = [
            one
            for one in await run_tries.executions(self._grid.pool, run.run_id)
            if (call.query.include_children or one.run_id == run.run_id) and call.query.step in (None, one.step)
        ]
        if len(begun) > EXECUTIONS_MAX:
            raise Invalid(
                f"The run and those below it started more than {EXECUTIONS_MAX} executions; ask for a step, or for the"
                " child runs one by one.",
                code="too_many_executions",
                fields=[("query.step", "Name one."), ("query.include_children", "false leaves out the child runs.")],
            )
        totals = await self._totals(begun)
        at, after, skip = _place(begun, call.page)
        rows: list[tuple[StartedExecution, LogRow]] = []
        wanted = call.page.limit + 1
        for one, lines in list(zip(begun, totals, strict=True))[at:]:
            if len(rows) >= wanted:
                break
            if skip >= lines or not lines:
                skip -= min(skip, lines)
            else:
                found = await self._grid.log_reader.page(Wanted(one.execution_id, after), wanted - len(rows), skip)
                rows += [(one, row) for row in found]
                skip = 0
            after = -1
        return Reply(200, page_of(rows, sum(totals), call.page, _shown, _keys))

    async def _totals(self, begun: Sequence[StartedExecution]) -> list[int]:
        free = asyncio.Semaphore(COUNTED_AT_ONCE)

        async def count(one: StartedExecution) -> int:
            async with free:
                return await self._grid.log_reader.total(Wanted(one.execution_id))

        return await asyncio.gather(*map(count, begun))


def _place(begun: Sequence[StartedExecution], page: PageRequest) -> tuple[int, int, int]:
    """Where a page begins: which execution, after which of its lines, and how many more are skipped."""
    if page.after is None:
        return 0, -1, page.offset
    execution_id, number = page.after if len(page.after) == 2 else (None, None)
    places = [index for index, one in enumerate(begun) if one.execution_id == execution_id]
    if not places or not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**63:
        raise Invalid("The cursor is broken.", code="invalid_cursor")
    return places[0], number, 0


def _shown(found: tuple[StartedExecution, LogRow]) -> RunLogRow:
    one, row = found
    return RunLogRow(**msgspec.structs.asdict(row), run_id=one.run_id, step_name=one.step, step_attempt=one.attempt)


def _keys(found: tuple[StartedExecution, LogRow]) -> list[str | int]:
    return [found[0].execution_id, found[1].sequence_number]


def operations(grid: Grid) -> list[Operation]:
    return [
        Operation(
            method="GET", path=PATH + "/{run_id}/logs", auth="read", handler=RunLogs(grid).page,
            ok={200: Page[RunLogRow]}, query=RunLogQuery, flags=frozenset({"page"}), order_default="asc",
            tags=("workflow runs",),
            summary="Page through what the scripts of a run printed, and of the runs below it, try by try.",
        )
    ]  # fmt: skip
