"""Tickets for WebSockets over HTTP."""

from datetime import datetime

import msgspec

from rgrid.access import tickets
from rgrid.api.grid import Grid, find
from rgrid.web.operation import Call, NoQuery, Operation, Reply


class WsTicketCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For which execution."""

    execution_id: str


class WsTicket(msgspec.Struct, kw_only=True):
    """Goes into the query of the WebSocket's address as `token`. Works once, within a minute."""

    ticket: str
    execution_id: str
    expires_at: datetime


def operations(grid: Grid) -> list[Operation]:
    async def create(call: Call[NoQuery, WsTicketCreate]) -> Reply:
        await find(grid, call.body.execution_id)
        issued = await tickets.issue(grid.pool, call.actor, call.body.execution_id)
        return Reply(201, msgspec.convert(issued, WsTicket, from_attributes=True))

    return [
        Operation(
            method="POST",
            path="/api/v1/ws-tickets",
            auth="read",
            handler=create,
            body=WsTicketCreate,
            ok={201: WsTicket},
            errors=(404,),
            tags=("access",),
            summary="Get a ticket to follow the log of one execution over a WebSocket.",
        )
    ]
