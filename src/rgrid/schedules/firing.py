"""Lets schedules fire: decides about what is due, begins targets together with the decision, and records their ends.

Any number of processes may do so at once: every step ends in a command that decides nothing when another was faster.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from rgrid.eventstore.handle import Handler, NewStream
from rgrid.kernel.clock import Now
from rgrid.kernel.errors import RgridError, Unavailable
from rgrid.kernel.ids import new_command_id
from rgrid.kernel.messages import AnyRecorded, Cause
from rgrid.schedules.active_runs import ActiveRun, holding, to_stop
from rgrid.schedules.commands import DecideDue, EndScheduleRun, StartScheduleRun
from rgrid.schedules.events import ScheduleEvent, ScheduleRunStarted, run_id_of
from rgrid.schedules.schedule import DECIDER
from rgrid.schedules.schedule_state import Schedule
from rgrid.schedules.targets import End, Targets

log = logging.getLogger(__name__)

BEGIN_MAX_S: Final = 5.0
"""So long a decision waits for its target to be made ready; then it is made without it."""
ERROR_MAX: Final = 2_000


class Firing:
    """`now` is the clock by which times are due; it is the handler's, too."""

    def __init__(self, handler: Handler, targets: Targets, now: Now) -> None:
        self._handler = handler
        self._targets = targets
        self._now = now

    async def decide(self, schedule_id: str) -> int:
        """Decide about what is due of a schedule; what fires begins in the same append when it can. The position of
        the decision, 0 when there was nothing to decide."""
        # Whatever is at hand will do for a guess: the decision itself is checked against the log.
        state, _ = await self._handler.load(DECIDER, schedule_id, at_least=1)
        ready = await self._ready(state)
        targets = {run_id: stream.entity_id for run_id, stream in ready.items()}

        def along(_state: Schedule, events: Sequence[ScheduleEvent]) -> list[NewStream]:
            return [ready[event.schedule_run_id] for event in events if isinstance(event, ScheduleRunStarted)]

        try:
            command = DecideDue(targets=targets)
            handled = await self._handler.handle(DECIDER, schedule_id, command, _cause(), along=along)
        except Unavailable:
            raise
        except RgridError:
            # What stands in the target's way must not keep the decision from being recorded.
            handled = await self._handler.handle(DECIDER, schedule_id, DecideDue(), _cause())
        return handled.position

    async def _ready(self, state: Schedule) -> dict[str, NewStream]:
        """The target of the run that the decision will most likely let begin at once, by the id of the run."""
        due_at, rules = state.next_due_at, state.rules
        busy = len(holding(state.runs)) >= rules.max_instances and rules.overlap_policy != "ALLOW"
        if due_at is None or due_at > self._now() or busy or rules.jitter_s:
            return {}
        run_id = run_id_of(state.schedule_id, due_at)
        run = ActiveRun(
            schedule_run_id=run_id, due_at=due_at, trigger="SCHEDULE", stage="pending", start_at=due_at
        )  # fmt: skip
        try:
            async with asyncio.timeout(BEGIN_MAX_S):
                return {run_id: await self._targets.begin(state, run, self._targets.new_id(state.target.type))}
        except (RgridError, TimeoutError):
            return {}  # It fires all the same; whoever starts it then says what is wrong.

    async def start(self, schedule_id: str, run_id: str, version: int, because: AnyRecorded | None = None) -> None:
        """Begin the target of a run whose time has come, unless it has begun; what can't begin has failed."""
        state, _ = await self._handler.load(DECIDER, schedule_id, at_least=version)
        run = state.runs.get(run_id)
        if run is None or run.stage != "pending" or run.start_at > self._now():
            return
        target_id = self._targets.new_id(state.target.type)
        try:
            stream = await self._targets.begin(state, run, target_id)
            command = StartScheduleRun(schedule_run_id=run_id, target_id=target_id)
            await self._handler.handle(DECIDER, schedule_id, command, _cause(because), along=lambda *_: [stream])
        except Unavailable:
            raise
        except RgridError as refused:
            await self.end(schedule_id, run_id, End(status="FAILED", error=_told(refused)), because)

    async def end(self, schedule_id: str, run_id: str, end: End, because: AnyRecorded | None = None) -> None:
        """Record how the target of a run ended."""
        command = EndScheduleRun(schedule_run_id=run_id, status=end.status, error=end.error)
        await self._handler.handle(DECIDER, schedule_id, command, _cause(because))

    async def make_way(self, schedule_id: str, version: int) -> None:
        """Stop the targets of the runs in whose place another one is to run."""
        state, _ = await self._handler.load(DECIDER, schedule_id, at_least=version)
        for run in to_stop(state.runs):
            await self._stop(run)

    async def look_again(self, schedule_id: str, run_id: str) -> None:
        """Repair what a lost event would leave: a run whose target has ended, or should have been stopped."""
        state, _ = await self._handler.load(DECIDER, schedule_id)
        run = state.runs.get(run_id)
        if run is None or run.target_id is None:
            return
        end = await self._targets.ended(run.target_id)
        if end is not None:
            await self.end(schedule_id, run_id, end)
        elif run.stopping:
            await self._stop(run)

    async def _stop(self, run: ActiveRun) -> None:
        if run.target_id is not None:
            reason = f"The schedule run {run.schedule_run_id} makes way for the next one."
            await self._targets.stop(run.target_id, reason, forced=run.terminated)


def _told(refused: RgridError) -> str:
    fields: Sequence[Any] = getattr(refused, "fields", ())
    listed = "; ".join(f"{field}: {why}" for field, why in fields)
    return (f"{refused.detail} ({listed})" if listed else refused.detail)[:ERROR_MAX]


def _cause(because: AnyRecorded | None = None) -> Cause:
    """A command id of its own each time: the state tells whether a step was taken already."""
    if because is None:
        return Cause(actor="system", command_id=new_command_id())
    return Cause(
        actor="system",
        command_id=new_command_id(),
        correlation_id=because.cause.correlation_id,
        causation_id=f"event:{because.position}",
        traceparent=because.cause.traceparent,
    )
