"""The one reader of a process: follows the end of the log in memory and serves pages to everybody who follows."""

import asyncio
import contextlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rgrid.eventstore.store import Store
from rgrid.kernel.messages import AnyRecorded, Event

PAGE_MAX: Final = 1_000
TAIL_EVENTS_MAX: Final = 20_000
POLL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Page:
    """Every wanted event with `after` < position <= `end`, in order. `end` may lie beyond the last event."""

    after: int
    end: int
    events: list[AnyRecorded]


class Tail:
    """The newest events in memory. A follower further back than that reads its own pages from the store, so a slow one
    holds nobody up; the oldest events leave when TAIL_EVENTS_MAX is reached."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._events: list[AnyRecorded] = []
        self._positions: list[int] = []
        self._grown = asyncio.Event()
        self.begin: int | None = None
        self.end = 0
        store.committed.listeners.append(self._hand_over)

    async def follow(self) -> None:
        """Reads for ever; after a fault the supervisor calls it again, and it goes on where it stood."""
        if self.begin is None:
            self.begin = self.end = await self.store.head()
            self._wake()
        while True:
            page = await self.store.read_log(self.end, PAGE_MAX)
            # What this process committed meanwhile has been handed over already.
            if unseen := [seen for seen in page if seen.position > self.end]:
                self._grow(unseen)
            if len(page) < PAGE_MAX:
                await self._news()

    async def _news(self) -> None:
        """Returns when there may be something in the log that was not handed over; now and then without a reason."""
        committed = self.store.committed
        looks = committed.looks
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                while committed.position <= self.end and committed.looks == looks:
                    await committed.wait_beyond(self.end, POLL_S, looks)

    async def after(self, position: int, kinds: frozenset[type[Event]], timeout_s: float) -> Page | None:
        """The next page after `position`, holding these kinds of events only; None when nothing came in time."""
        if self.begin is None or position >= self.end:
            grown = self._grown
            try:
                async with asyncio.timeout(timeout_s):
                    await grown.wait()
            except TimeoutError:
                return None
            if self.begin is None or position >= self.end:
                return None
        if position < self.begin:
            return await self._catch_up(position, kinds)
        first = bisect_right(self._positions, position)
        events = self._events[first : first + PAGE_MAX]
        return Page(position, events[-1].position, [seen for seen in events if type(seen.event) in kinds])

    async def _catch_up(self, position: int, kinds: frozenset[type[Event]]) -> Page | None:
        # The head is read first: an event at or below it is visible to the read that follows.
        head = await self.store.head()
        if position >= head:
            return None
        events = await self.store.read_log(position, PAGE_MAX, self.store.codec.topics_of(kinds), head)
        return Page(position, events[-1].position if len(events) == PAGE_MAX else head, events)

    def _hand_over(self, committed: Sequence[AnyRecorded]) -> None:
        """Takes what this process has just committed, unless something of another process comes before it."""
        if self.begin is not None and committed[0].position == self.end + 1:
            self._grow(committed)

    def _grow(self, page: Sequence[AnyRecorded]) -> None:
        self._events.extend(page)
        self._positions.extend(seen.position for seen in page)
        self.end = self._positions[-1]
        surplus = len(self._events) - TAIL_EVENTS_MAX
        if surplus > TAIL_EVENTS_MAX // 4:  # trimmed in big steps: moving the list costs its length
            self.begin = self._positions[surplus - 1]
            del self._events[:surplus]
            del self._positions[:surplus]
        self._wake()

    def _wake(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()
