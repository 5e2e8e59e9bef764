"""Keeps this worker's leases alive from a thread of its own, which a busy event loop cannot starve.

Each lease has a deadline on the monotonic clock. Whoever does not get a renewal through before it must treat the lease
as lost, because the service does, too.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from rgrid.kernel.errors import RgridError
from rgrid.pool.protocol import Heartbeat, Lease, Renewal

RETRY_SHARE: Final = 5  # after a failure the next try comes after a fifth of the usual pause
WATCH_EVERY_S_MAX: Final = 0.5
STOP_WAIT_MAX_S: Final = 1.0

_log = logging.getLogger(__name__)


class Renewer:
    """`tell` gets each answer of the service, and `overdue` each lease whose deadline passed, on the event loop."""

    def __init__(
        self,
        heartbeat: Heartbeat,
        worker_id: str,
        every_s: float,
        tell: Callable[[Renewal], None],
        overdue: Callable[[Lease], None],
    ) -> None:
        self._heartbeat = heartbeat
        self._worker_id = worker_id
        self._every_s = every_s
        self._tell = tell
        self._overdue = overdue
        self._lock = threading.Lock()
        self._leases: dict[Lease, tuple[float, float]] = {}  # ttl and deadline
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._shortest_ttl_s = float("inf")

    def hold(self, lease: Lease, ttl_s: float) -> None:
        with self._lock:
            self._leases[lease] = (ttl_s, time.monotonic() + ttl_s)
            self._shortest_ttl_s = min(self._shortest_ttl_s, ttl_s)

    def release(self, lease: Lease) -> None:
        with self._lock:
            self._leases.pop(lease, None)

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._renew_on, args=(loop,), name="rgrid-renewer", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Ends the thread; one that hangs in a request is left behind, it can do nothing any more."""
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, STOP_WAIT_MAX_S)

    async def watch(self) -> None:
        """Looks at the deadlines until it is cancelled. It lives on the event loop, because the thread may hang in a
        request, and killing a box needs the event loop anyhow."""
        while True:
            await asyncio.sleep(min(WATCH_EVERY_S_MAX, self._shortest_ttl_s / 10))
            for lease in self._take_overdue():
                self._overdue(lease)

    def _take_overdue(self) -> list[Lease]:
        now = time.monotonic()
        with self._lock:
            late = [lease for lease, (_, deadline) in self._leases.items() if deadline <= now]
            for lease in late:
                del self._leases[lease]
        return late

    def _renew_on(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._renew_until_stopped(loop)
        finally:
            self._heartbeat.close()

    def _renew_until_stopped(self, loop: asyncio.AbstractEventLoop) -> None:
        pause = self._every_s
        while not self._stop.wait(pause):
            with self._lock:
                leases = list(self._leases)
            asked_at = time.monotonic()
            try:
                renewal = self._heartbeat.renew(self._worker_id, leases)
            except RgridError as error:
                _log.warning("the leases could not be renewed: %s", error.detail)
                pause = self._every_s / RETRY_SHARE
                continue
            except Exception:  # noqa: BLE001 - without this thread every attempt of this worker would be lost
                _log.exception("the leases could not be renewed")
                pause = self._every_s / RETRY_SHARE
                continue
            self._extend(leases, set(renewal.lost), asked_at)
            try:
                loop.call_soon_threadsafe(self._tell, renewal)
            except RuntimeError:
                return  # the event loop is closed: nobody is left to renew for
            pause = max(0.0, self._every_s - (time.monotonic() - asked_at))

    def _extend(self, leases: list[Lease], lost: set[Lease], asked_at: float) -> None:
        """Counts from when the question was sent: the service cannot have started the lease anew before that."""
        with self._lock:
            for lease in leases:
                if lease in self._leases and lease not in lost:
                    ttl_s, _ = self._leases[lease]
                    self._leases[lease] = (ttl_s, asked_at + ttl_s)
