"""Who waits for the read side to reach a position, and how far it is known to have come."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from rgrid.kernel.errors import Unavailable
from rgrid.postgres.pool import Pool
from rgrid.subscriptions import checkpoints
from rgrid.subscriptions.supervision import TRANSIENT

WAITERS_MAX: Final = 10_000
POLL_S: Final = 0.02
"""How often checkpoints led by other processes are read while somebody waits for one. Polling rather than NOTIFY:
a notification takes a database-wide lock at commit, for every page of every subscriber, waited for or not."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    position: int
    names: tuple[str, ...]
    done: asyncio.Future[None]


class Progress:
    """Positions of this process's own subscribers arrive by `note`; those of others are polled while waited for."""

    def __init__(self, pool: Pool, is_own: Callable[[str], bool]) -> None:
        self._pool = pool
        self._is_own = is_own
        self._positions: dict[str, int] = {}
        self._waiters: set[_Waiter] = set()
        self._poller: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()

    async def lull(self, pause_s: float) -> None:
        """A pause between two pages, which lets a page gather more events; over at once when somebody waits."""
        if self._waiters:
            return
        self._asked.clear()
        try:
            async with asyncio.timeout(pause_s):
                await self._asked.wait()
        except TimeoutError:
            return

    def note(self, name: str, position: int) -> None:
        self._positions[name] = position
        if self._waiters:
            self._wake()

    def forget(self) -> None:
        """After a lost connection nothing is sure: a crash of the database may have undone the newest commits."""
        self._positions.clear()

    def at(self, name: str) -> int:
        """The last known position, -1 when unknown."""
        return self._positions.get(name, -1)

    async def reached(self, position: int, names: Collection[str], timeout_s: float) -> None:
        """Returns when all of these subscribers have come to `position`; raises Unavailable after the time."""
        if self._includes(position, names):
            return
        if len(self._waiters) >= WAITERS_MAX:
            raise Unavailable("Too many requests wait for the read side.", code="position_not_reached")
        waiter = _Waiter(position, tuple(names), asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        self._asked.set()
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="checkpoint-poll")
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.done
        except TimeoutError:
            late = ", ".join(name for name in names if self.at(name) < position)
            raise Unavailable(
                f"The read side has not reached position {position} yet (behind: {late}).", code="position_not_reached"
            ) from None
        finally:
            self._waiters.discard(waiter)

    async def stop(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

    def _includes(self, position: int, names: Collection[str]) -> bool:
        return all(self._positions.get(name, -1) >= position for name in names)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done.done() and self._includes(waiter.position, waiter.names):
                waiter.done.set_result(None)

    async def _poll(self) -> None:
        while self._waiters:
            others = {name for waiter in self._waiters for name in waiter.names if not self._is_own(name)}
            if others:
                try:
                    self._positions.update(await checkpoints.live_positions(self._pool, others))
                except TRANSIENT:
                    self.forget()
                self._wake()
            await asyncio.sleep(POLL_S)
