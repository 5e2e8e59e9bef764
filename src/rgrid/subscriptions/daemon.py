"""Runs every subscriber of a process: one reader, one leader per subscriber over all processes, supervised."""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from rgrid.eventstore.handle import Handler
from rgrid.eventstore.store import Store
from rgrid.postgres.pool import GONE, Pool
from rgrid.subscriptions import checkpoints
from rgrid.subscriptions.leader import Desk, Work, lead_process, lead_projection
from rgrid.subscriptions.leadership import Leadership
from rgrid.subscriptions.process import Process, Reactor
from rgrid.subscriptions.progress import Progress
from rgrid.subscriptions.projection import Projection
from rgrid.subscriptions.stalls import Stall, append_stall
from rgrid.subscriptions.subscription import Subscription
from rgrid.subscriptions.supervision import supervised
from rgrid.subscriptions.tail import Tail

log = logging.getLogger(__name__)

EVENTS: Final = "rgrid_events"
"""The channel on which every append tells the position it came to."""
SAVE_IDLE_EVERY_S: Final = 0.2
LAST_SAVE_MAX_S: Final = 1.0
STALL_CHECK_EVERY_S: Final = 5.0
REACHED_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Lag:
    """How one subscriber stands. `state` is `live`, `building`, `following` (another process leads), `superseded`,
    `halted` or `absent`; `behind` counts events of the whole log."""

    name: str
    kind: str
    state: str
    position: int
    behind: int
    dead_letters: int


class Daemon:
    """Give it a pool of its own: one of its connections holds the leadership, the others go from subscriber to
    subscriber, each for one page at a time."""

    def __init__(
        self,
        pool: Pool,
        store: Store,
        projections: Sequence[Projection] = (),
        processes: Sequence[Process] = (),
        handler: Handler | None = None,
    ) -> None:
        self._pool = pool
        self._store = store
        self._handler = handler
        self._projections = {projection.name: projection for projection in projections}
        self._followed = [projection.name for projection in projections if not projection.inline]
        self._processes = {process.name: process for process in processes}
        self._keys = {projection.name: f"{projection.name}/{projection.version}" for projection in projections}
        self._keys |= {process.name: f"{process.name}/{process.version}" for process in processes}
        assert len(self._keys) == len(projections) + len(processes), "two subscribers have one name"
        self._told = asyncio.Event()
        self._told_position = 0
        listeners = {EVENTS: self._log_has_grown, checkpoints.WISHES: self._wishes_were_made}
        self._leadership = Leadership(pool, list(self._keys.values()), listeners, self._leadership_is_lost)
        self._progress = Progress(pool, self._is_own)
        self.tail = Tail(store)
        self._desk = Desk(pool, self.tail, self._leadership, self._progress)
        self._tasks: list[asyncio.Task[None]] = []
        self.stall: Stall | None = None

    async def start(self) -> None:
        """Returns at once; `reached` tells when there is something to read."""
        loops: dict[str, Work] = {
            "leadership": self._leadership.keep,
            "log reader": self.tail.follow,
            "commits of others": self._pass_on,
            "idle checkpoints": self._save_idle,
            "stall check": self._watch_for_stalls,
        }
        for projection in self._projections.values():
            loops[f"projection {projection.name}"] = lead_projection(
                self._desk, projection, self._keys[projection.name]
            )
        for process in self._processes.values():
            assert self._handler is not None, "processes need a handler for their commands"
            reactor = Reactor(process, self._store, self._handler)
            loops[f"process {process.name}"] = lead_process(self._desk, process, reactor, self._keys[process.name])
        self._tasks = [asyncio.create_task(supervised(name, work), name=name) for name, work in loops.items()]

    async def stop(self) -> None:
        """Ends every loop; a page in flight is rolled back, and whoever leads next applies it."""
        standing = list(self._desk.live.values())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._progress.stop()
        with contextlib.suppress(*GONE):
            async with asyncio.timeout(LAST_SAVE_MAX_S):
                await self._save_positions(standing)

    async def reached(
        self, position: int, names: Collection[str] | None = None, timeout_s: float = REACHED_TIMEOUT_S
    ) -> None:
        """Returns when these projections (None: all but the inline ones) include `position`, whichever process leads
        them; raises Unavailable (`position_not_reached`) when they do not in time. An inline projection includes all
        that is committed as soon as it is built."""
        wanted = self._followed if names is None else names
        if inline := [name for name in wanted if self._is_inline(name)]:
            await self._progress.reached(0, inline, timeout_s)
        await self._progress.reached(position, [name for name in wanted if name not in inline], timeout_s)

    def _is_inline(self, name: str) -> bool:
        return name in self._projections and self._projections[name].inline

    async def lag(self) -> list[Lag]:
        """Figures for health and metrics."""
        head = await self._store.head()
        rows = await self._pool.fetch(
            "select c.subscriber, c.position, (select count(*) from rgrid.dead_letters d where d.subscriber ="
            " c.subscriber and d.version = c.version and d.skipped_at is null) as parked"
            " from rgrid.checkpoints c where c.ready and c.subscriber = any($1)",
            list(self._keys),
        )
        known = {row["subscriber"]: row for row in rows}
        return [self._lag_of(name, known.get(name), head) for name in self._keys]

    def _lag_of(self, name: str, row: asyncpg.Record | None, head: int) -> Lag:
        position = max(row["position"] if row else 0, self._progress.at(name))
        if row is not None and self._is_inline(name):
            position = head
        state = self._desk.states.get(name, "following")
        return Lag(
            name=name,
            kind="process" if name in self._processes else "projection",
            state="absent" if row is None and state == "following" else state,
            position=position,
            behind=max(0, head - position),
            dead_letters=row["parked"] if row else 0,
        )

    def _is_own(self, name: str) -> bool:
        return name in self._keys and self._leadership.holds(self._keys[name])

    def _log_has_grown(self, payload: str) -> None:
        self._told_position = max(self._told_position, int(payload) if payload.isdigit() else 0)
        self._told.set()

    def _wishes_were_made(self, _: str) -> None:
        for wished in self._desk.wished.values():
            wished.set()

    def _leadership_is_lost(self) -> None:
        self._progress.forget()
        self._desk.live.clear()

    async def _pass_on(self) -> None:
        """Wakes followers in this process for commits that other processes notified."""
        while True:
            await self._told.wait()
            self._told.clear()
            if self._told_position:
                await self._store.committed.advance(self._told_position)
            else:
                await self._store.committed.look()

    async def _save_idle(self) -> None:
        """Brings the saved checkpoints up to where the subscribers have looked."""
        while True:
            await asyncio.sleep(SAVE_IDLE_EVERY_S)
            await self._save_positions(list(self._desk.live.values()))

    async def _save_positions(self, subscriptions: Sequence[Subscription]) -> None:
        steps = [(live, step) for live in subscriptions if (step := live.idle_move())]
        if not steps:
            return
        moved = await checkpoints.move_idle(self._pool, [step for _, step in steps])
        for live, step in steps:
            if step.subscriber in moved:
                live.saved = max(live.saved, step.to)
            elif live.taker.repeats_safely and live.saved == step.saved:
                live.is_fenced = True

    async def _watch_for_stalls(self) -> None:
        while True:
            self.stall = await append_stall(self._pool)
            if self.stall is not None:
                log.warning("the log stands still: %s", self.stall)
            await asyncio.sleep(STALL_CHECK_EVERY_S)
