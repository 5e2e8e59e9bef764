"""A retry: what runs again, what is taken over, and what that is likely to take."""

import pytest
from given import Given
from workflows.runs import choice, complete, done, end, fail, start, statuses, step, triggered

from rgrid.kernel.errors import Invalid, Rejected
from rgrid.workflows.commands import CancelRun, ConfirmCancelled
from rgrid.workflows.document import Outline, Policy
from rgrid.workflows.plan import plan_of
from rgrid.workflows.retrying import Expected, Retry, Spent, expected, retried

CANCEL = CancelRun(requested_by="key:1")
LIST = [step("a"), step("b"), step("c")]


def failed(*outlines: Outline) -> Given:
    """A run whose second step failed."""
    return done(triggered(*outlines), "a", outputs={"n": 1}).when(start("b")).after.when(fail("b")).after


def test_a_retry_starts_at_the_step_that_failed() -> None:
    assert retried(failed(*LIST).state) == Retry(from_step="b", restored={"a": {"n": 1}}, again=["b", "c"])


def test_a_retry_runs_as_the_run_should_have() -> None:
    retry = retried(failed(*LIST).state)
    run = triggered(*LIST, trigger="RETRY", restored=retry.restored, from_step=retry.from_step)
    run = done(run, "b", "c")
    assert statuses(run) == ["restored", "COMPLETED", "COMPLETED"] and end(run).status == "COMPLETED"


def test_a_retry_may_start_at_any_step() -> None:
    run = done(triggered(*LIST), "a", "b", "c").state
    assert retried(run, "c").again == ["c"]
    assert retried(run, "a").restored == {}
    with pytest.raises(Invalid) as refused:
        retried(run, "d")
    assert refused.value.code == "unknown_step"


def test_what_does_not_come_after_the_step_is_kept() -> None:
    outlines = [step("a"), step("b"), step("c", depends_on=["a"]), step("d", depends_on=["b"])]
    run = triggered(*outlines, mode="PARALLEL").when(start("b")).after
    run = done(run, "a", "c").when(fail("b")).after
    assert retried(run.state).again == ["b", "d"]


def test_what_had_not_completed_runs_again_wherever_it_stands() -> None:
    run = triggered(step("a", on_error="CONTINUE"), step("b")).when(start("a")).after.when(fail("a")).after
    run = done(run, "b")
    assert retried(run.state, "b") == Retry(from_step="b", restored={}, again=["a", "b"])


def test_a_retry_of_a_cancelled_run_starts_at_what_was_cancelled_or_never_ran() -> None:
    run = triggered(*LIST).when(CANCEL).after
    assert retried(run.state).from_step == "a"
    run = done(triggered(*LIST), "a").when(CANCEL).after
    assert retried(run.state).from_step == "b"
    run = done(triggered(*LIST), "a", "b").when(start("c")).after.when(CANCEL).after
    run = run.when(ConfirmCancelled(step="c", attempt=1)).after
    assert retried(run.state) == Retry(from_step="c", restored={"a": {}, "b": {}}, again=["c"])


def test_a_retry_of_a_retry_takes_over_what_was_restored() -> None:
    run = triggered(*LIST, restored={"a": {"n": 1}}).when(start("b")).after.when(fail("b")).after
    assert retried(run.state).restored == {"a": {"n": 1}}


def test_a_retry_after_a_branch_takes_over_the_choice() -> None:
    outlines = [choice("c", "x", "y"), step("x"), step("y"), step("z")]
    run = done(triggered(*outlines).when(complete("c", chosen=True)).after, "x").when(start("z")).after
    retry = retried(run.when(fail("z")).after.state)
    assert statuses(triggered(*outlines, restored=retry.restored)) == [
        "restored", "restored", "branch_not_taken", "PENDING",
    ]  # fmt: skip


def test_only_an_ended_run_is_retried_and_a_completed_one_from_a_named_step() -> None:
    for run in (triggered(*LIST), triggered(*LIST).when(start("a")).after, done(triggered(*LIST), "a", "b", "c")):
        with pytest.raises(Rejected) as refused:
            retried(run.state)
        assert refused.value.extra == {"current_status": run.state.status}
    with pytest.raises(Rejected):
        retried(triggered(*LIST, dry_run=True).state, "a")


def test_what_a_retry_takes_follows_from_what_its_steps_took() -> None:
    spent = {name: Spent(duration_ms=100, cost_micros=7) for name in "abc"}
    assert expected(plan_of(LIST, Policy()), ["b", "c"], spent) == Expected(duration_ms=200, cost_micros=14, unknown=[])
    parallel = plan_of([*LIST, step("d", depends_on=["a"])], Policy(mode="PARALLEL", max_concurrency=2))
    assert expected(parallel, ["a", "b", "c", "d"], spent) == Expected(duration_ms=200, cost_micros=21, unknown=["d"])
    assert expected(parallel, [], spent) == Expected(duration_ms=0, cost_micros=0, unknown=[])
