"""Everything about one workflow run, as of now or any position: a live projection, folded from its stream on read.

A fold is never behind the log, and shows each try of each step as it was.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from rgrid.eventstore.store import PAGE_MAX, Store
from rgrid.kernel.messages import AnyRecorded
from rgrid.workflows.document import ErrorCategory, Outline, RetryPolicy
from rgrid.workflows.events import (
    MapItemEnded,
    MapItemStarted,
    RunCancelRequested,
    RunEnded,
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
)

RunStatus = Literal["PENDING", "RUNNING", "CANCELLING", "COMPLETED", "PARTIAL", "FAILED", "CANCELLED"]
StepStatus = Literal["PENDING", "RUNNING", "WAITING", "COMPLETED", "FAILED", "SKIPPED", "CANCELLED"]
TERMINAL: Final = frozenset({"COMPLETED", "PARTIAL", "FAILED", "CANCELLED"})
REUSED: Final = frozenset({"restored", "cached"})
PAGES_MAX: Final = 1_000


class Try(msgspec.Struct, kw_only=True):
    """One try of a step; a step that has not begun has one that is PENDING. `order` is the step's place in the list."""

    step: str
    order: int
    outline: Outline
    status: StepStatus = "PENDING"
    attempt: int = 1
    started_at: datetime | None = None
    completed_at: datetime | None = None
    inputs: dict[str, Any] | None = None
    outputs: dict[str, Any] | None = None
    row_count: int | None = None
    warnings: list[str] = []
    error: str | None = None
    category: ErrorCategory | None = None
    skip_reason: SkipReason | None = None
    execution_id: str | None = None
    fetch_id: str | None = None
    child_run_ids: list[str] = []
    next_attempt_at: datetime | None = None
    wakes_at: datetime | None = None
    times_out_at: datetime | None = None
    signal: str | None = None
    taken: str | None = None
    items_total: int | None = None
    items_ended: int = 0
    items_failed: int = 0

    @property
    def max_attempts(self) -> int:
        """How often it is tried at most."""
        if self.outline.retry is not None:
            return self.outline.retry.max_attempts
        return RetryPolicy().max_attempts if self.outline.on_error == "RETRY" else 1

    @property
    def is_over(self) -> bool:
        return self.status not in ("PENDING", "RUNNING", "WAITING")

    @property
    def has_output(self) -> bool:
        """It came to its end, in this run or in the one that its output was taken from."""
        return self.status == "COMPLETED" or self.skip_reason in REUSED

    @property
    def duration_ms(self) -> int | None:
        return _between(self.started_at, self.completed_at)


class Detail(msgspec.Struct, kw_only=True):
    """One run. `version` is its stream's; `tries` are in the order of the steps, those of a step in theirs. Everything
    that was asked for stays in `spec`."""

    run_id: str
    version: int
    spec: RunTriggered
    status: RunStatus = "PENDING"
    started_at: datetime | None = None
    ended: RunEnded | None = None
    cancel_requested: RunCancelRequested | None = None
    timed_out_at: datetime | None = None
    paused: RunPaused | None = None
    signals: list[SignalReceived] = []
    tries: list[Try] = []

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL

    @property
    def duration_ms(self) -> int | None:
        return _between(self.started_at, None if self.ended is None else self.ended.ended_at)

    @property
    def latest(self) -> dict[str, Try]:
        """The last try of each step, in the order of the steps."""
        return {one.step: one for one in self.tries}

    @property
    def outputs(self) -> dict[str, Any]:
        """By step: at the end those of the run, before it what there is already."""
        if self.ended is not None:
            return self.ended.outputs
        return {name: one.outputs for name, one in self.latest.items() if one.has_output}

    def status_of(self, one: Try) -> StepStatus:
        """Where a step stands by its last try: one that failed and is tried again waits for that."""
        return "WAITING" if one.next_attempt_at is not None and not self.is_over else one.status

    def count(self, *statuses: StepStatus) -> int:
        """How many steps stand like this; each counts once, by its last try."""
        return sum(self.status_of(one) in statuses for one in self.latest.values())


def _between(begin: datetime | None, end: datetime | None) -> int | None:
    return None if begin is None or end is None else round((end - begin).total_seconds() * 1000)


class _Fold:
    """A run in the making."""

    def __init__(self, run_id: str, spec: RunTriggered) -> None:
        self._outlines: Mapping[str, tuple[int, Outline]] = {
            outline.name: (order, outline) for order, outline in enumerate(spec.outlines)
        }
        self._tries: dict[str, list[Try]] = {name: [] for name in self._outlines}
        self.detail = Detail(run_id=run_id, version=1, spec=spec)

    def done(self) -> Detail:
        detail = self.detail
        detail.tries = [one for name, tries in self._tries.items() for one in tries or [self._new(name, 1)]]
        return detail

    def _new(self, step: str, attempt: int) -> Try:
        order, outline = self._outlines[step]
        return Try(step=step, order=order, outline=outline, attempt=attempt, warnings=[], child_run_ids=[])

    def _try(self, step: str, attempt: int | None = None) -> Try:
        """The try that something happened to; a new one when the last is over or is another one."""
        tries = self._tries[step]
        if tries and not tries[-1].is_over and attempt in (None, tries[-1].attempt):
            return tries[-1]
        following = tries[-1].attempt + 1 if tries else 1
        tries.append(self._new(step, following if attempt is None else max(attempt, following)))
        return tries[-1]

    def take(self, event: object) -> None:
        detail = self.detail
        match event:
            case RunCancelRequested():
                detail.cancel_requested = detail.cancel_requested or event
                # What has run out of time ends FAILED, whoever wants it cancelled then.
                detail.status = detail.status if detail.timed_out_at is not None else "CANCELLING"
                self._give_up()
            case RunTimedOut(timed_out_at=moment):
                detail.timed_out_at = moment
                self._give_up()
            case RunPaused():
                detail.paused = event
            case RunResumed():
                detail.paused = None
            case SignalReceived():
                detail.signals = [*detail.signals, event]
            case RunEnded():
                detail.status, detail.ended = event.status, event
            case _:
                self._step(event)

    def _step(self, event: object) -> None:
        match event:
            case StepStarted():
                self._started(event)
            case MapItemStarted(step=step, attempt=attempt):
                self._try(step, attempt).child_run_ids.append(event.child_run_id)
            case MapItemEnded(step=step, attempt=attempt):
                one = self._try(step, attempt)
                one.items_ended += 1
                one.items_failed += event.status != "COMPLETED"
            case StepCompleted():
                one = self._ended(event.step, event.attempt, "COMPLETED", event.completed_at)
                one.outputs, one.row_count, one.taken = event.outputs, event.row_count, event.taken
                one.warnings = list(event.warnings)
            case StepFailed():
                one = self._ended(event.step, event.attempt, "FAILED", event.failed_at)
                one.error, one.category, one.next_attempt_at = event.error, event.category, event.next_attempt_at
                stops = one.outline.on_error != "CONTINUE" and self.detail.spec.policy.on_failure != "CONTINUE"
                if event.next_attempt_at is None and stops:
                    self._give_up()
            case StepSkipped():
                one = self._try(event.step)
                one.status, one.skip_reason, one.completed_at = "SKIPPED", event.reason, event.skipped_at
                one.outputs = event.outputs
                one.taken = event.outputs.get("taken") if event.outputs else None
                self._again_no_more(event.step)
            case StepCancelled():
                one = self._try(event.step, event.attempt)
                one.status, one.completed_at = "CANCELLED", event.cancelled_at
                self._again_no_more(event.step)

    def _started(self, event: StepStarted) -> None:
        one = self._try(event.step, event.attempt)
        one.status = "WAITING" if one.outline.type == "WAIT" else "RUNNING"
        one.started_at, one.inputs = event.started_at, event.inputs
        one.execution_id, one.fetch_id = event.execution_id, event.fetch_id
        one.child_run_ids = [] if event.child_run_id is None else [event.child_run_id]
        one.wakes_at, one.times_out_at, one.signal = event.wakes_at, event.times_out_at, event.signal
        one.items_total = event.items_total
        self._begins(event.started_at)
        self._again_no_more(event.step)

    def _ended(self, step: str, attempt: int, status: StepStatus, moment: datetime) -> Try:
        one = self._try(step, attempt)
        one.status, one.completed_at = status, moment
        # Choosing takes no time: a choice may end without having started.
        one.started_at = one.started_at or moment
        self._begins(moment)
        return one

    def _begins(self, moment: datetime) -> None:
        self.detail.started_at = self.detail.started_at or moment
        if self.detail.status == "PENDING":
            self.detail.status = "RUNNING"

    def _give_up(self) -> None:
        """Nothing new starts, so what has failed and would have been tried again has failed for good."""
        for tries in self._tries.values():
            for one in tries:
                one.next_attempt_at = None

    def _again_no_more(self, step: str) -> None:
        """What failed before waits for no other try: there was one, or there will be none."""
        for one in self._tries[step][:-1]:
            one.next_attempt_at = None


def fold(recorded: Iterable[AnyRecorded]) -> Detail | None:
    """The run after these events of its stream, oldest first; None when there are none."""
    folding: _Fold | None = None
    for at in recorded:
        if isinstance(at.event, RunTriggered):
            folding = _Fold(at.entity_id, at.event)
        elif folding is not None:
            folding.take(at.event)
            folding.detail.version = at.version
    return None if folding is None else folding.done()


async def get(store: Store, run_id: str, to_position: int | None = None) -> Detail | None:
    """The run as the log has it, at `to_position` when given; None when there is none (yet)."""
    events: list[AnyRecorded] = []
    for _ in range(PAGES_MAX):
        page = await store.read_stream(f"run-{run_id}", len(events), to_position=to_position)
        events += page
        if len(page) < PAGE_MAX:
            break
    return fold(events)
