"""Log lines for readers, wherever they lie: in the table, in the archive, or on their way from one to the other.

What has moved is in the index of blocks before its rows go. So whoever reads rows and finds afterwards that the index
still reaches no further than he thought has missed nothing; otherwise he reads again, now by the index.
"""

import asyncio
import hashlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import asyncpg
import msgspec

from rgrid.adapters.objects import ObjectStore
from rgrid.executions import logs
from rgrid.executions.events import LogBlock
from rgrid.executions.log_archive import Line, unpacked
from rgrid.executions.logs import EXCERPT_BYTES, HEAD_BYTES, PAGE_MAX, TEXT_BYTES_MAX, LogRow
from rgrid.kernel.errors import NotFound, Unavailable

UNPACKED_MAX: Final = 8
"""So many blocks are kept unpacked: whoever pages through a log wants the same one again."""
MOVES_MAX: Final = 20
"""So often lines may move while somebody reads them."""
DAMAGED: Final = "log_damaged"
T = TypeVar("T")

BlocksOf = Callable[[str], Awaitable[Sequence[LogBlock]]]
"""The index: the blocks of an execution in the order of their lines."""


class Wanted(msgspec.Struct, frozen=True):
    """Which lines of an execution: those above a number, of one stream and attempt or of all."""

    execution_id: str
    after: int = -1
    stream: str | None = None
    attempt: int | None = None

    def beyond(self, number: int) -> "Wanted":
        return msgspec.structs.replace(self, after=max(self.after, number))

    def of(self, lines: Sequence[Line], block: LogBlock) -> Sequence[Line]:
        """Those of the lines of a block that are wanted."""
        if not self.lines(block):
            return ()
        if self.after >= block.first:
            lines = lines[bisect_right(lines, self.after, key=_number) :]
        if self.stream is None:
            return lines
        is_stderr = self.stream == "stderr"
        return [line for line in lines if line.is_stderr is is_stderr]

    def lines(self, block: LogBlock) -> int:
        """How many lines of a block are of that stream and attempt, whatever their number."""
        if self.attempt not in (None, block.attempt):
            return 0
        stdout = block.stdout_lines if self.stream != "stderr" else 0
        return stdout + (block.stderr_lines if self.stream != "stdout" else 0)


class LogReader:
    """Reads the lines of any execution, ascending by sequence number."""

    def __init__(self, pool: asyncpg.Pool, objects: ObjectStore, blocks_of: BlocksOf) -> None:
        self._pool = pool
        self._objects = objects
        self._blocks_of = blocks_of
        self._unpacked: OrderedDict[str, list[Line]] = OrderedDict()

    async def page(self, wanted: Wanted, limit: int = PAGE_MAX, offset: int = 0) -> list[LogRow]:
        """The first lines that are wanted, less `offset` of them."""
        return await self._settled(wanted, lambda blocks: self._page(blocks, wanted, limit, offset))

    async def total(self, wanted: Wanted) -> int:
        """How many lines are wanted."""

        async def read(blocks: Sequence[LogBlock]) -> int:
            rows = await logs.total(self._pool, *_arguments(wanted.beyond(_end(blocks))))
            return rows + sum([await self._count(wanted, block) for block in blocks])

        return await self._settled(wanted, read)

    async def tail(self, wanted: Wanted, count: int) -> list[LogRow]:
        """The last `count` of the lines."""

        async def read(blocks: Sequence[LogBlock]) -> list[LogRow]:
            rows = await logs.tail(self._pool, *_arguments(wanted.beyond(_end(blocks))), count)
            for block in reversed(blocks):
                lacking = count - len(rows)
                if lacking > 0 and wanted.lines(block):
                    lines = wanted.of(await self._read(block), block)[-lacking:]
                    rows = [*_rows(wanted, block, lines), *rows]
            return rows

        return await self._settled(wanted, read)

    async def text(self, wanted: Wanted) -> str:
        """The messages alone, each with a newline, up to TEXT_BYTES_MAX."""
        parts: list[str] = []
        size = 0
        while rows := await self.page(wanted):
            for row in rows:
                size += _size(row)
                if size > TEXT_BYTES_MAX:
                    return "".join(parts)
                parts.append(f"{row.message}\n")
            wanted = wanted.beyond(rows[-1].sequence_number)
        return "".join(parts)

    async def excerpt(self, execution_id: str, attempt: int, stream: str) -> tuple[str, bool]:
        """What an attempt printed to one stream, up to 100 KiB: longer output keeps the first 10 and the last 90 KiB
        around a line that says what was left out. Also says whether anything was."""
        wanted = Wanted(execution_id, stream=stream, attempt=attempt)
        size = await self._settled(wanted, lambda blocks: self._bytes(blocks, wanted))
        if size <= EXCERPT_BYTES:
            return await self.text(wanted), False
        head = await self._settled(wanted, lambda blocks: self._head(blocks, wanted, HEAD_BYTES))
        last = await self._settled(wanted, lambda blocks: self._last(blocks, wanted, EXCERPT_BYTES - HEAD_BYTES))
        start = head.encode()[:HEAD_BYTES].decode(errors="ignore")
        end = last.encode()[-(EXCERPT_BYTES - HEAD_BYTES) :].decode(errors="ignore")
        left_out = size - len(start.encode()) - len(end.encode())
        return f"{start}\n[… {left_out} bytes left out …]\n{end}", True

    async def last_sequence(self, execution_id: str) -> int:
        """The highest sequence number, -1 before the first line."""

        async def read(blocks: Sequence[LogBlock]) -> int:
            return max(_end(blocks), await logs.last_sequence(self._pool, execution_id))

        return await self._settled(Wanted(execution_id), read)

    async def numbers_stored(self, execution_id: str, numbers: Sequence[int]) -> set[int]:
        """Which of these sequence numbers the execution has already."""

        async def read(blocks: Sequence[LogBlock]) -> set[int]:
            stored = await logs.numbers_stored(self._pool, execution_id, numbers)
            for block in blocks:
                if within := {number for number in numbers if block.first <= number <= block.last} - stored:
                    stored |= within & {line.sequence_number for line in await self._read(block)}
            return stored

        return await self._settled(Wanted(execution_id), read)

    # ---------------------------------------------------------------- parts

    async def _settled(self, wanted: Wanted, read: Callable[[Sequence[LogBlock]], Awaitable[T]]) -> T:
        """What was read by an index that still held afterwards. Most logs have no blocks, so that is tried first."""
        blocks: Sequence[LogBlock] = ()
        trouble: Unavailable | None = None
        for _ in range(MOVES_MAX):
            try:
                found = await read(blocks)
                trouble = None
            except Unavailable as unreadable:
                trouble = unreadable
            now = await self._blocks_of(wanted.execution_id)
            if _end(now) == _end(blocks):
                if trouble is not None:
                    raise trouble
                return found
            blocks = now  # lines have moved, or their time is over
        raise Unavailable("The log is on its way to the archive; try again.")

    async def _page(self, blocks: Sequence[LogBlock], wanted: Wanted, limit: int, offset: int) -> list[LogRow]:
        found: list[LogRow] = []
        for block in blocks:
            count = await self._count(wanted, block)
            if count <= offset:
                offset -= count
                continue
            lines = wanted.of(await self._read(block), block)[offset : offset + limit - len(found)]
            found += _rows(wanted, block, lines)
            offset = 0
            if len(found) == limit:
                return found
        behind = _arguments(wanted.beyond(_end(blocks)))
        return found + await logs.page(self._pool, *behind, limit=limit - len(found), offset=offset)

    async def _count(self, wanted: Wanted, block: LogBlock) -> int:
        """How many lines of the block are wanted."""
        if wanted.after >= block.last:
            return 0
        if wanted.after < block.first or not wanted.lines(block):
            return wanted.lines(block)
        return len(wanted.of(await self._read(block), block))

    async def _bytes(self, blocks: Sequence[LogBlock], wanted: Wanted) -> int:
        mine = [block for block in blocks if wanted.lines(block)]
        size = sum(block.stdout_bytes if wanted.stream == "stdout" else block.stderr_bytes for block in mine)
        return size + await logs.printed_bytes(self._pool, *_arguments(wanted.beyond(_end(blocks))))

    async def _head(self, blocks: Sequence[LogBlock], wanted: Wanted, size: int) -> str:
        """Whole lines from the beginning, at least `size` bytes of them if there are so many."""
        found: list[str] = []
        for block in blocks:
            if size > 0 and wanted.lines(block):
                lines = wanted.of(await self._read(block), block)
                found += [f"{line.message}\n" for line in lines]
                size -= sum(map(_size, lines))
        if size > 0:
            found.append(await logs.edge(self._pool, *_arguments(wanted.beyond(_end(blocks))), size, newest=False))
        return "".join(found)

    async def _last(self, blocks: Sequence[LogBlock], wanted: Wanted, size: int) -> str:
        """The same from the end."""
        found = await logs.edge(self._pool, *_arguments(wanted.beyond(_end(blocks))), size, newest=True)
        size -= len(found.encode())
        for block in reversed(blocks):
            if size > 0 and wanted.lines(block):
                lines = wanted.of(await self._read(block), block)
                found = "".join(f"{line.message}\n" for line in lines) + found
                size -= sum(map(_size, lines))
        return found

    async def _read(self, block: LogBlock) -> list[Line]:
        """All lines of a block, checked against its hash."""
        sha256 = block.sha256
        if sha256 not in self._unpacked:
            try:
                content = await self._objects.read_bytes(sha256, block.size_bytes)
            except NotFound:
                content = b""
            if hashlib.sha256(content).hexdigest() != sha256:
                raise Unavailable("A part of this log is damaged or missing in the object store.", code=DAMAGED)
            self._unpacked[sha256] = await asyncio.to_thread(unpacked, content)
        self._unpacked.move_to_end(sha256)
        lines = self._unpacked[sha256]
        while len(self._unpacked) > UNPACKED_MAX:
            self._unpacked.popitem(last=False)
        return lines


def _rows(wanted: Wanted, block: LogBlock, lines: Sequence[Line]) -> list[LogRow]:
    return [line.row(wanted.execution_id, block.attempt) for line in lines]


def _number(line: Line) -> int:
    return line.sequence_number


def _arguments(wanted: Wanted) -> tuple[str, int, str | None, int | None]:
    return wanted.execution_id, wanted.after, wanted.stream, wanted.attempt


def _size(line: LogRow | Line) -> int:
    return len(line.message.encode()) + 1


def _end(blocks: Sequence[LogBlock]) -> int:
    """The last number that the archive reaches, -1 without one."""
    return blocks[-1].last if blocks else -1
