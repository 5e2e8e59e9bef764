"""The archive of logs: lines of ended executions as compressed blocks in the object store, small enough that a page in
the middle needs one or two of them."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Final

import asyncpg
import msgspec

from rgrid.adapters.objects import ObjectStore
from rgrid.eventstore.append import Rider
from rgrid.eventstore.handle import Handler
from rgrid.executions import logs
from rgrid.executions.commands import ArchiveLogs
from rgrid.executions.events import LogBlock, LogsArchived
from rgrid.executions.execution import DECIDER
from rgrid.executions.logs import LogRow
from rgrid.kernel.ids import new_command_id
from rgrid.kernel.messages import Cause

BLOCK_LINES_MAX: Final = 4_000
BLOCK_BYTES_MAX: Final = 1024 * 1024
BLOCKS_MAX: Final = 64
"""Of one event; a longer log takes several."""
READ_LINES: Final = 500
LEVEL: Final = 6
LAST: Final = (1 << 63) - 1
LINE_OVERHEAD_BYTES: Final = 64


class Line(msgspec.Struct, array_like=True, frozen=True):
    """A line as it lies in a block."""

    sequence_number: int
    is_stderr: bool
    timestamp: datetime
    message: str

    def row(self, execution_id: str, attempt: int) -> LogRow:
        return logs.row_of(
            execution_id, self.sequence_number, attempt, 2 if self.is_stderr else 1, self.timestamp, self.message
        )


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Line)


def packed(rows: Sequence[LogRow]) -> bytes:
    """The content of a block. The same lines make the same bytes, whenever and wherever they are packed."""
    lines = [Line(row.sequence_number, row.stream == "stderr", row.timestamp, row.message) for row in rows]
    return gzip.compress(_encoder.encode_lines(lines), LEVEL, mtime=0)


def unpacked(content: bytes) -> list[Line]:
    return _decoder.decode_lines(gzip.decompress(content))


def described(rows: Sequence[LogRow], sha256: str, size_bytes: int) -> LogBlock:
    sizes: dict[str, list[int]] = {"stdout": [], "stderr": []}
    for row in rows:
        sizes[row.stream].append(len(row.message.encode()) + 1)
    return LogBlock(
        sha256=sha256,
        size_bytes=size_bytes,
        attempt=rows[0].attempt,
        first=rows[0].sequence_number,
        last=rows[-1].sequence_number,
        stdout_lines=len(sizes["stdout"]),
        stderr_lines=len(sizes["stderr"]),
        stdout_bytes=sum(sizes["stdout"]),
        stderr_bytes=sum(sizes["stderr"]),
    )


async def archive(
    pool: asyncpg.Pool, handler: Handler, objects: ObjectStore, execution_id: str, ended_before: datetime
) -> int:
    """Move some lines of an execution that had ended by then; how many blocks they made, 0 when there was nothing left
    to do. The blocks are stored before the event names them, and the rows go only after it: a crash in between leaves
    the rows, or rows that nobody reads any more."""
    state, _ = await handler.load(DECIDER, execution_id)
    if state.logs_archived_whole or state.logs_expired or state.completed_at is None:
        return 0
    after = state.logs_archived_to
    blocks: list[LogBlock] = []
    is_whole = True
    async for rows in _cut(pool, execution_id, after):
        if len(blocks) == BLOCKS_MAX:
            is_whole = False
            break
        content = await asyncio.to_thread(packed, rows)
        blocks.append(described(rows, await objects.put_bytes(content), len(content)))
    command = ArchiveLogs(ended_before=ended_before, after=after, blocks=blocks, is_whole=is_whole)

    def riders(_state: object, events: Sequence[object], _version: int) -> list[Rider]:
        return [give_up(execution_id, blocks[-1].last)] if events and blocks else []

    cause = Cause(actor="system", command_id=new_command_id())
    handled = await handler.handle(DECIDER, execution_id, command, cause, riders=riders)
    return max(1, len(blocks)) if any(isinstance(event, LogsArchived) for event in handled.events) else 0


def give_up(execution_id: str, to_sequence: int = LAST) -> Rider:
    """Commits with the event after which nobody needs the rows up to this number."""
    sql = (
        "insert into rgrid.expired_logs as e (execution_id, to_sequence) values ($1, $2)"
        " on conflict (execution_id) do update set to_sequence = greatest(e.to_sequence, excluded.to_sequence)"
    )
    return Rider(sql, (execution_id, to_sequence), takes_position=False)


async def _cut(pool: asyncpg.Pool, execution_id: str, after: int) -> AsyncIterator[list[LogRow]]:
    """The lines above a number, cut into blocks; a block never mixes attempts."""
    waiting: list[LogRow] = []
    size = 0
    while rows := await logs.page(pool, execution_id, after=after, limit=READ_LINES):
        after = rows[-1].sequence_number
        for row in rows:
            row_size = len(row.message) + LINE_OVERHEAD_BYTES
            is_full = len(waiting) == BLOCK_LINES_MAX or size + row_size > BLOCK_BYTES_MAX
            if waiting and (is_full or row.attempt != waiting[0].attempt):
                yield waiting
                waiting, size = [], 0
            waiting.append(row)
            size += row_size
    if waiting:
        yield waiting
