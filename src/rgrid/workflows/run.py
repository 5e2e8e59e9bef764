"""The run aggregate: one run of a workflow. Stream `run-{id}`.

A command brings one or two events of its own; what follows from them (skips, the end) is in the same decision, so that
a run never stands between the two.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from rgrid.kernel.decider import Decider
from rgrid.kernel.errors import Invalid, NotFound, Rejected
from rgrid.workflows import progress
from rgrid.workflows.commands import (
    CancelRun,
    CompleteStep,
    ConfirmCancelled,
    EndMapItem,
    FailStep,
    PauseRun,
    ResumeRun,
    ReuseStep,
    RunCommand,
    SendSignal,
    StartMapItems,
    StartStep,
    TriggerRun,
    WakeRun,
)
from rgrid.workflows.consequences import consequences
from rgrid.workflows.events import (
    MapItemEnded,
    MapItemStarted,
    RunCancelRequested,
    RunEvent,
    RunPaused,
    RunResumed,
    RunTimedOut,
    RunTriggered,
    SignalReceived,
    StepSkipped,
    StepStarted,
    StepWoken,
)
from rgrid.workflows.map_items import FAILURES, size_bytes
from rgrid.workflows.outcome import OUTPUT_BYTES_MAX, completed, failed, map_ended, stopped, timed_out
from rgrid.workflows.progress import Ready
from rgrid.workflows.run_state import INITIAL, Run, evolve

MAP_ITEMS_MAX: Final = 10_000
SIGNALS_MAX: Final = 100
PAYLOAD_BYTES_MAX: Final = OUTPUT_BYTES_MAX // 2  # it is handed on with a word about who sent it


def decide(command: RunCommand, state: Run, now: datetime) -> Sequence[RunEvent]:
    """The events that follow, `[]` when it is so already or no longer asked for. Refuses with NotFound, Rejected,
    Invalid."""
    direct = _direct(command, state, now)
    if not direct:
        return []
    for event in direct:
        state = evolve(state, event)
    return [*direct, *consequences(state, now)]


def _direct(command: RunCommand, state: Run, now: datetime) -> Sequence[RunEvent]:
    if isinstance(command, TriggerRun):
        return _trigger(command, now) if state.status == "absent" else []
    if state.status == "absent":
        raise NotFound("Workflow run not found.")
    match command:
        case PauseRun() | ResumeRun() | CancelRun() | SendSignal():
            return _from_outside(command, state, now)
        case WakeRun():
            return [] if state.is_ended else _wake(command, state, now)
        case StartStep() | FailStep() | ReuseStep() | CompleteStep() | ConfirmCancelled():
            return _of_step(command, state, now) if command.step in state.steps else []
        case StartMapItems() | EndMapItem():
            return _of_items(command, state, now) if command.step in state.steps else []


def _trigger(command: TriggerRun, now: datetime) -> Sequence[RunEvent]:
    limit = command.policy.timeout_seconds
    triggered = RunTriggered(
        **{name: getattr(command, name) for name in TriggerRun.__struct_fields__},
        triggered_at=now,
        times_out_at=now + timedelta(seconds=limit) if limit else None,
    )
    listed = [outline.name for outline in command.outlines]
    if command.dry_run:
        return [triggered, *(StepSkipped(step=name, reason="dry_run", skipped_at=now) for name in listed)]
    restored = [
        StepSkipped(step=name, reason="restored", outputs=command.restored[name], skipped_at=now)
        for name in listed
        if name in command.restored
    ]
    return [triggered, *restored]


def _of_step(
    command: StartStep | FailStep | ReuseStep | CompleteStep | ConfirmCancelled, state: Run, now: datetime
) -> Sequence[RunEvent]:
    step = state.steps[command.step]
    if isinstance(command, StartStep):
        return _start(command, state, now) if Ready(command.step, command.attempt) in progress.ready(state) else []
    if isinstance(command, ReuseStep):
        if step.attempt or not _may_begin(state, command.step, 1):
            return []
        return [StepSkipped(step=command.step, reason="cached", outputs=command.outputs, skipped_at=now)]
    is_this_try = step.is_in_flight and step.attempt == command.attempt
    if isinstance(command, ConfirmCancelled):
        if not is_this_try or not state.is_stopping or step.items.running:
            return []
        return [stopped(state, command.step, command.attempt, now)]
    begun: list[RunEvent] = []
    if not is_this_try:
        if not _may_begin(state, command.step, command.attempt):
            return []
        # It came to its end before there was anything to start: a choice, or parameters that make no sense.
        begun = [StepStarted(step=command.step, attempt=command.attempt, started_at=now)]
    if isinstance(command, FailStep):
        return [*begun, *failed(state, command.step, command.attempt, command.error, command.category, now)]
    return [*begun, *_complete(command, state, now)]


def _may_begin(state: Run, step: str, attempt: int) -> bool:
    """Whether the next try may begin, were there a place: what needs no place needs to wait for none."""
    return not state.is_paused and state.steps[step].attempt + 1 == attempt and step in progress.startable(state)


def _start(command: StartStep, state: Run, now: datetime) -> Sequence[RunEvent]:
    outline = state.outline(command.step)
    limit = outline.timeout_seconds
    started = StepStarted(
        **{name: getattr(command, name) for name in StartStep.__struct_fields__},
        started_at=now,
        times_out_at=now + timedelta(seconds=limit) if limit else None,
    )
    step, attempt = command.step, command.attempt
    if outline.type == "WAIT":
        return [started, *_at_once(command, state, now)]
    if outline.type == "MAP" and not command.items_total:
        return [started, *completed(state, step, attempt, {"results": [], "failed": []}, None, now)]
    if outline.type == "MAP" and (command.items_total or 0) > MAP_ITEMS_MAX:
        error = f"The list has {command.items_total} items; a MAP takes up to {MAP_ITEMS_MAX}."
        return [started, *failed(state, step, attempt, error, "RESOURCE", now)]
    return [started]


def _at_once(command: StartStep, state: Run, now: datetime) -> Sequence[RunEvent]:
    """What a WAIT waits for may be there already."""
    early = next((signal for signal in state.signals if signal.name == command.signal), None)
    if early is not None:
        outputs = _received(early.name, early.payload, early.sent_by)
        return completed(state, command.step, command.attempt, outputs, None, now)
    if command.wakes_at is not None and command.wakes_at <= now:
        return completed(state, command.step, command.attempt, _waited(command.signal), None, now)
    return []


def _received(name: str | None, payload: Mapping[str, Any], sent_by: str | None) -> dict[str, Any]:
    return {"signal": name, "payload": payload, "sent_by": sent_by}


def _waited(signal: str | None) -> dict[str, Any]:
    """What a WAIT hands on when its time is over; one for a signal says that none came."""
    return {} if signal is None else _received(None, {}, None)


def _complete(command: CompleteStep, state: Run, now: datetime) -> Sequence[RunEvent]:
    outputs, taken = command.outputs, None
    outline = state.outline(command.step)
    if outline.type == "CHOICE":
        assert command.chosen is not None, "whoever completes a choice says what its condition came to"
        taken = outline.then_step if command.chosen else outline.else_step
        outputs = {**outputs, "result": command.chosen, "taken": taken}
    return completed(state, command.step, command.attempt, outputs, command.row_count, now, taken=taken)


def _of_items(command: StartMapItems | EndMapItem, state: Run, now: datetime) -> Sequence[RunEvent]:
    step = state.steps[command.step]
    if not step.is_in_flight or step.attempt != command.attempt:
        return []
    if isinstance(command, StartMapItems):
        free = progress.free_items(state, command.step)
        asked = {item.index: item.child_run_id for item in command.items}
        events: list[RunEvent] = []
        for index in free:
            if index not in asked:
                break
            events.append(
                MapItemStarted(
                    step=command.step,
                    attempt=command.attempt,
                    index=index,
                    child_run_id=asked[index],
                    started_at=now,
                )
            )
        return events
    item = step.items.get(command.index)
    if item is None or item.status is not None or item.child_run_id != command.child_run_id:
        return []
    outputs = None if command.status in FAILURES else command.outputs or {}
    # Once there is more than a step may hand on, it will fail for that: the rest needn't be kept.
    fits = not step.items.is_cut and step.items.size_bytes + size_bytes(outputs) <= OUTPUT_BYTES_MAX
    ended = MapItemEnded(
        step=command.step,
        attempt=command.attempt,
        index=command.index,
        child_run_id=command.child_run_id,
        status=command.status,
        outputs=outputs if fits else None,
        error=command.error,
        category=command.category,
        ended_at=now,
    )
    return [ended, *map_ended(evolve(state, ended), command.step, now)]


def _wake(command: WakeRun, state: Run, now: datetime) -> Sequence[RunEvent]:
    if command.kind == "run_timeout":
        due = state.asked.times_out_at
        return [RunTimedOut(timed_out_at=now)] if due and due <= now and not state.is_stopping else []
    name = command.step
    step = state.steps.get(name) if name is not None else None
    if name is None or step is None or step.attempt != command.attempt or state.is_stopping:
        return []
    if command.kind == "retry":
        is_due = step.next_attempt_at is not None and step.next_attempt_at <= now and not step.woken
        return [StepWoken(step=name, attempt=step.attempt, woken_at=now)] if is_due else []
    if not step.is_in_flight:
        return []
    if command.kind == "wait" and step.wakes_at is not None and step.wakes_at <= now:
        return completed(state, name, step.attempt, _waited(step.signal), None, now)
    if command.kind == "step_timeout" and step.times_out_at is not None and step.times_out_at <= now:
        return timed_out(state, name, now)
    return []


def _from_outside(
    command: PauseRun | ResumeRun | CancelRun | SendSignal, state: Run, now: datetime
) -> Sequence[RunEvent]:
    if state.is_ended:
        raise _too_late(state)
    match command:
        case CancelRun():
            if state.is_stopping and (state.forced or not command.forced):
                return []
            return [
                RunCancelRequested(
                    requested_by=command.requested_by,
                    reason=command.reason,
                    forced=command.forced,
                    requested_at=now,
                )
            ]
        case ResumeRun():
            return [RunResumed(resumed_by=command.resumed_by, resumed_at=now)] if state.is_paused else []
        case PauseRun():
            if state.is_stopping:
                raise _too_late(state)
            if state.is_paused:
                return []
            return [RunPaused(paused_by=command.paused_by, note=command.note, paused_at=now)]
        case SendSignal():
            return _signal(command, state, now)


def _too_late(state: Run) -> Rejected:
    status = "CANCELLING" if state.is_stopping and not state.is_ended else state.status
    return Rejected(f"The run is {status}.", extra={"current_status": status})


def _signal(command: SendSignal, state: Run, now: datetime) -> Sequence[RunEvent]:
    if state.is_stopping:
        raise _too_late(state)
    if not any(outline.signal == command.name for outline in state.plan.outlines.values()):
        raise Invalid(f"No step of this run waits for {command.name}.", code="unknown_signal")
    if size_bytes(command.payload) > PAYLOAD_BYTES_MAX:
        raise Invalid(f"A payload has up to {PAYLOAD_BYTES_MAX} bytes as JSON.", code="payload_too_large")
    received = SignalReceived(name=command.name, payload=command.payload, sent_by=command.sent_by, received_at=now)
    waiting = [name for name, step in state.steps.items() if step.status == "WAITING" and step.signal == command.name]
    if not waiting and len(state.signals) >= SIGNALS_MAX:
        raise Rejected(f"{SIGNALS_MAX} signals wait already to be waited for.", code="too_many_signals")
    events: list[RunEvent] = [received]
    outputs = _received(command.name, command.payload, command.sent_by)
    for name in waiting:
        events += completed(state, name, state.steps[name].attempt, outputs, None, now)
    return events


DECIDER: Final = Decider[RunCommand, Run, RunEvent](
    noun="run", initial=INITIAL, decide=decide, evolve=evolve, snapshot_version=1
)
