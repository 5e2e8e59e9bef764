"""`/ws/executions/{execution_id}/logs`: the whole log from a cursor on, then live, then how it ended."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from projections import execution_detail
from projections.execution_detail import TERMINAL, Detail
from rgrid.api.authenticate import Authenticator
from rgrid.api.execution_requests import ExecutionStatus, Stream
from rgrid.api.grid import Grid, find
from rgrid.executions import logs
from rgrid.executions.events import FailureReason
from rgrid.kernel.clock import now
from rgrid.kernel.errors import Forbidden, RgridError
from rgrid.web import live
from rgrid.web.decoding import QueryDecoder, split_query
from rgrid.web.exchange import App, ASGIScope, Receive, Send
from rgrid.web.live import Sockets, Talk
from rgrid.web.principal import Principal

PATH: Final = "/ws/executions/{execution_id}/logs"
FRAMES_AT_ONCE: Final = 500

Redeem = Callable[[str, str], Awaitable[Principal | None]]
"""(ticket, execution id) -> who got the ticket; works once."""


class LogFrame(msgspec.Struct, kw_only=True, tag="log"):
    log_id: str
    execution_id: str
    attempt: int
    sequence_number: int
    timestamp: datetime
    stream: Literal["stdout", "stderr"]
    message: str


class StatusFrame(msgspec.Struct, kw_only=True, tag="status"):
    execution_id: str
    status: ExecutionStatus
    attempt: int


class HeartbeatFrame(msgspec.Struct, kw_only=True, tag="heartbeat"):
    last_sequence_number: int
    timestamp: datetime


class CompleteFrame(msgspec.Struct, kw_only=True, tag="complete"):
    execution_id: str
    status: ExecutionStatus
    exit_code: int | None
    failure_reason: FailureReason | None
    last_sequence_number: int


class ErrorFrame(msgspec.Struct, kw_only=True, tag="error"):
    execution_id: str
    code: str
    error: str


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The query: the last sequence number already seen, one stream or both, a ticket instead of a header."""

    cursor: Annotated[int, Meta(ge=-1)] = -1
    stream: Stream | None = None
    token: str | None = None


def log_socket(grid: Grid, authenticator: Authenticator, redeem: Redeem, sockets: Sockets) -> App:
    """The WebSocket handler."""
    decoder = QueryDecoder(Wanted)

    async def serve(scope: ASGIScope, receive: Receive, send: Send) -> None:
        execution_id: str = scope["path_params"]["execution_id"]

        async def open_talk() -> Talk:
            # The ticket is read first, because it may be the only credential; a bad parameter is told afterwards.
            pairs = split_query(scope["query_string"])
            ticket = dict(pairs).get("token")
            caller = await live.caller_of(scope, authenticator, lambda text: redeem(text, execution_id), ticket)
            if not caller.scopes:
                raise Forbidden("Following a log needs the scope read.")
            (wanted,) = decoder.decode(pairs)
            following = Following(grid, await find(grid, execution_id), wanted)
            return Talk(following.frames(), following.heartbeat, lambda: authenticator.still_counts(caller))

        def refused(error: RgridError) -> ErrorFrame:
            return ErrorFrame(execution_id=execution_id, code=error.code, error=error.detail)

        await live.converse(receive, send, open_talk, refused, sockets)

    return serve


class Following:
    """One follower. Everything comes from the database in order of sequence numbers, so there is no handover between
    history and live, and nothing to lose when a process restarts."""

    def __init__(self, grid: Grid, detail: Detail, wanted: Wanted) -> None:
        self._grid = grid
        self._execution_id = detail.execution_id
        self._stream = wanted.stream
        self._seen = wanted.cursor
        self._told: tuple[str, int] | None = None

    async def frames(self) -> AsyncIterator[msgspec.Struct]:
        with self._grid.lines_stored.follow(self._execution_id) as follower:
            while True:
                # The state is read before the lines: whatever an ended attempt printed is stored before its end.
                detail = await execution_detail.get(self._grid.store, self._execution_id)
                assert detail is not None
                async for line in self._lines():
                    yield line
                standing = (detail.status, detail.last.attempt if detail.last else 0)
                if detail.status in TERMINAL:
                    yield await self._complete(detail)
                    return
                if standing != self._told:
                    self._told = standing
                    yield StatusFrame(
                        execution_id=self._execution_id, status=detail.status, attempt=max(1, standing[1])
                    )
                await follower.news()

    async def _lines(self) -> AsyncIterator[LogFrame]:
        while True:
            rows = await logs.page(
                self._grid.pool, self._execution_id, after=self._seen, stream=self._stream, limit=FRAMES_AT_ONCE
            )
            for row in rows:
                self._seen = row.sequence_number
                yield LogFrame(**msgspec.structs.asdict(row))
            if len(rows) < FRAMES_AT_ONCE:
                return

    async def _complete(self, detail: Detail) -> CompleteFrame:
        return CompleteFrame(
            execution_id=self._execution_id,
            status=detail.status,
            exit_code=detail.exit_code,
            failure_reason=detail.failure_reason,
            last_sequence_number=await logs.last_sequence(self._grid.pool, self._execution_id),
        )

    def heartbeat(self) -> HeartbeatFrame:
        return HeartbeatFrame(last_sequence_number=self._seen, timestamp=now())
