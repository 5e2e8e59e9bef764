"""Batches over HTTP: make, list, look at, cancel, retry in place."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from projections import batches
from rgrid.api import batch_views, links, lists
from rgrid.api.batch_requests import BatchCreate, BatchExecutionFilter, BatchFilter, BatchRetryQuery
from rgrid.api.batch_submission import accepted, again, batch_of, new_streams, references, retried, retried_items
from rgrid.api.batch_views import (
    BatchCreated,
    BatchDetail,
    BatchExecution,
    BatchRetryResponse,
    BatchStatusResponse,
    BatchSummary,
)
from rgrid.api.execution_requests import ReasonRequest
from rgrid.api.grid import Grid
from rgrid.eventstore.append import Rider
from rgrid.eventstore.handle import NewStream
from rgrid.executions.batch import DECIDER, Batch
from rgrid.executions.batch_events import BatchEvent, BatchRetried
from rgrid.executions.commands import CancelBatch, RetryBatch
from rgrid.kernel.errors import Rejected, Unavailable
from rgrid.kernel.ids import new_id
from rgrid.web.operation import ActionResponse, Call, NoQuery, Operation, Reply, missing
from rgrid.web.pages import Page

_TAGS: Final = ("batches",)
_PATH: Final = "/api/v1/batches"
_LATE: Final = (503,)
CAUGHT_UP_TRIES_MAX: Final = 5
_FAILED: Final = ("failed", "timed_out", "cancelled")


class Batches:
    """The controllers. Each sends one command or runs one query."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    async def create(self, call: Call[NoQuery, BatchCreate]) -> Reply:
        grid, batch_id = self._grid, new_id("batch")
        command, submissions = await batch_of(grid, batch_id, call.body, call.actor.actor)
        body = BatchCreated(
            id=batch_id,
            status="pending",
            message=f"{len(submissions)} executions were made.",
            batch_id=batch_id,
            total=len(submissions),
            executions=references(grid, submissions, links.base(grid, call.headers)),
        )
        reply = Reply(201, body, location=f"{_PATH}/{batch_id}")
        handled = await grid.handler.handle(
            DECIDER,
            batch_id,
            command,
            call.cause(),
            new=True,
            along=lambda _state, _events: new_streams(submissions),
            riders=lambda _state, _events, _version: call.riders(reply),
        )
        reply.position = handled.position
        return reply

    async def listed(self, call: Call[BatchFilter, None]) -> Reply:
        keys = (batches.KEYS[call.page.sort], batches.KEYS["batch_id"])
        await self._grid.caught_up()
        wanted = call.query
        rows = await batches.page(
            self._grid.pool, wanted.status, wanted.since, wanted.until, lists.window(call.page, keys)
        )
        return Reply(200, lists.page(rows, call.page, keys, batch_views.summary))

    async def one(self, call: Call[NoQuery, None]) -> Reply:
        row = await self._find(call.path["batch_id"])
        return Reply(200, batch_views.detail(row), etag=row["position"])

    async def status(self, call: Call[NoQuery, None]) -> Reply:
        row = await self._find(call.path["batch_id"])
        statuses: Any = await batches.statuses(self._grid.pool, row["batch_id"])
        return Reply(200, batch_views.status(row, statuses))

    async def executions(self, call: Call[BatchExecutionFilter, None]) -> Reply:
        row = await self._find(call.path["batch_id"])
        rows = await batches.items(
            self._grid.pool,
            row["batch_id"],
            call.query.status,
            lists.window(call.page, batches.ITEM_KEYS),
            include_superseded=call.query.include_superseded,
        )
        return Reply(200, lists.page(rows, call.page, batches.ITEM_KEYS, batch_views.execution))

    async def cancel(self, call: Call[NoQuery, ReasonRequest | None]) -> Reply:
        batch_id = call.path["batch_id"]
        row = await self._find(batch_id)
        if batch_views.is_over(row):
            status = row["status"]
            raise Rejected(f"Batch {batch_id} is {status} and can't be cancelled.", extra={"current_status": status})
        message = "Everything that hasn't ended is being stopped."
        reply = Reply(200, ActionResponse(id=batch_id, status="cancelling", message=message))
        if row["status"] == "cancelling":
            return reply
        handled = await self._grid.handler.handle(
            DECIDER,
            batch_id,
            CancelBatch(requested_by=call.actor.actor, reason=call.body.reason if call.body is not None else None),
            call.cause(),
            riders=lambda _state, _events, _version: call.riders(reply),
        )
        reply.position = handled.position
        return reply

    async def retry(self, call: Call[BatchRetryQuery, None]) -> Reply:
        grid, batch_id = self._grid, call.path["batch_id"]
        row = await self._find(batch_id)
        wanted = _FAILED if call.query.failed_only else (*_FAILED, "completed")
        originals = [] if row["status"] == "cancelling" else await batches.latest(grid.pool, batch_id, wanted)
        if not originals:
            raise _nothing(row)
        submissions = await again(grid, [each for each, _ in originals], call.actor.actor)
        reply = Reply(202, location=f"{_PATH}/{batch_id}")

        def along(_state: Batch, events: Sequence[BatchEvent]) -> list[NewStream]:
            (event,) = events
            assert isinstance(event, BatchRetried)
            kept = accepted(event, submissions)
            reply.body = BatchRetryResponse(
                id=batch_id,
                status="running",
                message=f"{len(kept)} executions run once more.",
                retried=retried(kept, dict(originals)),
            )
            return new_streams(kept)

        def riders(_state: Batch, _events: Sequence[BatchEvent], _version: int) -> Sequence[Rider]:
            return call.riders(reply)

        command = RetryBatch(items=retried_items(submissions), requested_by=call.actor.actor)
        handled = await grid.handler.handle(DECIDER, batch_id, command, call.cause(), along=along, riders=riders)
        reply.position = handled.position
        return reply

    async def _find(self, batch_id: str) -> Mapping[str, Any]:
        """Raises NotFound; Unavailable for a batch that was made and isn't on the read side in time."""
        for _ in range(CAUGHT_UP_TRIES_MAX):
            await self._grid.caught_up()
            row = await batches.get(self._grid.pool, batch_id)
            if row is not None and batch_views.is_whole(row):
                return row
            batch, _version = await self._grid.handler.load(DECIDER, batch_id)
            if not batch.is_closed:
                raise missing("Batch", batch_id)
        raise Unavailable(f"Batch {batch_id} was just made; ask again.", code="position_not_reached")


def _nothing(row: Mapping[str, Any]) -> Rejected:
    status = row["status"]
    return Rejected(
        f"Batch {row['batch_id']} is {status}; there is nothing to retry.",
        code="nothing_to_retry",
        extra={"current_status": status},
    )


def operations(grid: Grid) -> list[Operation]:
    controllers = Batches(grid)

    def operation(method: Any, sub: str, auth: Any, handler: Any, ok: Any, *flags: Any, **more: Any) -> Operation:
        return Operation(
            method=method,
            path=_PATH + sub,
            auth=auth,
            handler=handler,
            ok=ok,
            flags=frozenset(flags),
            tags=_TAGS,
            **more,
        )

    return [
        operation(
            "POST", "", "run", controllers.create, {201: BatchCreated}, "idem", "mutates",
            body=BatchCreate, errors=(402, 404), summary="Run a script over many items, in one request.",
        ),
        operation(
            "GET", "", "read", controllers.listed, {200: Page[BatchSummary]}, "page", query=BatchFilter,
            sort=("created_at", "completed_at", "total"), summary="List batches, newest first.",
        ),
        operation(
            "GET", "/{batch_id}", "read", controllers.one, {200: BatchDetail}, "etag", errors=_LATE,
            summary="Look at one batch.",
        ),
        operation(
            "GET", "/{batch_id}/status", "read", controllers.status, {200: BatchStatusResponse}, errors=_LATE,
            summary="Show how far a batch is: the status of every item, in order.",
        ),
        operation(
            "GET", "/{batch_id}/executions", "read", controllers.executions, {200: Page[BatchExecution]}, "page",
            query=BatchExecutionFilter, order_default="asc", summary="List a batch's executions, by index.",
        ),
        operation(
            "POST", "/{batch_id}/cancel", "run", controllers.cancel, {200: ActionResponse}, "idem", "mutates",
            body=ReasonRequest, body_optional=True, errors=_LATE,
            summary="Cancel everything in a batch that hasn't ended.",
        ),
        operation(
            "POST", "/{batch_id}/retry", "run", controllers.retry, {202: BatchRetryResponse}, "idem", "mutates",
            query=BatchRetryQuery, errors=(402, 410, *_LATE), summary="Run what failed once more, in the same batch.",
        ),
    ]  # fmt: skip
