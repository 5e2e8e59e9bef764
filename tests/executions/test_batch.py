"""The batch aggregate: what holds for all executions of a batch."""

import pytest
from given import NOW, Given, given

from rgrid.executions.batch import DECIDER
from rgrid.executions.batch_events import (
    BatchCancelRequested,
    BatchCreated,
    BatchEnded,
    BatchFailedFast,
    BatchFailureCounted,
    BatchRetried,
    RetriedItem,
)
from rgrid.executions.commands import CancelBatch, CountFailure, CreateBatch, EndBatch, RetryBatch

CREATE = CreateBatch(name="n", total=3, max_parallel=2, user_metadata={"a": "b"}, created_by="key:1")
CREATED = BatchCreated(
    name="n", total=3, max_parallel=2, user_metadata={"a": "b"}, created_by="key:1", created_at=NOW
)  # fmt: skip
CANCEL = CancelBatch(requested_by="key:2", reason="enough")
CANCELLED = BatchCancelRequested(requested_by="key:2", reason="enough", requested_at=NOW)


def batch(**limits: object) -> Given:
    return given(DECIDER, BatchCreated(total=9, created_by="key:1", created_at=NOW, **limits))  # type: ignore[arg-type]


def item(original: str, new: str) -> RetriedItem:
    return RetriedItem(original_execution_id=original, execution_id=new, index=0)


def retry(*items: RetriedItem, again: bool = False) -> RetryBatch:
    return RetryBatch(items=list(items), requested_by="key:3", again=again)


def retried(*items: RetriedItem) -> BatchRetried:
    return BatchRetried(items=list(items), requested_by="key:3", retried_at=NOW)


def test_a_batch_is_made_once() -> None:
    given(DECIDER).when(CREATE).then(CREATED).when(CREATE).then_nothing()


def test_a_batch_that_is_being_stopped_is_not_cancelled_again() -> None:
    batch().when(CANCEL).then(CANCELLED).when(CANCEL).then_nothing()


def test_an_open_batch_can_be_cancelled_whenever_something_was_added() -> None:
    open_batch = given(DECIDER).when(CANCEL).then(CANCELLED)
    open_batch.when(CANCEL).then(CANCELLED)
    assert not open_batch.state.is_closed


def test_the_first_failure_stops_a_batch_that_fails_fast() -> None:
    stopped = (
        batch(fail_fast=True)
        .when(CountFailure(execution_id="e1"))
        .then(BatchFailedFast(execution_id="e1", failures=1, failed_at=NOW))
    )
    stopped.when(CountFailure(execution_id="e2")).then_nothing()
    stopped.when(CANCEL).then_nothing()


def test_failures_are_counted_up_to_their_limit_each_once() -> None:
    first = CountFailure(execution_id="e1")
    counted = batch(failures_max=2).when(first).then(BatchFailureCounted(execution_id="e1", counted_at=NOW))
    counted.when(first).then_nothing()
    counted.when(CountFailure(execution_id="e2")).then(BatchFailedFast(execution_id="e2", failures=2, failed_at=NOW))


@pytest.mark.parametrize("before", [batch(), given(DECIDER)], ids=["no limit", "open"])
def test_without_a_limit_failures_are_not_counted(before: Given) -> None:
    before.when(CountFailure(execution_id="e1")).then_nothing()


def test_a_retry_begins_the_count_anew() -> None:
    stopped = batch(failures_max=2).when(CountFailure(execution_id="e1")).then(BatchFailureCounted)
    stopped = stopped.when(CountFailure(execution_id="e2")).then(BatchFailedFast)
    again = stopped.when(retry(item("e1", "n1"), item("e2", "n2"))).then(retried(item("e1", "n1"), item("e2", "n2")))
    # Told late, and about an execution whose place is taken.
    again.when(CountFailure(execution_id="e1")).then_nothing()
    again.when(CountFailure(execution_id="n1")).then(BatchFailureCounted)
    again.when(CANCEL).then(CANCELLED)


def test_two_retries_at_once_run_nothing_twice() -> None:
    once = batch().when(retry(item("e1", "n1"))).then(retried(item("e1", "n1")))
    once.when(retry(item("e1", "x1"), item("e2", "x2"))).then(retried(item("e2", "x2")))
    once.when(retry(item("e1", "x1"))).then_refused("nothing_to_retry")


def test_a_retry_of_this_very_execution_can_be_asked_for_again() -> None:
    once = batch().when(retry(item("e1", "n1"))).then(BatchRetried)
    once.when(retry(item("e1", "n2"), again=True)).then(retried(item("e1", "n2")))


def test_a_retry_does_not_close_an_open_batch() -> None:
    assert not given(DECIDER, retried(item("e1", "n1"))).state.is_closed


def end(submitted: int) -> EndBatch:
    return EndBatch(
        submitted=submitted, status="partial", total=9, completed=7, failed=1, timed_out=1, cancelled=0,
        total_cost_micros=12, completed_at=NOW,
    )  # fmt: skip


def test_the_end_is_said_once_and_again_after_a_retry() -> None:
    said = BatchEnded(
        status="partial", total=9, completed=7, failed=1, timed_out=1, cancelled=0, total_cost_micros=12,
        completed_at=NOW, ended_at=NOW,
    )  # fmt: skip
    over = batch().when(end(9)).then(said)
    over.when(end(9)).then_nothing()
    again = over.when(retry(item("e1", "e2"), item("e3", "e4"))).then(BatchRetried)
    # The read side had not yet seen the executions of the retry.
    again.when(end(9)).then_nothing()
    again.when(end(11)).then(said).when(end(11)).then_nothing()


def test_a_batch_to_which_others_may_add_never_ends() -> None:
    given(DECIDER).when(end(9)).then_nothing()
    given(DECIDER, CANCELLED).when(end(0)).then_nothing()
