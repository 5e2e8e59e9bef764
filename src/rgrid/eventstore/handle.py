"""From a command to its events: read the stream, fold, decide, append; again when somebody was faster."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar
from weakref import WeakValueDictionary

from rgrid.eventstore.append import Append, Appended, Decision, NewEvent, Rider
from rgrid.eventstore.snapshots import SNAPSHOT_EVERY, Snapshots
from rgrid.eventstore.store import PAGE_MAX, Store
from rgrid.eventstore.writer import GroupWriter
from rgrid.kernel.clock import Now
from rgrid.kernel.decider import Decider
from rgrid.kernel.errors import Conflict, RgridError, StaleVersion
from rgrid.kernel.messages import AnyRecorded, Cause, Command, Event

BEATEN_MAX: Final = 5
"""So often rivals in other processes may be faster; then the command is decided under the append lock."""
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


@dataclass(slots=True)
class NewStream:
    """A stream that begins in the append of another one: its first command, decided on nothing. `events` are what
    followed, when riders are asked for."""

    decider: Decider[Any, Any, Any]
    entity_id: str
    command: Command
    events: Sequence[Any] = ()


Along = Callable[[S, Sequence[E]], Sequence[NewStream]]
"""(state after, events) -> the streams that begin with them, all in one append."""


@dataclass(frozen=True, slots=True)
class _Asked(Generic[C, S, E]):
    """A command on its way: everything but the state it meets."""

    decider: Decider[C, S, E]
    stream_id: str
    command: C
    cause: Cause
    expected_version: int | None
    riders: Riders[S, E] | None
    now: Now
    along: Along[S, E] | None = None

    def plan(self, state: S, version: int) -> "_Plan[S, E]":
        """What would be appended on this state. Raises StaleVersion and what `decide` raises."""
        if self.expected_version is not None and self.expected_version != version:
            raise StaleVersion(f"The resource is at version {version}, not {self.expected_version}.")
        now = self.now()
        events = self.decider.decide(self.command, state, now)
        if not events:
            return _Plan(state, (), version, None)
        after = self.decider.fold(state, events)
        last = version + len(events)
        new = [NewEvent(self.stream_id, version + 1 + index, event) for index, event in enumerate(events)]
        along = self.along(after, events) if self.along else ()
        for one in along:
            one.events = one.decider.decide(one.command, one.decider.initial, now)
            stream_id = one.decider.stream_id(one.entity_id)
            new += [NewEvent(stream_id, index, event) for index, event in enumerate(one.events, 1)]
        riders = self.riders(after, events, last) if self.riders else ()
        return _Plan(after, events, last, Append(new, self.cause, riders), along)


@dataclass(frozen=True, slots=True)
class _Plan(Generic[S, E]):
    state: S
    events: Sequence[E]
    version: int
    append: Append | None
    along: Sequence[NewStream] = ()

    def handled(self, appended: Appended | None) -> Handled[S, E]:
        if appended is None:
            return Handled(self.state, (), self.version, 0, None)
        return Handled(self.state, self.events, self.version, appended.position, appended.recorded_at)


class Handler:
    """Handles commands of one process. Commands of one stream queue up here, so they never refuse each other;
    a recently used state is kept, and a refusal decided on a kept state is decided again on the log's."""

    def __init__(self, store: Store, writer: GroupWriter, now: Now, *, snapshot_every: int = SNAPSHOT_EVERY) -> None:
        self._store = store
        self._snapshots = Snapshots(store)
        self._snapshot_every = snapshot_every
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
        along: Along[S, E] | None = None,
    ) -> Handled[S, E]:
        """Decide `command` on its stream and append what follows. `new` says that the id was just made, so there is
        nothing to read; `along` begins more streams in the same append. Raises what `decide` raises, StaleVersion,
        Conflict (of a rider or an inline read model), Unavailable."""
        stream_id = decider.stream_id(entity_id)
        asked = _Asked(decider, stream_id, command, cause, expected_version, riders, self._now, along)
        lock = self._locks.get(stream_id)
        if lock is None:
            lock = self._locks[stream_id] = asyncio.Lock()
        async with lock:
            for _ in range(BEATEN_MAX):
                handled = await self._once(asked, new=new)
                if handled is not None:
                    return handled
                new = False
                # Only what others have added is read.
                await self._load(decider, stream_id, fresh=True)
            return await self._under_lock(asked)

    async def load(
        self, decider: Decider[C, S, E], entity_id: str, *, at_least: int | None = None
    ) -> tuple[S, int]:  # fmt: skip
        """The state as the log has it now, and its version (0: no such stream). With `at_least` a state of that version
        will do, or of a newer one, and then the log is asked only when none is at hand."""
        stream_id = decider.stream_id(entity_id)
        if at_least is not None:
            version, state = self._states.get(stream_id, (0, decider.initial))
            if version and version >= at_least:
                return state, version
        return await self._load(decider, stream_id, fresh=True)

    def kept(self, decider: Decider[C, S, E], entity_id: str) -> tuple[S, int] | None:
        """The state as this process has last seen it, without asking the log; None when it remembers nothing."""
        known = self._states.get(decider.stream_id(entity_id))
        return None if known is None else (known[1], known[0])

    async def _once(self, asked: _Asked[C, S, E], *, new: bool) -> Handled[S, E] | None:
        """None when somebody else took the version."""
        kept = asked.stream_id in self._states
        state, version = (asked.decider.initial, 0) if new else await self._load(asked.decider, asked.stream_id)
        plan: _Plan[S, E] | None = None
        try:
            plan = asked.plan(state, version)
        except RgridError:
            if not kept:
                raise
        if kept and (plan is None or plan.append is None):
            # Nothing would be appended, so no version check protects this answer: ask the log.
            state, version = await self._load(asked.decider, asked.stream_id, fresh=True)
            plan = asked.plan(state, version)
        assert plan is not None
        if plan.append is None:
            return plan.handled(None)
        try:
            appended = await self._writer.append(plan.append)
        except Conflict as conflict:
            if conflict.code != Conflict.code:
                raise
            return None
        self._keep_all(asked.stream_id, plan)
        await self._snapshot(asked.decider, asked.stream_id, plan.version - len(plan.events))
        return plan.handled(appended)

    async def _under_lock(self, asked: _Asked[C, S, E]) -> Handled[S, E]:
        state, version = await self._load(asked.decider, asked.stream_id)
        plans: list[_Plan[S, E]] = []

        def decide(newer: Sequence[AnyRecorded]) -> Append | None:
            met = asked.decider.fold(state, [recorded.event for recorded in newer])
            plans[:] = [asked.plan(met, version + len(newer))]
            return plans[0].append

        appended = await self._writer.decide(Decision(asked.stream_id, version, decide))
        self._keep_all(asked.stream_id, plans[0])
        await self._snapshot(asked.decider, asked.stream_id, plans[0].version - len(plans[0].events))
        return plans[0].handled(appended)

    async def _load(self, decider: Decider[C, S, E], stream_id: str, *, fresh: bool = False) -> tuple[S, int]:
        version, state = self._states.get(stream_id, (0, decider.initial))
        if version and not fresh:
            return state, version
        if version or decider.snapshot_version is None:
            page = await self._store.read_stream(stream_id, version)
        else:
            state, version, page = await self._snapshots.load(decider, stream_id)
        before = version
        while page:
            state = decider.fold(state, [recorded.event for recorded in page])
            version = page[-1].version
            page = await self._store.read_stream(stream_id, version) if len(page) == PAGE_MAX else []
        if version:
            self._keep(stream_id, version, state)
            await self._snapshot(decider, stream_id, before)
        return state, version

    async def _snapshot(self, decider: Decider[C, S, E], stream_id: str, before: int) -> None:
        """Keep the state beyond this process when the stream has grown past a multiple of `snapshot_every`."""
        version, state = self._states[stream_id]
        if decider.snapshot_version is not None and version // self._snapshot_every > before // self._snapshot_every:
            await self._snapshots.take(decider, stream_id, state, version)

    def _keep_all(self, stream_id: str, plan: _Plan[S, E]) -> None:
        self._keep(stream_id, plan.version, plan.state)
        for one in plan.along:
            state = one.decider.fold(one.decider.initial, one.events)
            self._keep(one.decider.stream_id(one.entity_id), len(one.events), state)

    def _keep(self, stream_id: str, version: int, state: object) -> None:
        self._states[stream_id] = (version, state)
        self._states.move_to_end(stream_id)
        if len(self._states) > STATES_MAX:
            self._states.popitem(last=False)
