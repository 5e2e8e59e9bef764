"""`/ws/executions/{execution_id}/logs`: the whole log from a cursor on, then live, then how it ended."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from projections.execution_detail import TERMINAL, Detail
from rgrid.api.authenticate import Authenticator
from rgrid.api.execution_requests import ExecutionStatus, Stream
from rgrid.api.grid import Grid, find
from rgrid.api.log_watch import Line, Watch, Watches, encoded
from rgrid.executions.events import FailureReason
from rgrid.executions.log_reader import Wanted as WantedLines
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
    watches = Watches(grid)

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
            following = Following(grid, watches, await find(grid, execution_id), wanted)
            return Talk(following.frames(), following.heartbeat, lambda: authenticator.still_counts(caller))

        def refused(error: RgridError) -> ErrorFrame:
            return ErrorFrame(execution_id=execution_id, code=error.code, error=error.detail)

        await live.converse(receive, send, open_talk, refused, sockets)

    return serve


class Following:
    """One follower. Everything comes from the database in order of sequence numbers, so there is no handover between
    history and live, and nothing to lose when a process restarts. What all followers want at once is read once."""

    def __init__(self, grid: Grid, watches: Watches, detail: Detail, wanted: Wanted) -> None:
        self._grid = grid
        self._watches = watches
        self._execution_id = detail.execution_id
        self._stream = wanted.stream
        self._given = wanted.cursor
        self._read = wanted.cursor  # beyond what was given when the other stream's lines came last
        self._told = 0

    async def frames(self) -> AsyncIterator[msgspec.Struct | bytes]:
        with self._watches.of(self._execution_id) as watch:
            seen = watch.looks
            while True:
                look = await watch.beyond(seen)
                seen, stages = look.number, look.stages
                news = self._news(stages)
                async for line in self._lines(watch):
                    # Each attempt is announced before its first line.
                    while any(one.status == "running" and one.attempt <= line.attempt for _, one in news):
                        self._told, frame = news.pop(0)
                        yield frame
                    yield line.frame
                if not look.whole:
                    continue
                if not self._told and stages[-1].status not in TERMINAL:
                    news = [(len(stages), _status(stages[-1]))]
                self._told = len(stages)
                for _, frame in news:
                    yield frame
                if stages[-1].status in TERMINAL:
                    yield await self._complete(stages[-1])
                    return

    def _news(self, stages: list[Detail]) -> list[tuple[int, StatusFrame]]:
        """What this follower has still to hear, each with how many stages it has heard of then; one who just came
        hears where it stands after the history."""
        fresh = list(enumerate(stages, 1))[self._told :] if self._told else []
        return [(heard, _status(stage)) for heard, stage in fresh if stage.status not in TERMINAL]

    async def _lines(self, watch: Watch) -> AsyncIterator[Line]:
        """From what the watch keeps, or else from the database."""
        while (recent := watch.after(self._read)) is None:
            newest = watch.newest
            wanted = WantedLines(self._execution_id, self._read, self._stream)
            rows = await self._grid.log_reader.page(wanted, FRAMES_AT_ONCE)
            for row in rows:
                self._read = self._given = row.sequence_number
                yield Line(row.sequence_number, row.attempt, row.stream, encoded(row))
            if len(rows) < FRAMES_AT_ONCE:
                self._read = max(self._read, newest)
        for line in recent:
            self._read = line.sequence_number
            if self._stream in (None, line.stream):
                self._given = line.sequence_number
                yield line

    async def _complete(self, detail: Detail) -> CompleteFrame:
        return CompleteFrame(
            execution_id=self._execution_id,
            status=detail.status,
            exit_code=detail.exit_code,
            failure_reason=detail.failure_reason,
            last_sequence_number=await self._grid.log_reader.last_sequence(self._execution_id),
        )

    def heartbeat(self) -> HeartbeatFrame:
        return HeartbeatFrame(last_sequence_number=self._given, timestamp=now())


def _status(stage: Detail) -> StatusFrame:
    return StatusFrame(execution_id=stage.execution_id, status=stage.status, attempt=max(1, len(stage.attempts)))
