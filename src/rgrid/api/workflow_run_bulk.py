"""Cancels or retries many workflow runs at once: those that the list's filters find."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from projections import workflow_runs
from rgrid.api.grid import Grid
from rgrid.api.workflow_run_actions import begin
from rgrid.api.workflow_run_requests import BulkFilter, narrowed
from rgrid.api.workflow_run_views import BulkItem, BulkResponse
from rgrid.api.workflow_runs import PATH
from rgrid.kernel.errors import RgridError
from rgrid.kernel.ids import new_id
from rgrid.web.operation import Call, Operation, Reply
from rgrid.workflows import starting
from rgrid.workflows.commands import CancelRun
from rgrid.workflows.run import DECIDER

_TAGS: Final = ("workflow runs",)
_STOPPABLE: Final = ("PENDING", "RUNNING")
_RETRIABLE: Final = ("FAILED", "PARTIAL", "CANCELLED")
Act = Callable[[Call[Any, Any], str], Awaitable[tuple[BulkItem, int]]]
"""What is done with one run: what came of it, and the position of that."""


class BulkActions:
    """The controllers. Each sends one command a run: one that is refused keeps no other from being done."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    async def cancel(self, call: Call[BulkFilter, None]) -> Reply:
        return await self._all(call, _STOPPABLE, self._cancel_one)

    async def retry(self, call: Call[BulkFilter, None]) -> Reply:
        return await self._all(call, _RETRIABLE, self._retry_one)

    async def _all(self, call: Call[BulkFilter, None], statuses: tuple[str, ...], act: Act) -> Reply:
        query, pool = call.query, self._grid.pool
        wanted = msgspec.convert(narrowed(query), workflow_runs.Filter, from_attributes=True)
        meant = [status for status in statuses if query.status in (None, status)]
        await self._grid.caught_up()
        # Whoever asks twice doesn't mean to run twice what was run again already.
        retrying = act == self._retry_one
        found, matched = await workflow_runs.oldest(pool, wanted, meant, query.limit, to_retry=retrying)
        items: list[BulkItem] = []
        position = 0
        for run_id, status in found:
            if query.dry_run:
                items.append(BulkItem(run_id=run_id, status=status))
                continue
            try:
                item, written = await act(call, run_id)
                position = max(position, written)
            except RgridError as refused:
                item = BulkItem(run_id=run_id, status=status, code=refused.code, error=refused.detail)
            items.append(item)
        refusals = sum(one.code is not None for one in items)
        body = BulkResponse(
            dry_run=query.dry_run,
            matched=matched,
            done=0 if query.dry_run else len(items) - refusals,
            refused=refusals,
            runs=items,
        )
        return Reply(200, body, position=position)

    async def _cancel_one(self, call: Call[Any, Any], run_id: str) -> tuple[BulkItem, int]:
        command = CancelRun(requested_by=call.actor.actor)
        handled = await self._grid.handler.handle(DECIDER, run_id, command, call.cause())
        return BulkItem(run_id=run_id, status=handled.state.status), handled.position

    async def _retry_one(self, call: Call[Any, Any], run_id: str) -> tuple[BulkItem, int]:
        command = await starting.retried(
            self._grid.handler, run_id, new_id("run"), from_step=None, triggered_by=call.actor.actor
        )
        handled = await begin(self._grid, command, call.cause())
        return BulkItem(run_id=run_id, status=handled.state.status, new_run_id=command.run_id), handled.position


def operations(grid: Grid) -> list[Operation]:
    controllers = BulkActions(grid)

    def operation(sub: str, handler: Any, summary: str) -> Operation:
        return Operation(
            method="POST",
            path=PATH + sub,
            auth="run",
            handler=handler,
            ok={200: BulkResponse},
            query=BulkFilter,
            flags=frozenset({"idem", "mutates"}),
            tags=_TAGS,
            summary=summary,
        )

    return [
        operation(
            "/bulk-cancel", controllers.cancel, "Cancel the runs that the filters find, the oldest first, up to 1,000."
        ),
        operation(
            "/bulk-retry", controllers.retry, "Run again what failed of the runs that the filters find, up to 1,000."
        ),
    ]
