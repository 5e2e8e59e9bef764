"""What a run is, as far as its decisions must know: the state that follows from its events."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from rgrid.workflows.document import ErrorCategory, Outline, Policy
from rgrid.workflows.events import (
    MapItemEnded,
    MapItemStarted,
    RunCancelRequested,
    RunEnded,
    RunEvent,
    RunPaused,
    RunResumed,
    RunTimedOut,
    RunTriggered,
    SignalReceived,
    SkipReason,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepWoken,
)
from rgrid.workflows.map_items import Items
from rgrid.workflows.plan import Plan, plan_of

RunStatus = Literal["absent", "PENDING", "RUNNING", "CANCELLING", "COMPLETED", "PARTIAL", "FAILED", "CANCELLED"]
StepStatus = Literal["PENDING", "RUNNING", "WAITING", "COMPLETED", "FAILED", "SKIPPED", "CANCELLED"]
ENDED: Final[frozenset[RunStatus]] = frozenset({"COMPLETED", "PARTIAL", "FAILED", "CANCELLED"})
REUSED: Final[frozenset[SkipReason]] = frozenset({"restored", "cached"})


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """What a try began outside the run."""

    attempt: int
    execution_id: str | None = None
    fetch_id: str | None = None
    child_run_id: str | None = None
    items: Items = Items()


class StepState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a step stands. `attempt` is the last try, 0 before the first; `begun` has all tries, the last one last.
    A FAILED step with `next_attempt_at` is tried again, once it was woken."""

    status: StepStatus = "PENDING"
    attempt: int = 0
    outputs: Mapping[str, Any] | None = None
    row_count: int | None = None
    taken: str | None = None
    begun: tuple[Begun, ...] = ()
    wakes_at: datetime | None = None
    signal: str | None = None
    items_sha256: str | None = None
    times_out_at: datetime | None = None
    next_attempt_at: datetime | None = None
    woken: bool = False
    skip_reason: SkipReason | None = None
    error: str | None = None
    category: ErrorCategory | None = None

    @property
    def is_in_flight(self) -> bool:
        return self.status in ("RUNNING", "WAITING")

    @property
    def is_retried(self) -> bool:
        return self.next_attempt_at is not None

    @property
    def is_over(self) -> bool:
        """Nothing more will become of it."""
        return self.status not in ("PENDING", "RUNNING", "WAITING") and not self.is_retried

    @property
    def has_output(self) -> bool:
        """It came to its end, in this run or in the one that its output was taken from."""
        return self.status == "COMPLETED" or self.skip_reason in REUSED

    @property
    def is_left_out(self) -> bool:
        """It was skipped, and there is no output of it."""
        return self.status == "SKIPPED" and self.skip_reason not in REUSED

    @property
    def items(self) -> Items:
        """The items of the last try, of a MAP."""
        return self.begun[-1].items if self.begun else Items()


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """A signal that nothing has waited for yet."""

    name: str
    payload: Mapping[str, Any]
    sent_by: str


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a workflow. `failed_step` is the step for which nothing new starts any more, `forced` goes with a
    cancel without grace. All that was asked for stays in `triggered`."""

    status: RunStatus = "absent"
    triggered: RunTriggered | None = None
    plan: Plan = plan_of([], Policy())
    steps: Mapping[str, StepState] = {}
    failures: tuple[str, ...] = ()
    failed_step: str | None = None
    signals: tuple[Signal, ...] = ()
    is_paused: bool = False
    forced: bool = False
    is_timed_out: bool = False
    end: RunEnded | None = None

    @property
    def asked(self) -> RunTriggered:
        """What was asked for, of a run that exists."""
        assert self.triggered is not None, "only a run that was triggered has steps"
        return self.triggered

    @property
    def is_ended(self) -> bool:
        return self.status in ENDED

    @property
    def is_stopping(self) -> bool:
        """What runs is to be stopped."""
        return self.status == "CANCELLING" or self.is_timed_out

    @property
    def is_halted(self) -> bool:
        """Nothing new starts, and that is final."""
        return self.is_stopping or self.failed_step is not None or self.is_ended

    def outline(self, step: str) -> Outline:
        return self.plan.outlines[step]


INITIAL: Final = Run()


def evolve(state: Run, event: RunEvent) -> Run:
    """The state after a recorded event."""
    replace = msgspec.structs.replace
    match event:
        case RunTriggered():
            plan = plan_of(event.outlines, event.policy)
            return Run(status="PENDING", triggered=event, plan=plan, steps={name: StepState() for name in plan.order})
        case SignalReceived():
            return _received(state, event)
        case RunPaused():
            return replace(state, is_paused=True)
        case RunResumed():
            return replace(state, is_paused=False)
        case RunCancelRequested():
            status: RunStatus = state.status if state.is_timed_out else "CANCELLING"
            return _without_retries(replace(state, status=status, forced=state.forced or event.forced))
        case RunTimedOut():
            return _without_retries(replace(state, is_timed_out=True))
        case RunEnded():
            return replace(state, status=event.status, end=event)
        case _:
            return _of_step(state, event)


StepEvent = (
    StepStarted | MapItemStarted | MapItemEnded | StepCompleted | StepFailed | StepWoken | StepSkipped | StepCancelled
)


def _of_step(state: Run, event: StepEvent) -> Run:
    replace = msgspec.structs.replace
    step = state.steps[event.step]
    match event:
        case StepStarted():
            return _started(state, event)
        case MapItemStarted():
            step = _with_items(step, step.items.begin(event.child_run_id))
        case MapItemEnded():
            step = _with_items(step, step.items.end(event))
        case StepCompleted():
            step = replace(
                step, status="COMPLETED", outputs=event.outputs, row_count=event.row_count, taken=event.taken
            )
        case StepFailed():
            return _failed(state, event)
        case StepWoken():
            step = replace(step, woken=True)
        case StepSkipped():
            # The output of a CHOICE says what was chosen, so that a run that takes it over goes the same way.
            taken = event.outputs.get("taken") if event.outputs else None
            step = replace(step, status="SKIPPED", skip_reason=event.reason, outputs=event.outputs, taken=taken)
        case StepCancelled():
            step = replace(step, status="CANCELLED")
    return _with_step(state, event.step, step)


def _with_step(state: Run, name: str, step: StepState) -> Run:
    return msgspec.structs.replace(state, steps={**state.steps, name: step})


def _with_items(step: StepState, items: Items) -> StepState:
    *earlier, last = step.begun
    return msgspec.structs.replace(step, begun=(*earlier, msgspec.structs.replace(last, items=items)))


def _started(state: Run, event: StepStarted) -> Run:
    begun = Begun(
        attempt=event.attempt,
        execution_id=event.execution_id,
        fetch_id=event.fetch_id,
        child_run_id=event.child_run_id,
        items=Items(total=event.items_total or 0),
    )
    step = StepState(
        status="WAITING" if state.outline(event.step).type == "WAIT" else "RUNNING",
        attempt=event.attempt,
        begun=(*state.steps[event.step].begun, begun),
        wakes_at=event.wakes_at,
        signal=event.signal,
        items_sha256=event.items_sha256,
        times_out_at=event.times_out_at,
    )
    status: RunStatus = "RUNNING" if state.status == "PENDING" else state.status
    kept = list(state.signals)
    # A signal that came early is used up by the first that waits for it.
    early = next((signal for signal in kept if signal.name == event.signal), None)
    if early is not None:
        kept.remove(early)
    return _with_step(msgspec.structs.replace(state, status=status, signals=tuple(kept)), event.step, step)


def _failed(state: Run, event: StepFailed) -> Run:
    replace = msgspec.structs.replace
    step = replace(
        state.steps[event.step],
        status="FAILED",
        error=event.error,
        category=event.category,
        next_attempt_at=event.next_attempt_at,
        woken=False,
    )
    state = _with_step(state, event.step, step)
    if step.is_retried:
        return state
    state = replace(state, failures=(*state.failures, event.step))
    if state.outline(event.step).on_error == "CONTINUE" or state.plan.policy.on_failure == "CONTINUE":
        return state
    return _without_retries(replace(state, failed_step=state.failed_step or event.step))


def _without_retries(state: Run) -> Run:
    """Nothing new starts, so what has failed and would have been tried again has failed for good."""
    given_up = [name for name, step in state.steps.items() if step.is_retried]
    for name in given_up:
        state = _with_step(state, name, msgspec.structs.replace(state.steps[name], next_attempt_at=None))
    return msgspec.structs.replace(state, failures=(*state.failures, *given_up))


def _received(state: Run, event: SignalReceived) -> Run:
    if any(step.status == "WAITING" and step.signal == event.name for step in state.steps.values()):
        return state
    kept = Signal(name=event.name, payload=event.payload, sent_by=event.sent_by)
    return msgspec.structs.replace(state, signals=(*state.signals, kept))
