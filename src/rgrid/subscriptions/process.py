"""A process manager: events in, commands out. The only place, beside the drivers, where effects happen."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol, TypeVar

from rgrid.eventstore.handle import Along, Handled, Handler, Riders
from rgrid.eventstore.store import Store
from rgrid.kernel.decider import Decider
from rgrid.kernel.ids import command_id
from rgrid.kernel.messages import AnyRecorded, Cause, Command, Event

C = TypeVar("C", bound=Command)
S = TypeVar("S")
E = TypeVar("E", bound=Event)

ACTOR: Final = "system"
STREAMS_AT_ONCE_MAX: Final = 64


class Send(Protocol):
    """Sends one command caused by the event at hand. Answers None when an earlier delivery of the same event has sent
    it already; raises what `decide` raises."""

    async def __call__(
        self,
        decider: Decider[C, S, E],
        entity_id: str,
        command: C,
        *,
        new: bool = False,
        riders: Riders[S, E] | None = None,
        along: Along[S, E] | None = None,
    ) -> Handled[S, E] | None: ...


React = Callable[[AnyRecorded, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Process:
    """`on` says what to do at which event. Events of one stream come in order, one at a time; with
    `streams_at_once` > 1 different streams go side by side. `from_head` skips the past when the process is new."""

    name: str
    on: Mapping[type[Event], React]
    streams_at_once: int = 1
    from_head: bool = False
    version: ClassVar[int] = 1  # what a process did stays done, so there is nothing to build again
    kinds: frozenset[type[Event]] = field(init=False)

    def __post_init__(self) -> None:
        assert 1 <= self.streams_at_once <= STREAMS_AT_ONCE_MAX
        object.__setattr__(self, "kinds", frozenset(self.on))


class Reactor:
    """Runs a process. A crash between the effect and the checkpoint repeats events, so commands carry ids made from
    (process, position, step), and what may be a repetition asks the stream first."""

    def __init__(self, process: Process, store: Store, handler: Handler) -> None:
        self._process = process
        self._store = store
        self._handler = handler

    async def react(self, events: Sequence[AnyRecorded], repeated_to: int) -> None:
        """Reacts to the events of a page; those up to `repeated_to` may have been reacted to before."""
        streams: dict[str, list[AnyRecorded]] = {}
        if self._process.streams_at_once == 1:
            streams[""] = list(events)
        else:
            for recorded in events:
                streams.setdefault(recorded.stream_id, []).append(recorded)
        free = asyncio.Semaphore(self._process.streams_at_once)

        async def in_order(queue: list[AnyRecorded]) -> None:
            async with free:
                for recorded in queue:
                    send = _Sender(self, recorded, recorded.position <= repeated_to)
                    await self._process.on[type(recorded.event)](recorded, send)

        outcomes = await asyncio.gather(*map(in_order, streams.values()), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def send(
        self,
        recorded: AnyRecorded,
        step: int,
        repeated: bool,
        decider: Decider[C, S, E],
        entity_id: str,
        command: C,
        new: bool,
        riders: Riders[S, E] | None,
        along: Along[S, E] | None,
    ) -> Handled[S, E] | None:
        wanted_id = command_id(self._process.name, recorded.position, step)
        if repeated and await self._was_sent(decider.stream_id(entity_id), wanted_id):
            return None
        cause = Cause(
            actor=ACTOR,
            command_id=wanted_id,
            correlation_id=recorded.cause.correlation_id,
            causation_id=f"event:{recorded.position}",
            traceparent=recorded.cause.traceparent,
        )
        return await self._handler.handle(
            decider, entity_id, command, cause, new=new and not repeated, riders=riders, along=along
        )

    async def _was_sent(self, stream_id: str, wanted_id: object) -> bool:
        version = 0
        while page := await self._store.read_stream(stream_id, version):
            if any(seen.cause.command_id == wanted_id for seen in page):
                return True
            version = page[-1].version
        return False


class _Sender:
    """Counts the steps of one event, so that each command has its own id."""

    def __init__(self, reactor: Reactor, recorded: AnyRecorded, repeated: bool) -> None:
        self._reactor = reactor
        self._recorded = recorded
        self._repeated = repeated
        self._step = 0

    async def __call__(
        self,
        decider: Decider[C, S, E],
        entity_id: str,
        command: C,
        *,
        new: bool = False,
        riders: Riders[S, E] | None = None,
        along: Along[S, E] | None = None,
    ) -> Handled[Any, Any] | None:
        self._step += 1
        return await self._reactor.send(
            self._recorded, self._step, self._repeated, decider, entity_id, command, new, riders, along
        )
