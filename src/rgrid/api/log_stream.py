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
        self._told = 0

    async def frames(self) -> AsyncIterator[msgspec.Struct]:
        with self._grid.lines_stored.follow(self._execution_id) as follower:
            while True:
                # The state is read before the lines: whatever an ended attempt printed is stored before its end.
                stages = await execution_detail.course(self._grid.store, self._execution_id)
                news = self._news(stages)
                async for line in self._lines():
                    # Each attempt is announced before its first line.
                    while any(one.status == "running" and one.attempt <= line.attempt for one in news):
                        yield news.pop(0)
                    yield line
                if not self._told and stages[-1].status not in TERMINAL:
                    news = [_status(stages[-1])]
                self._told = len(stages)
                for frame in news:
                    yield frame
                if stages[-1].status in TERMINAL:
                    yield await self._complete(stages[-1])
                    return
                await follower.news()

    def _news(self, stages: list[Detail]) -> list[StatusFrame]:
        """What this follower has still to hear; one who just came hears where it stands after the history."""
        fresh = stages[self._told :] if self._told else []
        return [_status(stage) for stage in fresh if stage.status not in TERMINAL]

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


def _status(stage: Detail) -> StatusFrame:
    return StatusFrame(execution_id=stage.execution_id, status=stage.status, attempt=max(1, len(stage.attempts)))
