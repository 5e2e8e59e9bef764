"""A run that waits: for a time, for a signal, until it may go on after a pause."""

from datetime import timedelta

from given import NOW, Given
from workflows.runs import complete, done, end, start, statuses, step, triggered

from rgrid.workflows import progress
from rgrid.workflows.commands import PauseRun, ResumeRun, SendSignal, WakeRun
from rgrid.workflows.events import (
    RunEnded,
    RunPaused,
    RunResumed,
    SignalReceived,
    StepCompleted,
    StepFailed,
    StepStarted,
)
from rgrid.workflows.run import SIGNALS_MAX

LATER = NOW + timedelta(minutes=5)
APPROVAL = SendSignal(name="approved", payload={"by": "ann"}, sent_by="key:2")
APPROVED = {"signal": "approved", "payload": {"by": "ann"}, "sent_by": "key:2"}


def wake(name: str = "w") -> WakeRun:
    return WakeRun(kind="wait", step=name, attempt=1)


def waiting() -> Given:
    """A run that waits for an approval, five minutes at most."""
    run = triggered(step("w", "WAIT", signal="approved"), step("z"))
    return run.when(start("w", signal="approved", wakes_at=LATER)).then(StepStarted)


def test_a_wait_ends_at_its_time_and_not_before() -> None:
    run = (
        triggered(step("w", "WAIT", duration_seconds=300), step("z")).when(start("w", wakes_at=LATER)).then(StepStarted)
    )
    assert statuses(run) == ["WAITING", "PENDING"]
    run.when(wake(), LATER - timedelta(microseconds=1)).then_nothing()
    run = run.when(wake(), LATER).then(StepCompleted)
    run.when(wake(), LATER).then_nothing()
    assert end(done(run, "z")).outputs["w"] == {}


def test_a_wait_for_a_time_that_has_come_is_over_at_once() -> None:
    run = triggered(step("w", "WAIT", until="x"), step("z"))
    run.when(start("w", wakes_at=NOW)).then(StepStarted, StepCompleted)


def test_a_wait_holds_no_place() -> None:
    run = triggered(step("w", "WAIT", duration_seconds=9), step("a"), mode="PARALLEL", max_concurrency=1)
    run = run.when(start("w", wakes_at=LATER)).after.when(start("a")).then(StepStarted)
    assert statuses(run) == ["WAITING", "RUNNING"]


def test_a_signal_ends_the_wait_for_it() -> None:
    run = waiting().when(APPROVAL).then(SignalReceived, StepCompleted)
    assert run.state.steps["w"].outputs == APPROVED
    assert run.state.signals == ()


def test_a_wait_for_a_signal_says_when_none_came() -> None:
    run = waiting().when(wake(), LATER).then(StepCompleted)
    assert run.state.steps["w"].outputs == {"signal": None, "payload": {}, "sent_by": None}


def test_a_signal_may_come_before_anything_waits_for_it() -> None:
    run = triggered(step("a"), step("w", "WAIT", signal="approved")).when(APPROVAL).then(SignalReceived)
    run = done(run, "a").when(start("w", signal="approved")).then(StepStarted, StepCompleted, RunEnded)
    assert end(run).outputs["w"] == APPROVED


def test_an_early_signal_is_used_up_by_the_first_wait_for_it() -> None:
    run = triggered(step("v", "WAIT", signal="approved"), step("w", "WAIT", signal="approved")).when(APPROVAL).after
    run = run.when(start("v", signal="approved")).then(StepStarted, StepCompleted)
    run = run.when(start("w", signal="approved")).then(StepStarted)
    run.when(APPROVAL).then(SignalReceived, StepCompleted, RunEnded)


def test_a_signal_ends_all_waits_for_it_that_have_begun() -> None:
    run = triggered(step("v", "WAIT", signal="approved"), step("w", "WAIT", signal="approved"), mode="PARALLEL")
    run = run.when(start("v", signal="approved")).after.when(start("w", signal="approved")).after
    run.when(APPROVAL).then(SignalReceived, StepCompleted, StepCompleted, RunEnded)


def test_a_signal_that_nothing_will_ever_wait_for_is_refused() -> None:
    waiting().when(SendSignal(name="aproved", payload={}, sent_by="key:2")).then_refused("unknown_signal")
    large = SendSignal(name="approved", payload={"x": "x" * 200_000}, sent_by="key:2")
    waiting().when(large).then_refused("payload_too_large")
    ended = done(waiting().when(APPROVAL).after, "z")
    ended.when(APPROVAL).then_refused("illegal_transition")


def test_only_so_many_signals_wait_to_be_waited_for() -> None:
    run = triggered(step("a"), step("w", "WAIT", signal="approved"))
    for _ in range(SIGNALS_MAX):
        run = run.when(APPROVAL).then(SignalReceived)
    run.when(APPROVAL).then_refused("too_many_signals")


def test_a_wait_may_time_out() -> None:
    run = triggered(step("w", "WAIT", signal="approved", timeout_seconds=60)).when(start("w", signal="approved")).after
    due = NOW + timedelta(seconds=60)
    run = run.when(WakeRun(kind="step_timeout", step="w", attempt=1), due).then(StepFailed, RunEnded)
    assert end(run).error_category == "TIMEOUT"


def test_nothing_starts_in_a_pause_and_what_runs_goes_on() -> None:
    pause = PauseRun(paused_by="key:1", note="lunch")
    run = triggered(step("a"), step("b")).when(start("a")).after.when(pause).then(RunPaused)
    run.when(pause).then_nothing()
    run = run.when(complete("a")).then(StepCompleted)
    assert progress.ready(run.state) == []
    run.when(start("b")).then_nothing()
    resume = ResumeRun(resumed_by="key:1")
    run = run.when(resume).then(RunResumed)
    run.when(resume).then_nothing()
    assert end(done(run, "b")).status == "COMPLETED"


def test_a_run_that_ended_is_not_paused() -> None:
    ended = done(triggered(step("a")), "a")
    assert ended.when(PauseRun(paused_by="key:1")).then_refused("illegal_transition").extra == {
        "current_status": "COMPLETED"
    }
    ended.when(ResumeRun(resumed_by="key:1")).then_refused("illegal_transition")


def test_a_wait_goes_on_in_a_pause() -> None:
    run = waiting().when(PauseRun(paused_by="key:1")).after
    run.when(wake(), LATER).then(StepCompleted)
