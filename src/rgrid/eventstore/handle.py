"""From a command to its events: read the stream, fold, decide, append; again when somebody was faster."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar
from weakref import WeakValueDictionary

from rgrid.eventstore.append import Append, NewEvent, Rider
from rgrid.eventstore.store import PAGE_MAX, Store
from rgrid.eventstore.writer import GroupWriter
from rgrid.kernel.clock import Now
from rgrid.kernel.decider import Decider
from rgrid.kernel.errors import Conflict, RgridError, StaleVersion
from rgrid.kernel.messages import Cause, Command, Event

ATTEMPTS_MAX: Final = 50
STATES_MAX: Final = 20_000

C = TypeVar("C", bound=Command)
S = TypeVar("S")
E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class Handled(Generic[S, E]):
    """The state after the command, the events it made (`()` when it changed nothing), the stream's version and the
    log position of its last event here (0 when it wrote nothing)."""

    state: S
    events: Sequence[E]
    version: int
    position: int
    recorded_at: datetime | None


Riders = Callable[[S, Sequence[E], int], Sequence[Rider]]
"""(state after, events, version after) -> statements that commit with them."""


class Handler:
    """Handles commands of one process. Commands of one stream queue up here, so they never refuse each other;
    a recently used state is kept, and a refusal decided on a kept state is decided again on the log's."""

    def __init__(self, store: Store, writer: GroupWriter, now: Now) -> None:
        self._store = store
        self._writer = writer
        self._now = now
        self._states: OrderedDict[str, tuple[int, Any]] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def handle(
        self,
        decider: Decider[C, S, E],
        entity_id: str,
        command: C,
        cause: Cause,
        *,
        expected_version: int | None = None,
        new: bool = False,
        riders: Riders[S, E] | None = None,
    ) -> Handled[S, E]:
        """Decide `command` on its stream and append what follows. `new` says that the id was just made, so there is
        nothing to read. Raises what `decide` raises, StaleVersion, Conflict (after ATTEMPTS_MAX), Unavailable."""
        stream_id = decider.stream_id(entity_id)
        lock = self._locks.get(stream_id)
        if lock is None:
            lock = self._locks[stream_id] = asyncio.Lock()
        async with lock:
            for _ in range(ATTEMPTS_MAX):
                try:
                    return await self._once(decider, stream_id, command, cause, expected_version, new, riders)
                except _Beaten:
                    # Only what others have added is read; the rival's next command is as far as ours now.
                    await self._load(decider, stream_id, fresh=True)
                    new = False
        raise Conflict("Too many others change it at the same time.")

    async def load(self, decider: Decider[C, S, E], entity_id: str) -> tuple[S, int]:
        """The state as the log has it now, and its version (0: no such stream)."""
        return await self._load(decider, decider.stream_id(entity_id), fresh=True)

    async def _once(
        self,
        decider: Decider[C, S, E],
        stream_id: str,
        command: C,
        cause: Cause,
        expected_version: int | None,
        new: bool,
        riders: Riders[S, E] | None,
    ) -> Handled[S, E]:
        kept = stream_id in self._states
        state, version = (decider.initial, 0) if new else await self._load(decider, stream_id, fresh=False)
        try:
            _check_version(expected_version, version)
            events = decider.decide(command, state, self._now())
        except RgridError:
            if not kept:
                raise
            events = ()
        if not events and kept:
            # Nothing will be appended, so no version check protects this answer: ask the log.
            state, version = await self._load(decider, stream_id, fresh=True)
            _check_version(expected_version, version)
            events = decider.decide(command, state, self._now())
        if not events:
            return Handled(state, (), version, 0, None)
        after = decider.fold(state, events)
        last = version + len(events)
        append = Append(
            [NewEvent(stream_id, version + 1 + index, event) for index, event in enumerate(events)],
            cause,
            riders(after, events, last) if riders else (),
        )
        try:
            appended = await self._writer.append(append)
        except Conflict as conflict:
            if conflict.code != Conflict.code:
                raise
            raise _Beaten from conflict
        self._keep(stream_id, last, after)
        return Handled(after, events, last, appended.position, appended.recorded_at)

    async def _load(self, decider: Decider[C, S, E], stream_id: str, *, fresh: bool) -> tuple[S, int]:
        version, state = self._states.get(stream_id, (0, decider.initial))
        if version and not fresh:
            return state, version
        while page := await self._store.read_stream(stream_id, version):
            state = decider.fold(state, [recorded.event for recorded in page])
            version = page[-1].version
            if len(page) < PAGE_MAX:
                break
        if version:
            self._keep(stream_id, version, state)
        return state, version

    def _keep(self, stream_id: str, version: int, state: object) -> None:
        self._states[stream_id] = (version, state)
        self._states.move_to_end(stream_id)
        if len(self._states) > STATES_MAX:
            self._states.popitem(last=False)


class _Beaten(Exception):
    """The version was taken by somebody else."""


def _check_version(expected: int | None, actual: int) -> None:
    if expected is not None and expected != actual:
        raise StaleVersion(f"The resource is at version {actual}, not {expected}.")
