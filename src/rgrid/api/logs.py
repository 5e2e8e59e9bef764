"""Log lines over HTTP: pages and plain text for readers, ingestion for whoever holds the attempt's lease."""

from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from projections.execution_detail import TERMINAL, Detail
from rgrid.api.execution_requests import Stream
from rgrid.api.grid import Grid, find
from rgrid.api.lease_tokens import LeaseClaim
from rgrid.executions import logs
from rgrid.executions.log_reader import Wanted
from rgrid.executions.logs import LogRow, NewLine
from rgrid.kernel.clock import now
from rgrid.kernel.errors import Conflict, Forbidden, Invalid, Malformed, Rejected
from rgrid.web.decoding import check_moment
from rgrid.web.operation import Call, Operation, Reply
from rgrid.web.pages import Page, PageRequest, number_of, page_of, slice_page

LAST_LINES: Final = timedelta(seconds=10)
"""How long after an execution's end the lines that its last attempt had still to say are taken."""


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines."""

    after: Annotated[int, Meta(ge=-1, description="The last sequence_number already seen.")] = -1
    stream: Stream | None = None
    attempt: Annotated[int, Meta(ge=1)] | None = None
    tail: Annotated[int, Meta(ge=1, le=1000, description="Only the last N lines.")] | None = None
    format: Literal["json", "text"] = "json"


class LogLineInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line to store."""

    sequence_number: Annotated[int, Meta(ge=0)]
    stream: Stream
    message: Annotated[str, Meta(max_length=65_536)]
    timestamp: Annotated[datetime, Meta(tz=True)] | None = None

    def __post_init__(self) -> None:
        check_moment(self.timestamp)


class LogAppend(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lines to store: all of them, or none."""

    lines: Annotated[list[LogLineInput], Meta(min_length=1, max_length=1000)]


class OneLine(msgspec.Struct, frozen=True, kw_only=True):
    """The single-line form: everything in the query."""

    sequence_number: Annotated[int, Meta(ge=0)] | None = None
    stream: Stream | None = None
    message: str | None = None
    timestamp: datetime | None = None

    def __post_init__(self) -> None:
        check_moment(self.timestamp)


class LogAppendResponse(msgspec.Struct, kw_only=True):
    """How many lines were new; `log_id` for the single form."""

    status: str
    log_id: str | None
    accepted: int
    duplicates: int
    last_sequence_number: int


class Logs:
    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    async def page(self, call: Call[LogQuery, None]) -> Reply:
        execution_id, query, reader = call.path["execution_id"], call.query, self._grid.log_reader
        detail = await find(self._grid, execution_id)
        if query.tail is not None and query.after >= 0:
            raise Invalid("`tail` and `after` exclude each other.", fields=[("query.tail", "Not with `after`.")])
        if detail.logs_expired_at is not None:
            # Some of the lines may still wait for their deletion.
            return _as_text("") if query.format == "text" else Reply(200, slice_page([], call.page))
        if query.tail is not None:
            return await self._tail(execution_id, query, query.tail, call.page)
        wanted = Wanted(execution_id, query.after, query.stream, query.attempt)
        beyond = wanted if call.page.after is None else wanted.beyond(number_of(call.page.after))
        if query.format == "text":
            return _as_text(await reader.text(beyond))
        total = await reader.total(wanted)
        rows = await reader.page(beyond, call.page.limit + 1, call.page.offset)
        return Reply(200, page_of(rows, total, call.page, lambda row: row, lambda row: [row.sequence_number]))

    async def _tail(self, execution_id: str, query: LogQuery, count: int, page: PageRequest) -> Reply:
        """The last lines, all on one page, whatever its limit."""
        wanted = Wanted(execution_id, stream=query.stream, attempt=query.attempt)
        rows = await self._grid.log_reader.tail(wanted, count)
        if query.format == "text":
            return _as_text("".join(f"{row.message}\n" for row in rows))
        whole = PageRequest(offset=page.offset, limit=count)
        return Reply(200, page_of(rows[page.offset :], len(rows), whole, lambda row: row, lambda row: []))

    async def append(self, call: Call[OneLine, LogAppend | None]) -> Reply:
        lines = _lines(call.query, call.body)
        execution_id = call.path["execution_id"]
        claim = self._claim(call, execution_id)
        detail = await find(self._grid, execution_id)
        reader = self._grid.log_reader
        numbers = {line.sequence_number for line in lines}
        new: set[int] = set()
        if len(await reader.numbers_stored(execution_id, list(numbers))) < len(numbers):
            new = await self._store(detail, claim, lines)
            self._grid.lines_stored.tell([execution_id])
        log_id = None
        if call.body is None:
            # Looked up, because a line that was there before keeps the id of its first time.
            (row,) = await reader.page(Wanted(execution_id, lines[0].sequence_number - 1), 1)
            log_id = row.log_id
        body = LogAppendResponse(
            status="ok",
            log_id=log_id,
            accepted=len(new),
            duplicates=len(lines) - len(new),
            last_sequence_number=await reader.last_sequence(execution_id),
        )
        return Reply(200, body)

    async def _store(self, detail: Detail, claim: LeaseClaim | None, lines: list[LogLineInput]) -> set[int]:
        """The numbers that are new. Who holds the lease may write, and for a moment who held it at the end."""
        rows = _rows(detail, claim, lines)
        pool = self._grid.pool
        if detail.status not in TERMINAL:
            if claim is None:
                return await logs.repair(pool, rows)
            new = await logs.append_one(pool, rows)
            if new is not None:
                return new
            # It may have ended between the look at it and the try.
            detail = await find(self._grid, detail.execution_id)
            if detail.status not in TERMINAL:
                raise Conflict("The lease of this attempt is over.", code="lease_lost")
        if claim is not None and _held_at_the_end(detail, claim):
            return await logs.repair(pool, rows)
        raise Rejected(
            f"Execution {detail.execution_id} is {detail.status}: its log is complete.",
            code="execution_finished",
            extra={"current_status": detail.status},
        )

    def _claim(self, call: Call[OneLine, LogAppend | None], execution_id: str) -> LeaseClaim | None:
        """The lease that the caller speaks for; None for an admin's repair."""
        if "admin" in call.actor.scopes:
            return None
        claim = self._grid.lease_tokens.read(call.actor.subject or "")
        if claim is None or claim.execution_id != execution_id:
            raise Forbidden("Only the attempt's lease token, or a key with scope admin, may append log lines.")
        return claim


def _lines(query: OneLine, body: LogAppend | None) -> list[LogLineInput]:
    asked = [query.sequence_number, query.stream, query.message, query.timestamp]
    if body is not None:
        if any(value is not None for value in asked):
            raise Malformed("Either a body or query parameters.", [("query", "Not together with a body.")])
        return body.lines
    needed = {"sequence_number": query.sequence_number, "stream": query.stream, "message": query.message}
    lacking = [(f"query.{name}", "Needed without a body.") for name, value in needed.items() if value is None]
    if query.sequence_number is None or query.stream is None or query.message is None:
        raise Malformed("Either a body or query parameters.", lacking)
    if len(query.message) > 65_536:
        raise Malformed("The message is too long.", [("query.message", "At most 65536 characters.")])
    return [
        LogLineInput(
            sequence_number=query.sequence_number,
            stream=query.stream,
            message=query.message,
            timestamp=query.timestamp or now(),
        )
    ]


def _rows(detail: Detail, claim: LeaseClaim | None, lines: list[LogLineInput]) -> list[NewLine]:
    attempt = claim.attempt if claim else (detail.last.attempt if detail.last else 1)
    return [
        NewLine(
            execution_id=detail.execution_id,
            attempt=attempt,
            fencing_token=claim.fencing_token if claim else 0,
            sequence_number=line.sequence_number,
            stream=line.stream,
            logged_at=line.timestamp or now(),
            message=line.message,
        )
        for line in lines
    ]


def _held_at_the_end(detail: Detail, claim: LeaseClaim) -> bool:
    """Whether the claim is that of the attempt which ended the execution a moment ago."""
    last = detail.last
    if last is None or detail.completed_at is None or last.status == "lost":
        return False
    return last.fencing_token == claim.fencing_token and now() - detail.completed_at <= LAST_LINES


def _as_text(text: str) -> Reply:
    return Reply(200, text.encode(), media_type="text/plain; charset=utf-8")


def operations(grid: Grid) -> list[Operation]:
    controllers = Logs(grid)
    path = "/api/v1/executions/{execution_id}/logs"
    return [
        Operation(
            method="GET", path=path, auth="read", handler=controllers.page, ok={200: Page[LogRow]},
            query=LogQuery, flags=frozenset({"page"}), order_default="asc", tags=("logs",),
            summary="Page through the log, oldest line first; `format=text` gives the messages alone.",
        ),
        Operation(
            method="POST", path=f"{path}/stream", auth="worker", handler=controllers.append,
            ok={200: LogAppendResponse}, query=OneLine, body=LogAppend, body_optional=True, errors=(409,),
            body_max_bytes=grid.settings.logs_body_max_bytes, tags=("logs",),
            summary="Append lines of a running attempt; repeating a line changes nothing.",
        ),
    ]  # fmt: skip
