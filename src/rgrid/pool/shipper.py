"""Carries the log lines of all attempts of this worker to the service, many attempts in one durable request.

One request is on its way at a time; what arrives meanwhile forms the next one. Lines leave an outbox only when the
service has them, and repeating a line changes nothing, so any failure is answered by sending again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from rgrid.kernel.errors import RgridError, Unavailable
from rgrid.pool.backoff import delay_s
from rgrid.pool.protocol import Lease, LeaseLost, LogLine, Work

FLUSH_AFTER_S: Final = 0.007
REQUEST_LINES_MAX: Final = 5000
REQUEST_BYTES_MAX: Final = 1024 * 1024
SHARE_LINES_MAX: Final = 1000  # of one attempt in one request, so that a loud script does not hold up the others
BACKLOG_BYTES_HIGH: Final = 4 * 1024 * 1024
BACKLOG_BYTES_LOW: Final = 1024 * 1024
LINE_COST_BYTES: Final = 200  # what a line costs in memory beside its text
UNEXPECTED_TRIES_MAX: Final = 60

_log = logging.getLogger(__name__)


class Outbox:
    """The lines of one attempt that the service does not have yet."""

    def __init__(self, lease: Lease, ship: Callable[["Outbox"], None], on_lost: Callable[[], None]) -> None:
        self.lease = lease
        self.lines: deque[LogLine] = deque()
        self.backlog_bytes = 0
        self.abandoned = False
        self.on_room: Callable[[], None] | None = None
        self._ship = ship
        self._on_lost = on_lost
        self._drained: asyncio.Future[bool] | None = None

    def add(self, lines: Sequence[LogLine]) -> None:
        if lines and not self.abandoned:
            self.lines.extend(lines)
            self.backlog_bytes += sum(map(_cost, lines))
            self._ship(self)

    @property
    def is_full(self) -> bool:
        """More than the high mark waits: stop reading this script's pipes until `on_room` is called."""
        return self.backlog_bytes > BACKLOG_BYTES_HIGH

    async def drained(self) -> bool:
        """Waits until the service has every line; False when it never will."""
        if self.lines and not self.abandoned:
            self._drained = asyncio.get_running_loop().create_future()
            self._ship(self)
            return await self._drained
        return not self.abandoned

    def wants_drain(self) -> bool:
        return self._drained is not None

    def stored(self, count: int) -> None:
        """The service has the first `count` lines."""
        for _ in range(min(count, len(self.lines))):
            self.backlog_bytes -= _cost(self.lines.popleft())
        if self.backlog_bytes <= BACKLOG_BYTES_LOW and self.on_room is not None:
            self.on_room()
        if not self.lines:
            self._settle(True)

    def lose(self) -> None:
        """The service said that the lease is not the current one."""
        if not self.abandoned:
            self.abandon()
            self._on_lost()

    def abandon(self) -> None:
        """Drop what waits, and whatever is added later."""
        self.abandoned = True
        self.lines.clear()
        self.backlog_bytes = 0
        if self.on_room is not None:
            self.on_room()
        self._settle(False)

    def _settle(self, stored: bool) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(stored)


class Shipper:
    """One per pool. `run` is its task; `open` makes the outbox of an attempt."""

    def __init__(self, work: Work, worker_id: str) -> None:
        self._work = work
        self._worker_id = worker_id
        self._waiting: dict[Lease, Outbox] = {}  # outboxes with lines, the one served longest ago first
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._sent_at = 0.0  # by the loop's clock

    def open(self, lease: Lease, on_lost: Callable[[], None]) -> Outbox:
        return Outbox(lease, self._ship, on_lost)

    async def run(self) -> None:
        """Ships until it is cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            while parcel := self._next_parcel():
                await self._send(parcel)
                self._sent_at = asyncio.get_running_loop().time()

    def _ship(self, outbox: Outbox) -> None:
        self._waiting.setdefault(outbox.lease, outbox)
        if outbox.wants_drain() or outbox.backlog_bytes > REQUEST_BYTES_MAX:
            self._due.set()
        elif self._timer is None:
            # Lines after a silence go at once; more of them soon after wait for company.
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._sent_at + FLUSH_AFTER_S, self._due.set)

    def _next_parcel(self) -> list[tuple[Outbox, list[LogLine]]]:
        """The next request: a fair share of each outbox, within the bounds of a request."""
        parcel: list[tuple[Outbox, list[LogLine]]] = []
        lines_left, bytes_left = REQUEST_LINES_MAX, REQUEST_BYTES_MAX
        for lease, outbox in list(self._waiting.items()):
            if lines_left <= 0 or bytes_left <= 0:
                break
            del self._waiting[lease]
            share: list[LogLine] = []
            for line in islice(outbox.lines, min(SHARE_LINES_MAX, lines_left)):
                share.append(line)
                bytes_left -= _cost(line)
                if bytes_left <= 0:
                    break
            lines_left -= len(share)
            if share:
                parcel.append((outbox, share))
            if len(share) < len(outbox.lines):
                self._waiting[lease] = outbox
        return parcel

    async def _send(self, parcel: list[tuple[Outbox, list[LogLine]]]) -> None:
        """Sends until the service has the lines or refuses them; an outbox that was abandoned meanwhile drops out."""
        tries = unexpected = 0
        while parcel := [(outbox, lines) for outbox, lines in parcel if not outbox.abandoned]:
            try:
                lost = await self._work.append_logs([(outbox.lease, lines) for outbox, lines in parcel])
            except Unavailable as error:
                _log.warning("log lines wait: the service is unavailable (%s)", error.detail)
            except RgridError as error:
                await self._refused(parcel, error)
                return
            except Exception:  # noqa: BLE001 - one request that fails must not end the shipping of all attempts
                _log.exception("log lines wait: the request failed")
                unexpected += 1
                if unexpected >= UNEXPECTED_TRIES_MAX:
                    await self._refused(parcel, RgridError("the log lines could not be stored"))
                    return
            else:
                gone = set(lost)
                for outbox, lines in parcel:
                    if outbox.lease in gone:
                        outbox.lose()
                    else:
                        outbox.stored(len(lines))
                return
            await asyncio.sleep(delay_s(self._worker_id, tries))
            tries += 1

    async def _refused(self, parcel: list[tuple[Outbox, list[LogLine]]], error: RgridError) -> None:
        """A request of several attempts is tried one by one, so that one bad attempt costs only itself."""
        if len(parcel) == 1:
            outbox = parcel[0][0]
            if isinstance(error, LeaseLost):
                outbox.lose()
            else:
                _log.error("log lines of %s refused: %s", outbox.lease.execution_id, error.detail)
                outbox.abandon()
            return
        for single in parcel:
            await self._send([single])


def _cost(line: LogLine) -> int:
    return len(line.message) + LINE_COST_BYTES
