"""Workflow runs over HTTP, the reading side: list, one of them, its steps, graph and events."""

from typing import Any, Final

import msgspec

from projections import run_detail, workflow_runs
from projections.run_detail import Detail
from rgrid.api import as_of, lists, workflow_graph, workflow_run_views
from rgrid.api.event_records import EventRecord, event_record
from rgrid.api.grid import Grid
from rgrid.api.workflow_graph import WorkflowGraph
from rgrid.api.workflow_run_requests import RunFilter, RunQuery, StepFilter
from rgrid.api.workflow_run_views import WorkflowRunDetail, WorkflowRunSummary, WorkflowStepDetail
from rgrid.kernel.ids import is_id
from rgrid.subscriptions.past import past
from rgrid.web.operation import Call, NoQuery, Operation, Reply, missing
from rgrid.web.pages import Page, number_of, page_of, slice_page
from rgrid.workflows.run import DECIDER

PATH: Final = "/api/v1/workflows/runs"
LIMIT_MAX: Final = 100
_TAGS: Final = ("workflow runs",)


async def find(grid: Grid, run_id: str, position: int | None = None) -> Detail:
    """The run now, or at an earlier position. Raises NotFound, also for a malformed id."""
    detail = await run_detail.get(grid.store, run_id, position) if is_id("run", run_id) else None
    if detail is None:
        raise missing("Workflow run", run_id)
    return detail


class WorkflowRuns:
    """The controllers. Each runs one query, or folds one stream."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    async def listed(self, call: Call[RunFilter, None]) -> Reply:
        keys = (workflow_runs.KEYS[call.page.sort], workflow_runs.KEYS["run_id"])
        wanted = msgspec.convert(call.query, workflow_runs.Filter, from_attributes=True)
        window = lists.window(call.page, keys)
        if call.as_of is None:
            await self._grid.caught_up()
            rows = await workflow_runs.page(self._grid.pool, wanted, window)
            return Reply(200, lists.page(rows, call.page, keys, workflow_run_views.summary))
        position = await as_of.position(self._grid.store, call.as_of)
        async with past(self._grid.pool, self._grid.store, workflow_runs.PROJECTION, position) as connection:
            rows = await workflow_runs.page(connection, wanted, window)
        return Reply(200, lists.page(rows, call.page, keys, workflow_run_views.summary), as_of_position=position)

    async def one(self, call: Call[RunQuery, None]) -> Reply:
        run_id, include_steps = call.path["run_id"], call.query.include_steps
        if call.as_of is None:
            run = await find(self._grid, run_id)
            return Reply(200, workflow_run_views.detail(run, include_steps=include_steps), etag=run.version)
        position = await as_of.position(self._grid.store, call.as_of)
        run = await find(self._grid, run_id, position)
        return Reply(200, workflow_run_views.detail(run, include_steps=include_steps), as_of_position=position)

    async def steps(self, call: Call[StepFilter, None]) -> Reply:
        run = await find(self._grid, call.path["run_id"])
        wanted = call.query.status
        shown = [workflow_run_views.step(run, one) for one in run.tries if wanted in (None, one.status)]
        return Reply(200, slice_page(shown, call.page))

    async def graph(self, call: Call[NoQuery, None]) -> Reply:
        return Reply(200, workflow_graph.of_run(await find(self._grid, call.path["run_id"])))

    async def events(self, call: Call[NoQuery, None]) -> Reply:
        """A run over a long list has many events, so only the page's are read."""
        run_id, page, store = call.path["run_id"], call.page, self._grid.store
        _state, total = await self._grid.handler.load(DECIDER, run_id) if is_id("run", run_id) else (None, 0)
        if not total:
            raise missing("Workflow run", run_id)
        after = page.offset if page.after is None else number_of(page.after)
        recorded = await store.read_stream(DECIDER.stream_id(run_id), min(after, total), page.limit + 1)
        return Reply(200, page_of(recorded, total, page, event_record, lambda at: [at.version]))


def operations(grid: Grid) -> list[Operation]:
    controllers = WorkflowRuns(grid)

    def operation(sub: str, handler: Any, ok: Any, *flags: Any, **more: Any) -> Operation:
        return Operation(
            method="GET",
            path=PATH + sub,
            auth="read",
            handler=handler,
            ok={200: ok},
            flags=frozenset(flags),
            tags=_TAGS,
            **more,
        )

    return [
        operation(
            "", controllers.listed, Page[WorkflowRunSummary], "page", "as_of", query=RunFilter,
            sort=tuple(workflow_runs.KEYS)[:-1], limit_max=LIMIT_MAX, summary="List workflow runs, newest first.",
        ),
        operation(
            "/{run_id}", controllers.one, WorkflowRunDetail, "etag", "as_of", query=RunQuery,
            summary="Look at one run and every try of its steps.",
        ),
        operation(
            "/{run_id}/steps", controllers.steps, Page[WorkflowStepDetail], "page", query=StepFilter,
            order_default="asc", summary="List the tries of a run's steps, in the order of the steps.",
        ),
        operation(
            "/{run_id}/graph", controllers.graph, WorkflowGraph,
            summary="Show how a run's steps hang together, where each stands and which way the run went.",
        ),
        operation(
            "/{run_id}/events", controllers.events, Page[EventRecord], "page", order_default="asc",
            summary="Page through what happened in a run, oldest first.",
        ),
    ]  # fmt: skip
