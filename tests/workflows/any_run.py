"""Runs of any shape that come about in any order: definitions to draw, and a world in which their steps happen."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from given import NOW
from hypothesis import strategies as st
from workflows.runs import RUN_ID, complete, fail, start, trigger

from rgrid.kernel.messages import Command, Event
from rgrid.workflows import progress
from rgrid.workflows.commands import (
    CancelRun,
    ConfirmCancelled,
    EndMapItem,
    MapItem,
    PauseRun,
    ResumeRun,
    ReuseStep,
    SendSignal,
    StartMapItems,
    StartStep,
    TriggerRun,
    WakeRun,
)
from rgrid.workflows.document import Outline, RetryPolicy
from rgrid.workflows.run import DECIDER
from rgrid.workflows.run_state import Run

STEPS_MAX = 7
COMMANDS_MAX = 500
Choose = Callable[[Sequence[Command]], Command]
Outcome = Callable[[str, int, int | None], bool]
"""Whether a try of a step, or an item of it, works; of a choice, what its condition comes to."""


@st.composite
def definitions(draw: st.DrawFn, **policy: Any) -> TriggerRun:
    """A definition that validation lets pass, and the wish to run it."""
    size = draw(st.integers(1, STEPS_MAX))
    names = [f"s{index}" for index in range(size)]
    unclaimed = set(names[1:])
    outlines = []
    for index, name in enumerate(names):
        kind = draw(st.sampled_from(["HANDLER", "EXECUTION", "CHOICE", "CHOICE", "WAIT", "MAP"]))
        later = sorted(unclaimed & set(names[index + 1 :]))
        own: dict[str, Any] = {}
        if kind == "CHOICE" and later:
            targets = draw(st.lists(st.sampled_from(later), min_size=1, max_size=2, unique=True))
            unclaimed -= set(targets)
            own = {"condition": "x", "then_step": targets[0], "else_step": targets[1] if len(targets) > 1 else None}
        elif kind == "CHOICE":
            kind = "HANDLER"
        if kind == "WAIT":
            own = draw(st.sampled_from([{"duration_seconds": 9}, {"signal": "go"}]))
        if kind == "MAP":
            own = {"items": "x", "max_concurrency": draw(st.integers(1, 2))}
        earlier = st.lists(st.sampled_from(names[:index]), unique=True) if index else st.just([])
        outlines.append(
            Outline(
                name=name,
                type=kind,
                depends_on=draw(st.none() | earlier),
                on_error=draw(st.sampled_from(["STOP", "CONTINUE", "RETRY"])),
                retry=draw(st.none() | st.builds(RetryPolicy, max_attempts=st.integers(1, 3))),
                **own,
            )
        )
    return trigger(
        *outlines,
        mode=draw(st.sampled_from(["SEQUENTIAL", "PARALLEL"])),
        on_failure=policy.get("on_failure") or draw(st.sampled_from(["STOP", "CONTINUE"])),
        max_concurrency=draw(st.integers(1, 3)),
        timeout_seconds=60,
    )


def steps_taken(run: Run, works: Outcome) -> list[Command]:
    """What the world may do next, when tries come out as they do. Each of these leads to an event."""
    found: list[Command] = []
    for one in progress.ready(run):
        found += _beginning(run, one.step, one.attempt, works)
    for name, step in run.steps.items():
        if step.is_retried and not step.woken and not run.is_halted:
            found.append(WakeRun(kind="retry", step=name, attempt=step.attempt))
        if step.is_in_flight and not run.is_stopping:
            found += _going_on(run, name, step.attempt, works)
    for stop in progress.to_stop(run):
        items = enumerate(run.steps[stop.step].items)
        ends = [_item_ended(stop.step, stop.attempt, index, "CANCELLED") for index, item in items if not item.status]
        found += ends or [ConfirmCancelled(step=stop.step, attempt=stop.attempt)]
    return found


def interventions(run: Run) -> list[Command]:
    """What somebody outside may do, or time."""
    if run.is_ended:
        return []
    found: list[Command] = [CancelRun(requested_by="key:1"), CancelRun(requested_by="key:1", forced=True)]
    found += [WakeRun(kind="run_timeout"), ResumeRun(resumed_by="key:1")]
    if not run.is_stopping:
        found += [PauseRun(paused_by="key:1"), SendSignal(name="go", payload={}, sent_by="key:1")]
    found += [ReuseStep(step=one.step, outputs={}) for one in progress.ready(run)]
    return [one for one in found if not isinstance(one, SendSignal) or _is_waited_for(run)]


def _is_waited_for(run: Run) -> bool:
    return any(outline.signal == "go" for outline in run.plan.outlines.values())


def _beginning(run: Run, name: str, attempt: int, works: Outcome) -> list[Command]:
    outline = run.outline(name)
    match outline.type:
        case "CHOICE":
            if works(name, attempt, 0) or works(name, attempt, 1):
                return [complete(name, attempt, chosen=works(name, attempt, None))]
            return [fail(name, attempt, "CONFIGURATION")]
        case "WAIT" if outline.signal:
            return [start(name, attempt, signal=outline.signal)]
        case "WAIT":
            return [start(name, attempt, wakes_at=NOW)]
        case "MAP":
            return [start(name, attempt, items_total=int(name[1:]) % 4)]
        case _:
            return [start(name, attempt)]


def _going_on(run: Run, name: str, attempt: int, works: Outcome) -> list[Command]:
    outline, step = run.outline(name), run.steps[name]
    if outline.type == "WAIT":
        waited: Command = WakeRun(kind="wait", step=name, attempt=attempt)
        return [SendSignal(name="go", payload={}, sent_by="key:1")] if outline.signal else [waited]
    if outline.type == "MAP":
        items = [MapItem(index=index, child_run_id=f"run_{index}") for index in progress.free_items(run, name)]
        found: list[Command] = [StartMapItems(step=name, attempt=attempt, items=items)] if items else []
        for index, item in enumerate(step.items):
            if item.status is None:
                status = "COMPLETED" if works(name, attempt, index) else "FAILED"
                found.append(_item_ended(name, attempt, index, status))
        return found
    if works(name, attempt, None):
        return [complete(name, attempt, outputs={"attempt": attempt})]
    return [fail(name, attempt, "TRANSIENT" if attempt == 1 else "TIMEOUT")]


def _item_ended(name: str, attempt: int, index: int, status: Any) -> Command:
    return EndMapItem(step=name, attempt=attempt, index=index, child_run_id=f"run_{index}", status=status)


class Life:
    """A run from its beginning on. `appends` are the events of each command, which are stored together."""

    def __init__(self, wish: TriggerRun) -> None:
        assert wish.run_id == RUN_ID
        self.run = DECIDER.initial
        self.appends: list[Sequence[Event]] = []
        self.tell(wish)

    @property
    def now(self) -> datetime:
        """An hour goes by with each append, so that whatever waits for a time is due with the next one."""
        return NOW + timedelta(hours=len(self.appends))

    def tell(self, command: Command) -> Sequence[Event]:
        """What follows from a command; nothing that is asked for is refused here."""
        if isinstance(command, StartStep) and command.wakes_at:
            command = msgspec.structs.replace(command, wakes_at=self.now + timedelta(seconds=9))
        events = DECIDER.decide(command, self.run, self.now)  # type: ignore[arg-type]
        if events:
            self.appends.append(events)
            self.run = DECIDER.fold(self.run, events)
        return events

    @property
    def events(self) -> list[Event]:
        return [event for append in self.appends for event in append]

    def to_its_end(self, works: Outcome, choose: Choose) -> "Life":
        """Whatever may happen happens, until nothing more can."""
        for _ in range(COMMANDS_MAX):
            possible = steps_taken(self.run, works)
            if not possible and not self.run.is_paused:
                return self
            command = choose(possible) if possible else ResumeRun(resumed_by="key:1")
            assert self.tell(command), f"{command} led to nothing"
        raise AssertionError("the run has no end")
