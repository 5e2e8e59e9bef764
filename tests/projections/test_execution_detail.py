"""One execution folded from its events: figures, attempts, and every stage that a follower is told."""

from lives import COMPLETED, HAPPY, at, claimed, ended, queued, stored, submitted, verified, waiting

from projections import execution_detail
from rgrid.executions.events import CancelRequested, ExecutionCancelled, ExecutionFailed, StaleResultRefused
from rgrid.kernel.messages import Event


def folded(*events: Event) -> execution_detail.Detail:
    detail = execution_detail.fold("e1", events, len(events))  # type: ignore[arg-type]
    assert detail is not None
    return detail


def test_no_events_are_no_execution() -> None:
    assert execution_detail.fold("e1", [], 0) is None


def test_a_whole_life_adds_up() -> None:
    detail = folded(waiting("a"), verified("a"), *HAPPY[1:3], stored("x.txt"), *HAPPY[3:])
    assert (detail.status, detail.exit_code, detail.version) == ("completed", 0, 7)
    assert ([file.name for file in detail.verified], [one.filename for one in detail.artifacts]) == (["a"], ["x.txt"])
    assert (detail.cost_micros, detail.finalized_cost_micros) == (2, 2)
    assert (detail.queued_at, detail.started_at, detail.completed_at) == (at(1), at(2), at(3))


def test_a_lost_attempt_stays_beside_the_one_that_worked() -> None:
    lost = ended(3, 1, "lost", "worker_lost", error="gone")
    detail = folded(submitted(), queued(), claimed(), lost, queued(3, 2), claimed(5, 2), ended(6, 2), COMPLETED)
    assert [(one.attempt, one.status, one.error) for one in detail.attempts] == [
        (1, "lost", "gone"), (2, "completed", None),
    ]  # fmt: skip
    assert (detail.retry_count, detail.failure_reason, detail.error) == (1, None, None)


def test_a_refused_late_result_changes_nothing_but_the_version() -> None:
    stale = StaleResultRefused(fencing_token=1, end="completed", refused_at=at(9))
    before, after = folded(*HAPPY), folded(*HAPPY, stale)
    assert (after.version, before.version) == (6, 5)
    assert (after.status, after.attempts, after.completed_at) == (before.status, before.attempts, before.completed_at)


def test_a_cancel_names_its_reason_and_a_failure_its_error() -> None:
    asked = CancelRequested(requested_by="key:k", reason="why not", requested_at=at(2))
    gone = ExecutionCancelled(cancelled_by="key:k", reason="why not", finalized_cost_micros=0, completed_at=at(3))
    detail = folded(submitted(), queued(), claimed(), asked, ended(3, 1, "cancelled", "cancelled"), gone)
    assert (detail.status, detail.failure_reason, detail.cancel_requested_at) == ("cancelled", "cancelled", at(2))
    failed = ExecutionFailed(
        failure_reason="exit_code", exit_code=9, error="bad", finalized_cost_micros=0, completed_at=at(3)
    )
    detail = folded(submitted(), queued(), claimed(), failed)
    assert (detail.status, detail.exit_code, detail.error) == ("failed", 9, "bad")


def test_each_status_and_attempt_is_one_stage() -> None:
    lost = ended(3, 1, "lost", "worker_lost")
    life = [waiting("a"), verified("a"), queued(), claimed(), lost, queued(3, 2), claimed(5, 2), ended(6, 2), COMPLETED]
    stages = execution_detail.stages("e1", life, len(life))
    assert [(stage.status, len(stage.attempts)) for stage in stages] == [
        ("awaiting_inputs", 0), ("queued", 0), ("running", 1), ("queued", 1), ("running", 2), ("completed", 2),
    ]  # fmt: skip
    assert execution_detail.stages("e1", [], 0) == []
