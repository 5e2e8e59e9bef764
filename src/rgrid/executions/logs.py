"""Log lines of executions: an operational table, because lines are too many and too big for the event log."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

import asyncpg
import msgspec

from rgrid.kernel.ids import derived_id

HEAD_BYTES: Final = 10 * 1024
EXCERPT_BYTES: Final = 100 * 1024
TEXT_BYTES_MAX: Final = 10 * 1024 * 1024
PAGE_MAX: Final = 1_000
_FD: Final = {"stdout": 1, "stderr": 2}
_STREAM: Final[dict[int, Literal["stdout", "stderr"]]] = {1: "stdout", 2: "stderr"}

_COLUMNS: Final = ("execution_id", "sequence_number", "attempt", "fd", "logged_at", "message")

Queryable = asyncpg.Connection | asyncpg.Pool


class LogRow(msgspec.Struct, frozen=True, kw_only=True):
    """One stored line, without its newline."""

    log_id: str
    execution_id: str
    attempt: int
    sequence_number: int
    timestamp: datetime
    stream: Literal["stdout", "stderr"]
    message: str


class NewLine(msgspec.Struct, frozen=True, kw_only=True):
    execution_id: str
    attempt: int
    fencing_token: int
    sequence_number: int
    stream: Literal["stdout", "stderr"]
    logged_at: datetime
    message: str


_WITH_LEASE: Final = """
    with lines as (
        select * from unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::smallint[], $6::timestamptz[],
                             $7::text[])
            as t(execution_id, attempt, fencing_token, sequence_number, fd, logged_at, message)
    ), held as (
        select l.execution_id, l.fencing_token from rgrid.leases l
        where (l.execution_id, l.fencing_token) in (select execution_id, fencing_token from lines)
        order by l.execution_id for share
    ), stored as (
        insert into rgrid.execution_logs (execution_id, sequence_number, attempt, fd, logged_at, message)
        select execution_id, sequence_number, attempt, fd, logged_at, message
        from lines join held using (execution_id, fencing_token)
        on conflict do nothing returning sequence_number
    )
"""
_APPEND: Final = _WITH_LEASE + "select execution_id, fencing_token from held"  # noqa: S608 (constants only)
_APPEND_ONE: Final = _WITH_LEASE + "select array(select sequence_number from stored) as new from held"  # noqa: S608 (constants only)


async def append(connection: Queryable, lines: Sequence[NewLine]) -> set[tuple[str, int]]:
    """Store lines of several attempts in one statement; the (execution, fencing token) pairs whose lease is held.
    Lines under any other lease are left out; a number that is there already changes nothing."""
    rows = await connection.fetch(_APPEND, *_columns(lines))
    return {(row["execution_id"], row["fencing_token"]) for row in rows}


async def append_one(connection: Queryable, lines: Sequence[NewLine]) -> set[int] | None:
    """Store lines of one attempt: the numbers that are new, None when its lease is not held."""
    new: list[int] | None = await connection.fetchval(_APPEND_ONE, *_columns(lines))
    return None if new is None else set(new)


async def repair(connection: Queryable, lines: Sequence[NewLine]) -> set[int]:
    """Store lines whatever the lease: an operator's, or the last ones of an attempt. The numbers that are new."""
    rows = await connection.fetch(
        "insert into rgrid.execution_logs (execution_id, sequence_number, attempt, fd, logged_at, message)"
        " select execution_id, sequence_number, attempt, fd, logged_at, message from unnest($1::text[], $2::int[],"
        " $3::bigint[], $4::bigint[], $5::smallint[], $6::timestamptz[], $7::text[])"
        " as t(execution_id, attempt, fencing_token, sequence_number, fd, logged_at, message)"
        " on conflict do nothing returning sequence_number",
        *_columns(lines),
    )
    return {row["sequence_number"] for row in rows}


def _columns(lines: Sequence[NewLine]) -> tuple[list[Any], ...]:
    return (
        [line.execution_id for line in lines],
        [line.attempt for line in lines],
        [line.fencing_token for line in lines],
        [line.sequence_number for line in lines],
        [_FD[line.stream] for line in lines],
        [line.logged_at for line in lines],
        [line.message for line in lines],
    )


async def numbers_stored(connection: Queryable, execution_id: str, numbers: Sequence[int]) -> set[int]:
    """Which of these sequence numbers the execution has already."""
    rows = await connection.fetch(
        "select sequence_number from rgrid.execution_logs where execution_id = $1 and sequence_number = any($2)",
        execution_id,
        list(numbers),
    )
    return {row["sequence_number"] for row in rows}


async def last_sequence(connection: Queryable, execution_id: str) -> int:
    """The highest sequence number, -1 before the first line."""
    last: int | None = await connection.fetchval(
        "select max(sequence_number) from rgrid.execution_logs where execution_id = $1", execution_id
    )
    return -1 if last is None else last


async def page(
    connection: Queryable,
    execution_id: str,
    after: int = -1,
    stream: str | None = None,
    attempt: int | None = None,
    *,
    limit: int = PAGE_MAX,
    offset: int = 0,
) -> list[LogRow]:
    """Lines with a sequence number > `after`, ascending."""
    rows = await connection.fetch(
        "select execution_id, sequence_number, attempt, fd, logged_at, message from rgrid.execution_logs"
        " where execution_id = $1 and sequence_number > $2 and ($3::smallint is null or fd = $3)"
        " and ($4::int is null or attempt = $4) order by sequence_number limit $5 offset $6",
        execution_id,
        after,
        _FD.get(stream or ""),
        attempt,
        limit,
        offset,
    )
    return [_row(row) for row in rows]


async def tail(
    connection: Queryable, execution_id: str, after: int, stream: str | None, attempt: int | None, count: int
) -> list[LogRow]:
    """The last `count` of the lines with a sequence number > `after`, ascending."""
    rows = await connection.fetch(
        "select execution_id, sequence_number, attempt, fd, logged_at, message from rgrid.execution_logs"
        " where execution_id = $1 and sequence_number > $2 and ($3::smallint is null or fd = $3)"
        " and ($4::int is null or attempt = $4) order by sequence_number desc limit $5",
        execution_id,
        after,
        _FD.get(stream or ""),
        attempt,
        count,
    )
    return [_row(row) for row in reversed(rows)]


async def total(connection: Queryable, execution_id: str, after: int, stream: str | None, attempt: int | None) -> int:
    count: int = await connection.fetchval(
        "select count(*) from rgrid.execution_logs where execution_id = $1 and sequence_number > $2"
        " and ($3::smallint is null or fd = $3) and ($4::int is null or attempt = $4)",
        execution_id,
        after,
        _FD.get(stream or ""),
        attempt,
    )
    return count


async def printed_bytes(
    connection: Queryable, execution_id: str, after: int, stream: str | None, attempt: int | None
) -> int:
    """What the messages take, each with a newline."""
    size: int = await connection.fetchval(
        "select coalesce(sum(octet_length(message) + 1), 0)::bigint from rgrid.execution_logs where execution_id = $1"
        " and sequence_number > $2 and ($3::smallint is null or fd = $3) and ($4::int is null or attempt = $4)",
        execution_id,
        after,
        _FD.get(stream or ""),
        attempt,
    )
    return size


async def edge(
    connection: Queryable, execution_id: str, after: int, stream: str | None, attempt: int | None, size: int,
    *, newest: bool,
) -> str:  # fmt: skip
    """The messages of whole lines from one end, at least `size` bytes of them if there are so many."""
    order = "desc" if newest else "asc"
    rows = await connection.fetch(
        "select message from (select sequence_number, message,"  # noqa: S608 -- `order` is one of two words
        f" sum(octet_length(message) + 1) over (order by sequence_number {order}) - octet_length(message) as before"
        f" from (select sequence_number, message from rgrid.execution_logs where execution_id = $1"
        f" and sequence_number > $2 and ($3::smallint is null or fd = $3) and ($4::int is null or attempt = $4)"
        f" order by sequence_number {order} limit $5) edge) sized where before <= $5 order by sequence_number",
        execution_id,
        after,
        _FD.get(stream or ""),
        attempt,
        size,
    )
    return "".join(f"{row['message']}\n" for row in rows)


def _row(row: asyncpg.Record) -> LogRow:
    return row_of(*(row[name] for name in _COLUMNS))


def row_of(execution_id: str, sequence_number: int, attempt: int, fd: int, logged_at: datetime, message: str) -> LogRow:
    """A line as readers get it; its id follows from what it is."""
    return LogRow(
        log_id=derived_id("log", int(logged_at.timestamp() * 1000), execution_id, sequence_number),
        execution_id=execution_id,
        attempt=attempt,
        sequence_number=sequence_number,
        timestamp=logged_at,
        stream=_STREAM[fd],
        message=message,
    )
