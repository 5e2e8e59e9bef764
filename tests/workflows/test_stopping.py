"""A run that is stopped: cancelled, or out of time."""

from datetime import timedelta

from given import NOW
from workflows.runs import complete, done, end, fail, start, statuses, step, triggered

from rgrid.workflows import progress
from rgrid.workflows.commands import (
    CancelRun,
    ConfirmCancelled,
    EndMapItem,
    MapItem,
    PauseRun,
    SendSignal,
    StartMapItems,
    WakeRun,
)
from rgrid.workflows.document import RetryPolicy
from rgrid.workflows.events import (
    MapItemEnded,
    RunCancelRequested,
    RunEnded,
    RunTimedOut,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
)
from rgrid.workflows.progress import Stop

CANCEL = CancelRun(requested_by="key:1", reason="enough")
FORCE = CancelRun(requested_by="key:1", forced=True)
LATE = NOW + timedelta(seconds=60)


def confirm(name: str) -> ConfirmCancelled:
    return ConfirmCancelled(step=name, attempt=1)


def test_a_run_that_has_not_begun_is_cancelled_at_once() -> None:
    run = triggered(step("a"), step("b")).when(CANCEL).then(RunCancelRequested, StepSkipped, StepSkipped, RunEnded)
    assert statuses(run) == ["cancelled", "cancelled"]
    assert end(run).status == "CANCELLED" and end(run).error is None
    assert run.when(CANCEL).then_refused("illegal_transition").extra == {"current_status": "CANCELLED"}


def test_a_run_is_cancelled_when_what_ran_has_ended() -> None:
    run = triggered(step("a"), step("b")).when(start("a", execution_id="exec_1")).after
    run = run.when(CANCEL).then(RunCancelRequested, StepSkipped)
    assert run.state.status == "CANCELLING"
    assert progress.to_stop(run.state) == [Stop(step="a", attempt=1, execution_id="exec_1")]
    run.when(CANCEL).then_nothing()
    run = run.when(confirm("a")).then(StepCancelled, RunEnded)
    assert statuses(run) == ["CANCELLED", "cancelled"] and end(run).status == "CANCELLED"


def test_patience_may_end_before_what_runs_does() -> None:
    run = triggered(step("a")).when(start("a")).after.when(CANCEL).after.when(FORCE).then(RunCancelRequested)
    assert [stop.forced for stop in progress.to_stop(run.state)] == [True]
    run.when(FORCE).then_nothing()


def test_a_wait_needs_nobody_to_stop_it() -> None:
    run = triggered(step("w", "WAIT", signal="go")).when(start("w", signal="go")).after
    run.when(CANCEL).then(RunCancelRequested, StepCancelled, RunEnded)


def test_a_step_that_ends_well_while_it_is_being_stopped_has_completed() -> None:
    run = triggered(step("a"), step("b")).when(start("a")).after.when(CANCEL).after
    run = run.when(complete("a", outputs={"n": 1})).then(StepCompleted, RunEnded)
    assert (end(run).status, end(run).outputs) == ("CANCELLED", {"a": {"n": 1}})


def test_a_step_that_fails_while_it_is_being_stopped_is_not_retried() -> None:
    run = triggered(step("a", on_error="RETRY")).when(start("a")).after.when(CANCEL).after
    run.when(fail("a", 1, "CANCELLED")).then(StepCancelled, RunEnded)
    assert statuses(run.when(fail("a", 1, "TRANSIENT")).then(StepFailed, RunEnded)) == ["FAILED"]


def test_a_retry_that_waits_is_given_up_by_a_cancel() -> None:
    run = triggered(step("a", on_error="RETRY")).when(start("a")).after.when(fail("a", 1, "TRANSIENT")).after
    run = run.when(CANCEL).then(RunCancelRequested, RunEnded)
    assert statuses(run) == ["FAILED"] and end(run).status == "CANCELLED"


def test_nothing_is_confirmed_of_a_run_that_is_not_being_stopped() -> None:
    triggered(step("a")).when(start("a")).after.when(confirm("a")).then_nothing()


def test_a_run_that_is_being_cancelled_takes_neither_signals_nor_pauses() -> None:
    run = triggered(step("a"), step("w", "WAIT", signal="go")).when(start("a")).after.when(CANCEL).after
    run.when(SendSignal(name="go", payload={}, sent_by="key:1")).then_refused("CANCELLING")
    run.when(PauseRun(paused_by="key:1")).then_refused("CANCELLING")


def test_a_paused_run_is_cancelled() -> None:
    run = triggered(step("a")).when(PauseRun(paused_by="key:1")).after
    assert end(run.when(CANCEL).after).status == "CANCELLED"


def test_a_step_that_takes_too_long_fails() -> None:
    run = triggered(step("a", timeout_seconds=60)).when(start("a", execution_id="exec_1")).after
    wake = WakeRun(kind="step_timeout", step="a", attempt=1)
    run.when(wake, LATE - timedelta(milliseconds=1)).then_nothing()
    run = run.when(wake, LATE).then(StepFailed, RunEnded)
    assert (end(run).error, end(run).error_category) == ("The step took longer than 60 s.", "TIMEOUT")
    run.when(wake, LATE).then_nothing()


def test_what_a_try_that_took_too_long_began_is_known_after_the_next_one_began() -> None:
    retry = RetryPolicy(initial_seconds=0)
    run = triggered(step("a", timeout_seconds=60, retry=retry)).when(start("a", execution_id="exec_1")).after
    run = run.when(WakeRun(kind="step_timeout", step="a", attempt=1), LATE).after
    run = run.when(start("a", 2, execution_id="exec_2")).then(StepStarted)
    assert progress.stop(run.state, "a", 1).execution_id == "exec_1"
    run.when(complete("a", 1)).then_nothing()


def test_a_run_that_takes_too_long_fails_with_all_that_runs() -> None:
    outlines = [step("a", on_error="RETRY"), step("w", "WAIT", signal="go"), step("z", depends_on=["a"])]
    run = triggered(*outlines, mode="PARALLEL", timeout_seconds=60).when(start("a")).after
    run = run.when(start("w", signal="go")).after
    wake = WakeRun(kind="run_timeout")
    run.when(wake).then_nothing()
    run = run.when(wake, LATE).then(RunTimedOut, StepFailed, StepSkipped)
    run.when(wake, LATE).then_nothing()
    assert [stop.step for stop in progress.to_stop(run.state)] == ["a"]
    run = run.when(confirm("a")).then(StepFailed, RunEnded)
    assert statuses(run) == ["FAILED", "FAILED", "upstream_failed"]
    assert (end(run).status, end(run).error, end(run).error_category) == (
        "FAILED", "The run took longer than 60 s.", "TIMEOUT",
    )  # fmt: skip


def test_a_run_whose_time_is_over_before_anything_ran_fails() -> None:
    run = triggered(step("a"), timeout_seconds=60).when(WakeRun(kind="run_timeout"), LATE).after
    assert end(run).status == "FAILED" and statuses(run) == ["upstream_failed"]


def test_a_cancel_of_a_run_whose_time_is_over_leaves_it_failed() -> None:
    run = triggered(step("a"), timeout_seconds=60).when(start("a")).after
    run = run.when(WakeRun(kind="run_timeout"), LATE).after
    run.when(CANCEL).then_nothing()
    run = run.when(FORCE).then(RunCancelRequested).when(confirm("a")).then(StepFailed, RunEnded)
    assert end(run).status == "FAILED"


def test_a_map_whose_children_have_ended_is_stopped() -> None:
    run = triggered(step("m", "MAP", items="x"), timeout_seconds=60).when(start("m", items_total=3)).after
    run = run.when(StartMapItems(step="m", attempt=1, items=[MapItem(index=0, child_run_id="run_0")])).after
    run = run.when(WakeRun(kind="run_timeout"), LATE).then(RunTimedOut)
    run.when(confirm("m")).then_nothing()
    end_item = EndMapItem(step="m", attempt=1, index=0, child_run_id="run_0", status="CANCELLED")
    run.when(end_item).then(MapItemEnded, StepFailed, RunEnded)


def test_a_run_that_completed_is_not_cancelled() -> None:
    done(triggered(step("a")), "a").when(CANCEL).then_refused("illegal_transition")
