"""One reader of an execution's log for all who follow it in this process: a hundred followers cost one read of the
database and one JSON text per line, not a hundred.

It reads when the fastest follower has everything so far, and keeps the newest lines. A follower that wants older ones
(history, or because it is slow) reads them itself.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

import msgspec

from projections import execution_detail
from projections.execution_detail import Detail
from rgrid.api.grid import Grid
from rgrid.executions.log_reader import Wanted
from rgrid.executions.logs import LogRow

LOOK_LINES_MAX: Final = 500
RECENT_LINES_MAX: Final = 2_000
RECENT_BYTES_MAX: Final = 1024 * 1024


class LogFrame(LogRow, frozen=True, kw_only=True, tag="log"):
    """A line as followers get it."""


def encoded(row: LogRow) -> bytes:
    return msgspec.json.encode(LogFrame(**msgspec.structs.asdict(row)))


class Line(msgspec.Struct, frozen=True):
    """What a follower needs to know of a line, and its frame, encoded once for all."""

    sequence_number: int
    attempt: int
    stream: Literal["stdout", "stderr"]
    frame: bytes


class Look(msgspec.Struct, frozen=True):
    """What the reader saw. The state is older than the lines: whatever an ended attempt printed is stored before its
    end, so a look at the end that is `whole` has the last line. Otherwise more lines are known to be there."""

    number: int
    stages: list[Detail]
    whole: bool


class Watch:
    """Of one execution. `Watches.of` makes it; it ends with its last follower."""

    def __init__(self, grid: Grid, execution_id: str) -> None:
        self.followers = 0
        self.newest = -1
        self._grid = grid
        self._execution_id = execution_id
        self._recent: deque[Line] = deque()
        self._recent_bytes = 0
        self._from = -1  # every stored line above this number, up to the newest, is among the recent ones
        self._look = Look(0, [], False)
        self._error: Exception | None = None
        self._wanted = asyncio.Event()
        self._looked = asyncio.Event()
        self._reading = asyncio.create_task(self._read(), name="log watch")

    @property
    def looks(self) -> int:
        return self._look.number

    @property
    def broke(self) -> bool:
        return self._error is not None

    async def beyond(self, number: int) -> Look:
        """The first look after this one, as soon as there may be something new."""
        while self._look.number <= number:
            if self._error is not None:
                raise self._error
            self._wanted.set()
            await self._looked.wait()
        return self._look

    def after(self, sequence_number: int) -> list[Line] | None:
        """The lines above a number that the looks so far have seen; None when some of them are not kept."""
        if sequence_number >= self.newest:
            return []
        if sequence_number < self._from:
            return None
        if self._recent[0].sequence_number > sequence_number:
            return list(self._recent)
        # Most followers want the last few only.
        wanted: list[Line] = []
        for line in reversed(self._recent):
            if line.sequence_number <= sequence_number:
                break
            wanted.append(line)
        wanted.reverse()
        return wanted

    def end(self) -> None:
        self._reading.cancel()

    async def _read(self) -> None:
        try:
            self.newest = self._from = await self._grid.log_reader.last_sequence(self._execution_id)
            with self._grid.lines_stored.follow(self._execution_id) as news:
                while True:
                    await self._look_once()
                    await self._wanted.wait()
                    if self._look.whole:
                        await news.news()
        except Exception as error:  # noqa: BLE001 - whatever it is, every follower's session ends with it
            self._error = error
            self._tell()

    async def _look_once(self) -> None:
        """Reads the state unless lines of the look before are still to be read, then as many lines as one look may."""
        if self._look.whole or not self._look.number:
            stages = await execution_detail.course(self._grid.store, self._execution_id)
        else:
            stages = self._look.stages
        rows = await self._grid.log_reader.page(Wanted(self._execution_id, self.newest), LOOK_LINES_MAX)
        for row in rows:
            self._keep(Line(row.sequence_number, row.attempt, row.stream, encoded(row)))
        self._look = Look(self._look.number + 1, stages, len(rows) < LOOK_LINES_MAX)
        self._wanted.clear()
        self._tell()

    def _keep(self, line: Line) -> None:
        self._recent.append(line)
        self._recent_bytes += len(line.frame)
        self.newest = line.sequence_number
        while len(self._recent) > RECENT_LINES_MAX or self._recent_bytes > RECENT_BYTES_MAX:
            oldest = self._recent.popleft()
            self._recent_bytes -= len(oldest.frame)
            self._from = oldest.sequence_number

    def _tell(self) -> None:
        looked, self._looked = self._looked, asyncio.Event()
        looked.set()


class Watches:
    """The watches of this process, one per execution that somebody follows."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._watches: dict[str, Watch] = {}

    @contextmanager
    def of(self, execution_id: str) -> Iterator[Watch]:
        """Held while somebody follows. A watch that broke is left to those who have it; the next follower gets a new
        one."""
        watch = self._watches.get(execution_id)
        if watch is None or watch.broke:
            watch = self._watches[execution_id] = Watch(self._grid, execution_id)
        watch.followers += 1
        self._grid.lines_stored.tell([execution_id])  # who comes last shall not wait until there is something new
        try:
            yield watch
        finally:
            watch.followers -= 1
            if not watch.followers:
                watch.end()
                if self._watches.get(execution_id) is watch:
                    del self._watches[execution_id]
