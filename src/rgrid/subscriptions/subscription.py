"""One subscriber in the hands of its leader: catch up in pages, then live; park what fails for good."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from rgrid.kernel.errors import Unavailable
from rgrid.kernel.messages import AnyRecorded, Event
from rgrid.postgres.pool import Connection, Pool
from rgrid.subscriptions import checkpoints, dead_letters
from rgrid.subscriptions.checkpoints import Checkpoint, Move
from rgrid.subscriptions.process import Process, Reactor
from rgrid.subscriptions.projection import Projection
from rgrid.subscriptions.supervision import TRANSIENT, LeadershipLost
from rgrid.subscriptions.tail import Tail

log = logging.getLogger(__name__)

ATTEMPT_PAUSES_S: Final = (0.05, 0.5)
PATIENCE_MAX: Final = 30
PARKED_MAX: Final = dead_letters.PARKED_MAX
IDLE_S: Final = 1.0

Settle = Callable[[Connection], Awaitable[None]]
"""Moves the checkpoint and parks what has to wait, within the subscriber's transaction."""


class Halted(Exception):
    """Too many events are parked: something is wrong with the subscriber, not with the events."""


class Taker(Protocol):
    """What a subscriber does with events."""

    name: str
    version: int
    kinds: frozenset[type[Event]]
    repeats_safely: bool
    """Taking events a second time changes nothing, so their checkpoint need not be saved with them."""

    async def take(self, pool: Pool, events: Sequence[AnyRecorded], settle: Settle | None) -> None:
        """Takes all of these events and settles, or nothing of both; only who repeats safely may be given nothing to
        settle."""


class ProjectionTaker:
    """Applies events to the tables in one schema, in the transaction that moves the checkpoint."""

    repeats_safely = False

    def __init__(self, projection: Projection) -> None:
        self.projection = projection
        self.name = projection.name
        self.version = projection.version
        self.kinds = projection.kinds

    async def take(self, pool: Pool, events: Sequence[AnyRecorded], settle: Settle | None) -> None:
        assert settle is not None, "effect and checkpoint commit together"
        async with pool.acquire() as conn, conn.transaction():
            await settle(conn)  # first: it fences, and it sets the search path
            await self.projection.apply(conn, events)


class ProcessTaker:
    """Reacts to events; a repetition after a crash is the reactor's business."""

    repeats_safely = True

    def __init__(self, process: Process, reactor: Reactor) -> None:
        self.process = process
        self.name = process.name
        self.version = process.version
        self.kinds = process.kinds
        self.repeated_to = 0
        self._reactor = reactor

    async def take(self, pool: Pool, events: Sequence[AnyRecorded], settle: Settle | None) -> None:
        try:
            await self._reactor.react(events, self.repeated_to)
        except BaseException:
            # Some of these events may have had their effect; the next try has to ask.
            self.repeated_to = max(self.repeated_to, *(seen.position for seen in events), 0)
            raise
        if settle is not None:
            async with pool.acquire() as conn, conn.transaction():
                await settle(conn)


class Subscription:
    """`position` is how far this process has looked; `saved` is the checkpoint in the database. They differ while
    nothing wanted comes by, or nothing that matters if it is taken again, and are brought together now and then
    (`idle_move`)."""

    def __init__(self, pool: Pool, tail: Tail, taker: Taker, schema: str, wished: asyncio.Event) -> None:
        self.pool = pool
        self.tail = tail
        self.taker = taker
        self.schema = schema
        self.position = 0
        self.saved = 0
        self.parked: dict[str, int] = {}
        self.parked_events = 0
        self.wished = wished
        self.is_fenced = False
        self._faults = 0
        self._impatient_to = 0

    async def resume(self, checkpoint: Checkpoint) -> None:
        """Begins at a checkpoint that was just read."""
        name, version = self.taker.name, self.taker.version
        self.position = self.saved = checkpoint.position
        self.parked = await dead_letters.parked_streams(self.pool, name, version)
        self.parked_events = await dead_letters.parked_count(self.pool, name, version) if self.parked else 0
        self.wished.set()

    async def step(self, timeout_s: float = IDLE_S) -> bool:
        """Fulfils wishes, then takes one page; False when none came within the time. Raises LeadershipLost when
        another leader has moved the checkpoint."""
        if self.wished.is_set():
            self.wished.clear()
            await self._fulfil_wishes()
        page = await self.tail.after(self.position, self.taker.kinds, timeout_s)
        if self.is_fenced:
            raise LeadershipLost(f"the checkpoint of {self.taker.name} has been moved by another")
        if page is None:
            return False
        if page.events:
            await self._take(page.events, page.end)
        else:
            self.position = page.end
        return True

    def idle_move(self) -> Move | None:
        """What to save of how far it has looked."""
        if self.position <= self.saved:
            return None
        return Move(self.taker.name, self.taker.version, self.saved, self.saved, self.position)

    async def _take(self, events: Sequence[AnyRecorded], to: int) -> None:
        """Takes the events, or finds by halving the ones that cannot be taken and parks them."""
        try:
            await self._take_free(events, to)
        except (LeadershipLost, Halted):
            raise
        except Exception as error:  # noqa: BLE001 -- whatever a projection raises says that an event is poison
            self._pass_on_if_transient(error, to)
            if len(events) == 1:
                await self._retry_or_park(events[0], to, error)
                return
            middle = len(events) // 2
            await self._take(events[:middle], events[middle - 1].position)
            await self._take(events[middle:], to)

    def _pass_on_if_transient(self, error: Exception, to: int) -> None:
        """Raises what will pass by itself. What came again PATIENCE_MAX times at the same place will not."""
        if isinstance(error, Unavailable):
            raise error
        if isinstance(error, TRANSIENT) and self.position >= self._impatient_to:
            self._faults += 1
            if self._faults < PATIENCE_MAX:
                raise error
            self._impatient_to = to

    async def _take_free(self, events: Sequence[AnyRecorded], to: int) -> None:
        free, settle = self.settling(events, to)
        if self.taker.repeats_safely and len(free) == len(events):
            await self.taker.take(self.pool, free, None)
            self.position = to
            self._faults = 0
        else:
            await self.taker.take(self.pool, free, settle)
            self.moved(to, len(events) - len(free))

    def settling(self, events: Sequence[AnyRecorded], to: int) -> tuple[list[AnyRecorded], Settle]:
        """The events that need not wait behind a poison event, and what moves the checkpoint to `to` and parks those
        that must."""
        free = [seen for seen in events if seen.stream_id not in self.parked]
        behind = [seen for seen in events if seen.stream_id in self.parked]
        name, version = self.taker.name, self.taker.version
        step = Move(name, version, self.saved, self.position, to)
        if self.parked_events + len(behind) > PARKED_MAX:
            raise self._too_many()

        async def settle(conn: Connection) -> None:
            await checkpoints.move(conn, step, self.schema)
            if behind:
                firsts = [self.parked[seen.stream_id] for seen in behind]
                await dead_letters.park(conn, name, version, behind, "waits behind a dead letter", 0, firsts)

        return free, settle

    def moved(self, to: int, parked: int = 0) -> None:
        """The transaction that settled has committed."""
        self.position = self.saved = to
        self.parked_events += parked
        self._faults = 0

    async def _retry_or_park(self, poison: AnyRecorded, to: int, error: Exception) -> None:
        for pause_s in ATTEMPT_PAUSES_S:
            await asyncio.sleep(pause_s)
            try:
                await self._take_free([poison], to)
            except (LeadershipLost, Halted):
                raise
            except Exception as again:  # noqa: BLE001 -- as above, any error tells on the event
                self._pass_on_if_transient(again, to)
                error = again
            else:
                return
        await self._park(poison, to, error)

    async def _park(self, poison: AnyRecorded, to: int, error: Exception) -> None:
        name, version = self.taker.name, self.taker.version
        if self.parked_events >= PARKED_MAX:
            raise self._too_many() from error
        log.error("%s parks position %d (%s)", name, poison.position, poison.topic, exc_info=error)
        step = Move(name, version, self.saved, self.position, to)
        async with self.pool.acquire() as conn, conn.transaction():
            await checkpoints.move(conn, step, self.schema)
            await dead_letters.park(conn, name, version, [poison], _told(error), 1 + len(ATTEMPT_PAUSES_S), [None])
        self.moved(to, 1)
        self.parked[poison.stream_id] = poison.position

    def _too_many(self) -> Halted:
        return Halted(f"{self.taker.name} has {self.parked_events} dead letters; {PARKED_MAX} is the limit")

    async def _fulfil_wishes(self) -> None:
        name, version = self.taker.name, self.taker.version
        wishes = await dead_letters.wanted(self.pool, name, version)
        to_drain: dict[
            str, None
        ] = {}  # an ordered set: each stream is tried once, however many of its events are asked for
        for stream_id, position, wish in wishes:
            first = await dead_letters.first_parked(self.pool, name, version, stream_id)
            if wish == "skip":
                await dead_letters.give_up(self.pool, name, version, position)
            if wish == "retry" or position == first:
                to_drain[stream_id] = None
        for stream_id in to_drain:
            await self._drain(stream_id)
        if len(wishes) == dead_letters.SHOWN_MAX:
            self.wished.set()
        if wishes:
            self.parked_events = await dead_letters.parked_count(self.pool, name, version)

    async def _drain(self, stream_id: str) -> None:
        """Takes the parked events of one stream in order, up to the first that fails again."""
        name, version = self.taker.name, self.taker.version
        for _ in range(PARKED_MAX):
            position = await dead_letters.first_parked(self.pool, name, version, stream_id)
            if position is None:
                self.parked.pop(stream_id, None)
                return
            self.parked[stream_id] = position
            [parked] = await self.tail.store.read_log(position - 1, 1, to=position)
            try:
                await self.taker.take(self.pool, [parked], self._unparking(position))
            except (*TRANSIENT, LeadershipLost):
                raise
            except Exception as error:  # noqa: BLE001 -- as above, any error tells on the event
                async with self.pool.acquire() as conn, conn.transaction():
                    await dead_letters.park(conn, name, version, [parked], _told(error), 1, [None])
                    await dead_letters.wish_no_more(conn, name, version, stream_id)
                return
            self.saved = self.position

    def _unparking(self, position: int) -> Settle:
        name, version = self.taker.name, self.taker.version
        step = Move(name, version, self.saved, self.position, self.position)

        async def settle(conn: Connection) -> None:
            await checkpoints.move(conn, step, self.schema)
            await dead_letters.unpark(conn, name, version, position)

        return settle


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
