"""Workers over HTTP: who they are, what they do, and asking one to drain."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from projections import workers
from rgrid.api import lists
from rgrid.api.execution_requests import ReasonRequest
from rgrid.api.grid import Grid
from rgrid.kernel.errors import Rejected
from rgrid.kernel.ids import is_id
from rgrid.runners.commands import DrainWorker
from rgrid.runners.runner import DECIDER
from rgrid.web.operation import ActionResponse, Call, NoQuery, Operation, Reply, missing
from rgrid.web.pages import Page

WorkerStatus = Literal["active", "draining", "lost", "stopped"]
_TAGS = ("workers",)


class Worker(msgspec.Struct, kw_only=True):
    """A worker process. Its version grows with what happens to it, not with heartbeats or executions."""

    id: str
    hostname: str
    runner_kind: str
    sandbox_level: str
    status: WorkerStatus
    slots: int
    running: int
    current_executions: list[str]
    runtimes: list[str]
    version: str
    hourly_micros: int
    started_at: datetime
    last_heartbeat_at: datetime
    stopped_at: datetime | None


class WorkerFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Narrows the list of workers."""

    status: WorkerStatus | None = None


class Workers:
    """The controllers. Each sends one command or runs one query."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    async def listed(self, call: Call[WorkerFilter, None]) -> Reply:
        order = (workers.KEYS[call.page.sort], workers.KEYS["worker_id"])
        await self._grid.caught_up()
        rows = await workers.page(self._grid.pool, call.query.status, lists.window(call.page, order))
        return Reply(200, lists.page(rows, call.page, order, self._shown))

    async def one(self, call: Call[NoQuery, None]) -> Reply:
        row = await self._row(call.path["worker_id"])
        return Reply(200, self._shown(row), etag=row["changes"])

    async def drain(self, call: Call[NoQuery, ReasonRequest | None]) -> Reply:
        worker_id = call.path["worker_id"]
        await self._row(worker_id)
        reply = Reply(
            202,
            ActionResponse(
                id=worker_id,
                status="draining",
                message="The worker takes nothing new, finishes what it has, and stops.",
            ),
            location=f"/api/v1/workers/{worker_id}",
        )
        command = DrainWorker(requested_by=call.actor.actor, reason=call.body.reason if call.body is not None else None)
        try:
            handled = await self._grid.handler.handle(
                DECIDER,
                worker_id,
                command,
                call.cause(),
                riders=lambda _state, _events, _version: call.riders(reply),
            )
        except Rejected as refused:
            status = refused.extra.get("current_status")
            raise Rejected(f"Worker {worker_id} is {status} and can't be drained.", extra=refused.extra) from None
        reply.position = handled.position
        return reply

    async def _row(self, worker_id: str) -> Mapping[str, Any]:
        if not is_id("wrk", worker_id):
            raise missing("Worker", worker_id)
        await self._grid.caught_up()
        row = await workers.get(self._grid.pool, worker_id)
        if row is None:
            raise missing("Worker", worker_id)
        return row

    def _shown(self, row: Mapping[str, Any]) -> Worker:
        return Worker(
            id=row["worker_id"],
            hostname=row["hostname"],
            runner_kind=row["runner_kind"],
            sandbox_level=row["sandbox_level"],
            status=row["status"],
            slots=row["slots"],
            running=len(row["current_executions"]),
            current_executions=row["current_executions"],
            runtimes=row["runtimes"],
            version=row["version"],
            hourly_micros=self._grid.settings.rate_micros_per_vcpu_hour,
            started_at=row["started_at"],
            last_heartbeat_at=row["last_heartbeat_at"],
            stopped_at=row["stopped_at"],
        )


def operations(grid: Grid) -> list[Operation]:
    controllers = Workers(grid)
    return [
        Operation(
            method="GET",
            path="/api/v1/workers",
            auth="read",
            handler=controllers.listed,
            query=WorkerFilter,
            ok={200: Page[Worker]},
            flags=frozenset({"page"}),
            sort=("started_at", "last_heartbeat_at", "hostname"),
            tags=_TAGS,
            summary="List the workers.",
        ),
        Operation(
            method="GET",
            path="/api/v1/workers/{worker_id}",
            auth="read",
            handler=controllers.one,
            ok={200: Worker},
            flags=frozenset({"etag"}),
            tags=_TAGS,
            summary="Show one worker.",
        ),
        Operation(
            method="POST",
            path="/api/v1/workers/{worker_id}/drain",
            auth="admin",
            handler=controllers.drain,
            body=ReasonRequest,
            body_optional=True,
            ok={202: ActionResponse},
            flags=frozenset({"idem", "mutates"}),
            tags=_TAGS,
            summary="Ask a worker to take nothing new, finish what it has, and stop.",
        ),
    ]
