"""What holds for every run, whatever its shape, the order of events and their outcome, and wherever it is cut."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from workflows.any_run import Life, definitions, interventions, steps_taken

from rgrid.kernel.messages import Command, Event
from rgrid.workflows.commands import TriggerRun
from rgrid.workflows.events import (
    RunEnded,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
)
from rgrid.workflows.retrying import retried
from rgrid.workflows.run import DECIDER
from rgrid.workflows.run_state import Run

RANDOM = st.randoms(use_true_random=True)  # the other kind mostly draws what is simple


def drawn_once(random: Any) -> Callable[[str, int, int | None], bool]:
    """Outcomes that are the same whenever they are asked for."""
    known: dict[tuple[str, int, int | None], bool] = {}
    return lambda *what: known.setdefault(what, random.random() < 0.6)


def lived(wish: TriggerRun, random: Any, meddling: float = 0) -> Life:
    """A run to its end, looked at after each command."""
    life, works = Life(wish), drawn_once(random)
    for _ in range(500):
        check_now(life.run)
        possible = steps_taken(life.run, works)
        meddled = interventions(life.run)
        if meddled and (not possible or random.random() < meddling):
            life.tell(random.choice(meddled))
        elif possible:
            assert life.tell(random.choice(possible)), "what may happen next leads to something"
        else:
            return life
    raise AssertionError("the run has no end")


def check_now(run: Run) -> None:
    """What holds at any moment."""
    running = [name for name, step in run.steps.items() if step.status == "RUNNING"]
    choices = [name for name in running if run.outline(name).type == "CHOICE"]
    assert len(running) - len(choices) <= run.plan.policy.max_concurrency
    for name in running:
        assert run.steps[name].items.running <= run.outline(name).max_concurrency
    for name, step in run.steps.items():
        if step.attempt:
            assert all(run.steps[edge.source].is_over for edge in run.plan.waits_for[name]), f"{name} began too early"
    assert run.is_ended == (bool(run.steps) and all(step.is_over for step in run.steps.values()))


def check_ended(life: Life) -> None:
    """What holds of a run that ended."""
    run, events = life.run, life.events
    assert isinstance(events[-1], RunEnded) and sum(isinstance(event, RunEnded) for event in events) == 1
    ends = (StepCompleted, StepFailed, StepCancelled)
    begun = Counter((event.step, event.attempt) for event in events if isinstance(event, StepStarted))
    ended = Counter((event.step, event.attempt) for event in events if isinstance(event, ends))
    skipped = Counter(event.step for event in events if isinstance(event, StepSkipped))
    assert begun == ended and set(begun.values()) <= {1} and set(skipped.values()) <= {1}
    assert {step for step, _ in begun} | set(skipped) == set(run.steps)
    assert not {step for step, _ in begun} & set(skipped)
    check_choices(run, {step for step, _ in begun})
    count = Counter(step.status for step in run.steps.values())
    if run.status == "CANCELLED":
        return
    assert count["COMPLETED"] + count["FAILED"] + count["SKIPPED"] == len(run.steps)
    failed = [name for name, step in run.steps.items() if step.status == "FAILED"]
    if run.is_timed_out or any(run.outline(name).on_error != "CONTINUE" for name in failed):
        assert run.status == "FAILED"
    else:
        assert run.status == ("PARTIAL" if failed else "COMPLETED")


def check_choices(run: Run, begun: set[str]) -> None:
    """No target runs that was not chosen, and never both."""
    for outline in run.plan.outlines.values():
        if outline.type == "CHOICE":
            targets = {outline.then_step, outline.else_step} & begun
            assert targets <= {run.steps[outline.name].taken}


@settings(max_examples=150, deadline=None)
@given(definitions(), RANDOM)
def test_a_run_ends_whatever_happens_in_it(wish: TriggerRun, random: Any) -> None:
    check_ended(lived(wish, random))


@settings(max_examples=150, deadline=None)
@given(definitions(), RANDOM)
def test_a_run_ends_whatever_is_done_to_it(wish: TriggerRun, random: Any) -> None:
    check_ended(lived(wish, random, meddling=0.15))


@settings(max_examples=60, deadline=None)
@given(definitions(on_failure="CONTINUE"), RANDOM, RANDOM)
def test_what_a_run_comes_to_does_not_depend_on_the_order_of_events(wish: TriggerRun, one: Any, other: Any) -> None:
    works = drawn_once(one)
    first = Life(wish).to_its_end(works, one.choice)
    second = Life(wish).to_its_end(works, other.choice)
    assert summary(first.run) == summary(second.run)


def summary(run: Run) -> list[Any]:
    return [run.status, *((step.status, step.skip_reason, step.outputs, step.attempt) for step in run.steps.values())]


@settings(max_examples=40, deadline=None)
@given(definitions(), RANDOM)
def test_a_crash_between_any_two_appends_changes_nothing(wish: TriggerRun, random: Any) -> None:
    works = drawn_once(random)
    whole = Life(wish).to_its_end(works, first)
    for cut in range(1, len(whole.appends)):
        resumed = Life(wish)
        resumed.appends = list(whole.appends[:cut])
        resumed.run = DECIDER.fold(DECIDER.initial, resumed.events)  # type: ignore[arg-type]
        assert resumed.to_its_end(works, first).appends == whole.appends


@settings(max_examples=40, deadline=None)
@given(definitions(), RANDOM)
def test_a_run_goes_on_from_a_snapshot_as_from_its_events(wish: TriggerRun, random: Any) -> None:
    works = drawn_once(random)
    whole = Life(wish).to_its_end(works, first)
    resumed = Life(wish)
    resumed.appends = list(whole.appends[: random.randint(1, len(whole.appends))])
    folded = DECIDER.fold(DECIDER.initial, resumed.events)  # type: ignore[arg-type]
    resumed.run = msgspec.json.decode(msgspec.json.encode(folded), type=Run)
    assert resumed.to_its_end(works, first).appends == whole.appends


@settings(max_examples=100, deadline=None)
@given(definitions(), RANDOM)
def test_a_retry_of_any_run_ends_and_runs_nothing_again_that_it_took_over(wish: TriggerRun, random: Any) -> None:
    earlier = lived(wish, random, meddling=0.05).run
    must_name = earlier.status == "COMPLETED" or random.random() < 0.5
    retry = retried(earlier, random.choice(earlier.plan.order) if must_name else None)
    restored = dict(retry.restored)
    again = msgspec.structs.replace(wish, trigger="RETRY", restored=restored, from_step=retry.from_step)
    life = lived(again, random)
    check_ended(life)
    begun = {event.step for event in life.events if isinstance(event, StepStarted)}
    assert begun <= set(retry.again) and not begun & set(restored)
    assert {name: life.run.steps[name].outputs for name in restored} == restored


def first(possible: Any) -> Command:
    return possible[0]  # type: ignore[no-any-return]


@settings(max_examples=60, deadline=None)
@given(definitions(), RANDOM)
def test_a_command_that_comes_twice_counts_once(wish: TriggerRun, random: Any) -> None:
    life, works = Life(wish), drawn_once(random)
    assert life.tell(wish) == []
    while possible := steps_taken(life.run, works):
        command = random.choice(possible)
        assert life.tell(command)
        if type(command).__name__ != "SendSignal":
            assert twice(life, command) == []


def twice(life: Life, command: Command) -> list[Event]:
    return list(DECIDER.decide(command, life.run, life.now))  # type: ignore[arg-type]
