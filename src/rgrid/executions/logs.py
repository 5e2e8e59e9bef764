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
    *,
    after: int = -1,
    stream: str | None = None,
    attempt: int | None = None,
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
    connection: Queryable, execution_id: str, count: int, stream: str | None, attempt: int | None
) -> list[LogRow]:
    """The last `count` lines, ascending."""
    rows = await connection.fetch(
        "select execution_id, sequence_number, attempt, fd, logged_at, message from rgrid.execution_logs"
        " where execution_id = $1 and ($2::smallint is null or fd = $2) and ($3::int is null or attempt = $3)"
        " order by sequence_number desc limit $4",
        execution_id,
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


async def text(connection: Queryable, execution_id: str, after: int, stream: str | None, attempt: int | None) -> str:
    """The messages alone, each with a newline, up to TEXT_BYTES_MAX."""
    parts: list[str] = []
    size = 0
    while lines := await page(connection, execution_id, after=after, stream=stream, attempt=attempt):
        for line in lines:
            size += len(line.message.encode()) + 1
            if size > TEXT_BYTES_MAX:
                return "".join(parts)
            parts.append(f"{line.message}\n")
        after = lines[-1].sequence_number
    return "".join(parts)


async def excerpt(connection: Queryable, execution_id: str, attempt: int, stream: str) -> tuple[str, bool]:
    """What an attempt printed to one stream, up to 100 KiB: longer output keeps the first 10 and the last 90 KiB
    around a line that says what was left out. Also says whether anything was."""
    row = await connection.fetchrow(
        "select count(*) as lines, coalesce(sum(octet_length(message) + 1), 0)::bigint as bytes"
        " from rgrid.execution_logs where execution_id = $1 and attempt = $2 and fd = $3",
        execution_id,
        attempt,
        _FD[stream],
    )
    assert row is not None
    if row["bytes"] <= EXCERPT_BYTES:
        return await text(connection, execution_id, -1, stream, attempt), False
    head = await _edge(connection, execution_id, attempt, stream, HEAD_BYTES, newest=False)
    last = await _edge(connection, execution_id, attempt, stream, EXCERPT_BYTES - HEAD_BYTES, newest=True)
    start = head.encode()[:HEAD_BYTES].decode(errors="ignore")
    end = last.encode()[-(EXCERPT_BYTES - HEAD_BYTES) :].decode(errors="ignore")
    left_out = row["bytes"] - len(start.encode()) - len(end.encode())
    return f"{start}\n[… {left_out} bytes left out …]\n{end}", True


async def _edge(connection: Queryable, execution_id: str, attempt: int, stream: str, size: int, *, newest: bool) -> str:
    """Whole lines from one end, at least `size` bytes of them."""
    order = "desc" if newest else "asc"
    rows = await connection.fetch(
        "select message from (select sequence_number, message,"  # noqa: S608 -- `order` is one of two words
        f" sum(octet_length(message) + 1) over (order by sequence_number {order}) - octet_length(message) as before"
        f" from (select sequence_number, message from rgrid.execution_logs where execution_id = $1 and attempt = $2"
        f" and fd = $3 order by sequence_number {order} limit $4) edge) sized where before <= $4"
        " order by sequence_number",
        execution_id,
        attempt,
        _FD[stream],
        size,
    )
    return "".join(f"{row['message']}\n" for row in rows)


def _row(row: asyncpg.Record) -> LogRow:
    return LogRow(
        log_id=derived_id("log", int(row["logged_at"].timestamp() * 1000), row["execution_id"], row["sequence_number"]),
        execution_id=row["execution_id"],
        attempt=row["attempt"],
        sequence_number=row["sequence_number"],
        timestamp=row["logged_at"],
        stream=_STREAM[row["fd"]],
        message=row["message"],
    )
