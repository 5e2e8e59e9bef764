"""Brings runs forward: whatever may start is started, whatever must stop is stopped, and a result goes into one append
with what follows from it."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

import asyncpg

from rgrid.adapters.expressions import ExpressionFailed
from rgrid.eventstore.append import Rider
from rgrid.eventstore.handle import Handled, Handler, NewStream
from rgrid.kernel.clock import now
from rgrid.kernel.decider import Decider
from rgrid.kernel.errors import SpendingLimit
from rgrid.kernel.ids import new_command_id
from rgrid.kernel.messages import AnyRecorded, Cause
from rgrid.workflows import handler_leases, progress
from rgrid.workflows.beginnings import Beginning, Beginnings, Work, failure, without_streams
from rgrid.workflows.commands import ConfirmCancelled, RunCommand, StartStep
from rgrid.workflows.events import MapItemStarted, RunEvent, StepStarted
from rgrid.workflows.handler_leases import Held, Try
from rgrid.workflows.handler_work import HandlerWork, Result
from rgrid.workflows.handlers import Handlers, StepError
from rgrid.workflows.neighbours import Neighbours
from rgrid.workflows.run_state import Run
from rgrid.workflows.step_cache import remember
from rgrid.workflows.stopping import Stopping
from rgrid.workflows.transition import DECIDER, Transition, decider_after, foreseen

log = logging.getLogger(__name__)

ROUNDS_MAX: Final = 2_000
RUNS_KEPT_MAX: Final = 50_000
ACTOR: Final = "system"


@dataclass(frozen=True, slots=True)
class Because:
    """What a transition follows from, for those who read the log later."""

    correlation_id: str | None = None
    causation_id: str | None = None
    traceparent: str | None = None

    def cause(self) -> Cause:
        return Cause(
            actor=ACTOR,
            command_id=new_command_id(),
            correlation_id=self.correlation_id,
            causation_id=self.causation_id,
            traceparent=self.traceparent,
        )


def because(recorded: AnyRecorded) -> Because:
    return Because(recorded.cause.correlation_id, f"event:{recorded.position}", recorded.cause.traceparent)


class Driver:
    """Drives any run of the grid. Several processes may drive the same one: what one has begun, the other's commands
    find begun."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        handler: Handler,
        handlers: Handlers,
        neighbours: Neighbours,
    ) -> None:
        self._pool = pool
        self._handler = handler
        self._beginnings = Beginnings(pool, handler, handlers, neighbours)
        self.work = HandlerWork(pool, connect, self._report, self._resume)
        self._stopping = Stopping(pool, handler, self.work, neighbours, self._confirm)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._driven: OrderedDict[str, tuple[int, Because]] = OrderedDict()

    async def start(self) -> None:
        await self.work.start()

    async def close(self) -> None:
        self._stopping.close()
        await self.work.close()

    def has_driven(self, run_id: str, version: int) -> bool:
        """Whether everything that follows from the run's events up to this one has been begun, by this process."""
        known = self._driven.get(run_id)
        return known is not None and known[0] >= version

    async def advance(self, run_id: str, why: Because, version: int = 0) -> None:
        """Begin what may begin in a run, and stop what must stop, now that it has come to this version."""
        async with self._lock(run_id):
            if not self.has_driven(run_id, version) or not version:
                await self._drive(run_id, self._known(run_id, why), [], None, version)

    async def tell(self, run_id: str, why: Because, *commands: RunCommand, held: Held | None = None) -> None:
        """Hand in results, together with what follows from them. Raises NotFound; Conflict LOST when the try that is
        `held` is another process' by now."""
        async with self._lock(run_id):
            await self._drive(run_id, self._known(run_id, why), list(commands), held, 0)

    async def stop(self, run_id: str, step: str, attempt: int) -> None:
        """Stop what a try began that has failed without it."""
        run = (await self._state(run_id, 0))[0]
        await self._stopping.one(run, progress.stop(run, step, attempt))

    async def state(self, run_id: str, version: int = 0) -> Run:
        """The run as it stands, at least at this version."""
        return (await self._state(run_id, version))[0]

    async def fresh(self, run_id: str) -> Run:
        """The run as the log has it now."""
        return (await self._handler.load(DECIDER, run_id))[0]

    # ------------------------------------------------------------------ inside

    async def _drive(
        self, run_id: str, why: Because, results: Sequence[RunCommand], held: Held | None, version: int
    ) -> None:
        misses = 0
        for _ in range(ROUNDS_MAX):
            run, at = await self._state(run_id, version)
            after, events = foreseen(run, results, now())
            begun = await self._begun(after)
            if not results and not begun:
                self._note(run_id, at, why)
                break
            decider = decider_after(run, after, events, len(results))
            try:
                handled = await self._append(run_id, why, decider, results, begun, held)
            except SpendingLimit as refused:
                # The month had room for it when it was asked, and has none now.
                begun = [without_streams(one, refused) for one in begun]
                handled = await self._append(run_id, why, decider, results, begun, held)
            if held is not None and not handled.events:
                # The step ended otherwise, so nobody needs to run it.
                await handler_leases.forget(self._pool, [held.of])
            if _is_at_rest(handled, at, begun):
                self._note(run_id, handled.version, why)
                break
            results, held = [], None
            # Nothing follows from what was not up to date; by now it is.
            misses += not handled.events
            if misses > 1:
                break
        else:
            log.error("run %s does not come to rest", run_id)

    async def _begun(self, run: Run) -> list[Beginning]:
        """What is to be asked of the run next."""
        if run.is_ended or run.triggered is None:
            return []
        if run.is_stopping:
            over = await self._stopping.all(run, progress.to_stop(run))
            return [Beginning([ConfirmCancelled(step=of.step, attempt=of.attempt)]) for of in over]
        new = [self._beginnings.step(run, one.step, one.attempt) for one in progress.ready(run)]
        for name, step in run.steps.items():
            if step.status == "RUNNING" and step.items.total and (free := progress.free_items(run, name)):
                new.append(self._beginnings.items(run, name, free))
        return list(await asyncio.gather(*new)) if new else []

    async def _append(
        self,
        run_id: str,
        why: Because,
        decider: Decider[Transition, Run, RunEvent],
        results: Sequence[RunCommand],
        begun: Sequence[Beginning],
        held: Held | None,
    ) -> Handled[Run, RunEvent]:
        streams = {name: stream for one in begun for name, stream in one.streams.items()}
        works = {(one.work.step, one.work.attempt): one.work for one in begun if one.work}
        inputs = {_step_of(one): one.inputs for one in begun if one.inputs}
        commands = [*results, *(command for one in begun for command in one.commands)]

        def along(_run: Run, events: Sequence[RunEvent]) -> list[NewStream]:
            return [streams[name] for event in events for name in _names(event) if name in streams]

        def riders(run: Run, events: Sequence[RunEvent], _version: int) -> list[Rider]:
            started = [(event.step, event.attempt) for event in events if isinstance(event, StepStarted)]
            kept = [remember(inputs[name], run_id, name, attempt) for name, attempt in started if name in inputs]
            new = [Try(run_id, work.step, work.attempt) for work in _started(run, events, works)]
            if held is None and not new:
                return kept
            return [*kept, handler_leases.passing(run_id, held, new, self.work.holder)]

        command = Transition(commands=commands)
        handled = await self._handler.handle(decider, run_id, command, why.cause(), along=along, riders=riders)
        for work in _started(handled.state, handled.events, works):
            self.work.begin(Held(Try(run_id, work.step, work.attempt), 1), work)
        return handled

    async def _state(self, run_id: str, version: int) -> tuple[Run, int]:
        kept = self._handler.kept(DECIDER, run_id)
        if kept is not None and kept[1] >= version:
            return kept
        return await self._handler.load(DECIDER, run_id)

    def _note(self, run_id: str, version: int, why: Because) -> None:
        self._driven[run_id] = (version, why)
        self._driven.move_to_end(run_id)
        if len(self._driven) > RUNS_KEPT_MAX:
            self._driven.popitem(last=False)

    def _lock(self, run_id: str) -> asyncio.Lock:
        lock = self._locks.get(run_id)
        if lock is None:
            lock = self._locks[run_id] = asyncio.Lock()
        return lock

    def _known(self, run_id: str, why: Because) -> Because:
        """What time brings about, or a handler, belongs to what the run belonged to before."""
        known = self._driven.get(run_id)
        return known[1] if known and why.correlation_id is None else why

    # ------------------------------------------------------------------ for handlers

    async def _report(self, held: Held, result: Result) -> None:
        await self.tell(held.of.run_id, Because(), result, held=held)

    async def _resume(self, held: Held) -> Work | None:
        run, _ = await self._handler.load(DECIDER, held.of.run_id)
        step = run.steps.get(held.of.step)
        if step is None or not step.is_in_flight or step.attempt != held.of.attempt:
            return None
        try:
            return await self._beginnings.work(run, held.of.step, held.of.attempt)
        except (ExpressionFailed, StepError) as error:
            await self._report(held, failure(held.of.step, held.of.attempt, error))
            return None

    async def _confirm(self, of: Try) -> None:
        await handler_leases.forget(self._pool, [of])
        await self.tell(of.run_id, Because(), ConfirmCancelled(step=of.step, attempt=of.attempt))


def _names(event: RunEvent) -> list[str]:
    """By which something that begins along with this event is known."""
    match event:
        case StepStarted():
            return [event.execution_id or event.child_run_id or event.step]
        case MapItemStarted():
            return [event.child_run_id]
    return []


def _is_at_rest(handled: Handled[Run, RunEvent], at: int, begun: Sequence[Beginning]) -> bool:
    """Whether nothing can follow at once: the run has ended; or all that could begin has, is under way, and nobody
    else had changed the run meanwhile."""
    run = handled.state
    if run.is_ended:
        return True
    started = [event.step for event in handled.events if isinstance(event, StepStarted)]
    if not begun or len(started) != len(begun) or handled.version != at + len(handled.events):
        return False
    if not all(isinstance(one.commands[-1], StartStep) for one in begun):
        return False
    return all(run.steps[step].status == "RUNNING" and not run.steps[step].items.total for step in started)


def _step_of(beginning: Beginning) -> str | None:
    first = beginning.commands[0]
    return first.step if isinstance(first, StartStep) else None


def _started(run: Run, events: Sequence[RunEvent], works: dict[tuple[str, int], Work]) -> list[Work]:
    """The handlers that are to be called, of steps that have started."""
    keys = [(event.step, event.attempt) for event in events if isinstance(event, StepStarted)]
    return [works[key] for key in keys if key in works and run.steps[key[0]].is_in_flight]
