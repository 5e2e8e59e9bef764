"""Executions over HTTP: submit, list, look at, cancel, and the events of each."""

from collections.abc import Sequence
from typing import Any

import msgspec

from projections import execution_detail, executions
from rgrid.api import as_of, links, lists, resource
from rgrid.api.batch_submission import retry_in_batch
from rgrid.api.event_records import EventRecord, event_record
from rgrid.api.execution_requests import ExecutionCreate, ExecutionFilter, ReasonRequest
from rgrid.api.execution_views import ExecutionResponse, ExecutionSummary, summary
from rgrid.api.grid import Grid, find
from rgrid.api.requirements import text_of
from rgrid.api.submission import command_again, command_for, sealed_again
from rgrid.eventstore.append import Rider
from rgrid.executions import leases
from rgrid.executions.commands import CancelExecution, SubmitExecution
from rgrid.executions.events import CancelRequested, ExecutionEvent
from rgrid.executions.execution import DECIDER, Execution
from rgrid.kernel.errors import Rejected
from rgrid.kernel.ids import new_id
from rgrid.subscriptions.past import past
from rgrid.web.operation import ActionResponse, Call, NoQuery, Operation, Reply
from rgrid.web.pages import Page, slice_page

_TAGS = ("executions",)


class Executions:
    """The controllers. Each sends one command or runs one query."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    async def submit(self, call: Call[NoQuery, ExecutionCreate]) -> Reply:
        execution_id = new_id("exec")
        command = await command_for(self._grid, execution_id, call.body, call.actor.actor)
        return await self._submitted(call, execution_id, command, call.body.script_content)

    async def retry(self, call: Call[NoQuery, None]) -> Reply:
        detail = await find(self._grid, call.path["execution_id"])
        execution_id = new_id("exec")
        command = await command_again(self._grid, detail, call.actor.actor)
        sealed = await sealed_again(self._grid, {execution_id: detail})
        command = msgspec.structs.replace(command, env_sealed=sealed[execution_id])
        return await self._submitted(call, execution_id, command, await resource.script_of(self._grid, detail))

    async def _submitted(self, call: Call[Any, Any], execution_id: str, command: SubmitExecution, script: str) -> Reply:
        grid = self._grid

        requirements = await text_of(grid, command.requirements_sha256)
        replies: list[Reply] = []

        def riders(_state: Execution, events: Sequence[ExecutionEvent], version: int) -> Sequence[Rider]:
            detail = execution_detail.fold(execution_id, events, version)
            assert detail is not None
            body = resource.fresh(grid, detail, script, requirements, links.base(grid, call.headers))
            replies[:] = [Reply(201, body, etag=version, location=f"/api/v1/executions/{execution_id}")]
            return call.riders(replies[0])

        if command.retry_of is None or command.batch_id is None:
            submitted = await grid.handler.handle(DECIDER, execution_id, command, call.cause(), new=True, riders=riders)
            position = submitted.position
        else:
            position = await retry_in_batch(grid, execution_id, command, call.cause(), riders)
        replies[0].position = position
        return replies[0]

    async def listed(self, call: Call[ExecutionFilter, None]) -> Reply:
        keys = (executions.KEYS[call.page.sort], executions.KEYS["execution_id"])
        wanted = msgspec.convert(call.query, executions.Filter, from_attributes=True)
        if wanted.runtime is not None:
            wanted = msgspec.structs.replace(wanted, runtime=await self._grid.runtimes.canonical(wanted.runtime))
        window = lists.window(call.page, keys)
        if call.as_of is None:
            await self._grid.caught_up()
            rows = await executions.page(self._grid.pool, wanted, window)
            return Reply(200, lists.page(rows, call.page, keys, summary))
        position = await as_of.position(self._grid.store, call.as_of)
        async with past(self._grid.pool, self._grid.store, executions.PROJECTION, position) as connection:
            rows = await executions.page(connection, wanted, window)
        return Reply(200, lists.page(rows, call.page, keys, summary), as_of_position=position)

    async def one(self, call: Call[NoQuery, None]) -> Reply:
        execution_id = call.path["execution_id"]
        if call.as_of is None:
            detail = await find(self._grid, execution_id)
            body = await resource.full(self._grid, detail, links.base(self._grid, call.headers))
            return Reply(200, body, etag=detail.version)
        position = await as_of.position(self._grid.store, call.as_of)
        detail = await find(self._grid, execution_id, position)
        return Reply(200, await resource.past(self._grid, detail), as_of_position=position)

    async def cancel(self, call: Call[NoQuery, ReasonRequest | None]) -> Reply:
        execution_id = call.path["execution_id"]
        await find(self._grid, execution_id)
        command = CancelExecution(
            requested_by=call.actor.actor, reason=call.body.reason if call.body is not None else None
        )

        def reply_of(status: str) -> Reply:
            body = ActionResponse(
                id=execution_id,
                status="cancel_requested" if status == "running" else "cancelled",
                message="The worker was asked to stop it." if status == "running" else "The execution is cancelled.",
            )
            return Reply(200, body)

        try:
            handled = await self._grid.handler.handle(
                DECIDER,
                execution_id,
                command,
                call.cause(),
                riders=lambda state, events, _version: [
                    *([leases.ask_to_cancel(execution_id)] if isinstance(events[0], CancelRequested) else []),
                    *call.riders(reply_of(state.status)),
                ],
            )
        except Rejected as refused:
            status = refused.extra.get("current_status")
            raise Rejected(
                f"Execution {execution_id} is {status} and can't be cancelled.", extra=refused.extra
            ) from None
        self._grid.lines_stored.tell([execution_id])
        reply = reply_of(handled.state.status)
        reply.position = handled.position
        return reply

    async def events(self, call: Call[NoQuery, None]) -> Reply:
        execution_id = call.path["execution_id"]
        await find(self._grid, execution_id)
        recorded = await self._grid.store.read_stream(DECIDER.stream_id(execution_id))
        return Reply(200, slice_page([event_record(one) for one in recorded], call.page))


def operations(grid: Grid) -> list[Operation]:
    controllers = Executions(grid)
    path = "/api/v1/executions"

    def operation(method: Any, sub: str, auth: Any, handler: Any, ok: Any, *flags: Any, **more: Any) -> Operation:
        return Operation(
            method=method,
            path=path + sub,
            auth=auth,
            handler=handler,
            ok=ok,
            flags=frozenset(flags),
            tags=_TAGS,
            **more,
        )

    return [
        operation(
            "POST", "", "run", controllers.submit, {201: ExecutionResponse}, "idem", "mutates", "etag",
            body=ExecutionCreate, errors=(402, 404, 409), summary="Submit a script.",
        ),
        operation(
            "GET", "", "read", controllers.listed, {200: Page[ExecutionSummary]}, "page", "as_of",
            query=ExecutionFilter, sort=tuple(executions.KEYS)[:-1], summary="List executions, newest first.",
        ),
        operation(
            "GET", "/{execution_id}", "read", controllers.one, {200: ExecutionResponse}, "etag", "as_of",
            summary="Look at one execution.",
        ),
        operation(
            "POST", "/{execution_id}/cancel", "run", controllers.cancel, {200: ActionResponse}, "idem", "mutates",
            body=ReasonRequest, body_optional=True, summary="Cancel an execution.",
        ),
        operation(
            "POST", "/{execution_id}/retry", "run", controllers.retry, {201: ExecutionResponse}, "idem", "mutates",
            "etag", errors=(402, 410), summary="Run an execution that has ended once more, as a new one.",
        ),
        operation(
            "GET", "/{execution_id}/events", "read", controllers.events, {200: Page[EventRecord]}, "page",
            summary="List what happened to an execution, oldest first.",
        ),
    ]  # fmt: skip
