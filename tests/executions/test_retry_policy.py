"""The submitter's own rules: what is tried again and when, how long something may wait, what goes first."""

from datetime import timedelta
from typing import Any

import pytest
from given import NOW
from test_execution import CANCEL, claim, failed, finish, lose, queued, running, submit, submitted

from rgrid.executions.commands import ExpireWait
from rgrid.executions.events import (
    AttemptEnded,
    CancelRequested,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionQueued,
    ExecutionTimedOut,
    RetryRules,
)


def rules(*reasons: Any, exit_codes: tuple[int, ...] = (), backoff_s: float = 1, max_s: float = 60) -> RetryRules:
    return RetryRules(
        reasons=list(reasons), exit_codes=list(exit_codes), backoff_s=backoff_s, backoff_max_s=max_s
    )  # fmt: skip


def test_a_timeout_is_retried_only_when_the_rules_say_so() -> None:
    over = finish(end="timed_out", failure_reason="timeout")
    running().when(over).then(AttemptEnded, ExecutionTimedOut)
    running(retry=rules("timeout")).when(over).then(AttemptEnded, ExecutionQueued)


def test_an_exit_code_is_retried_only_when_it_is_named() -> None:
    named = running(retry=rules(exit_codes=(75,)))
    named.when(failed("exit_code", exit_code=75)).then(AttemptEnded, ExecutionQueued)
    named.when(failed("exit_code", exit_code=1)).then(AttemptEnded, ExecutionFailed)
    running(retry=rules("exit_code")).when(failed("exit_code", exit_code=1)).then(AttemptEnded, ExecutionQueued)


def test_own_rules_replace_those_of_the_grid() -> None:
    running(retry=rules("timeout")).when(lose()).then(AttemptEnded, ExecutionFailed)
    running().when(lose()).then(AttemptEnded, ExecutionQueued)


@pytest.mark.parametrize("reason", ["exit_code", "out_of_memory", "input_missing", "dependency_install"])
def test_without_rules_what_is_the_scripts_fault_is_never_retried(reason: str) -> None:
    running().when(failed(reason)).then(AttemptEnded, ExecutionFailed)


def test_attempts_end_with_max_retries_whatever_the_rules_say() -> None:
    over = finish(end="timed_out")
    first = running(retry=rules("timeout"), max_retries=1).when(over).then(AttemptEnded, ExecutionQueued)
    second = first.when(claim()).after
    second.when(finish(2, "timed_out")).then(AttemptEnded, ExecutionTimedOut)


def test_a_cancelled_execution_is_not_retried_by_its_rules() -> None:
    asked = running(retry=rules("exit_code")).when(CANCEL).then(CancelRequested)
    asked.when(failed("exit_code", exit_code=1)).then(AttemptEnded, ExecutionFailed)
    asked.when(finish(end="completed")).then(AttemptEnded, ExecutionCompleted)


def test_the_pause_doubles_from_its_own_beginning_to_its_own_end() -> None:
    state = running(retry=rules("internal", backoff_s=10, max_s=25), max_retries=3)
    pauses = []
    for attempt in (1, 2, 3):
        state = state.when(failed("internal", attempt)).after
        pauses.append((state.past[-1].not_before - NOW).total_seconds())  # type: ignore[attr-defined]
        state = state.when(claim()).after
    for pause, wanted in zip(pauses, (10, 20, 25), strict=True):
        assert 0.75 * wanted <= pause <= 1.25 * wanted


def test_what_no_worker_takes_in_time_fails() -> None:
    waits = submitted(queue_timeout_s=60)
    waits.when(ExpireWait(), NOW + timedelta(seconds=59)).then_nothing()
    late = NOW + timedelta(seconds=60)
    gone = waits.when(ExpireWait(), late).then(ExecutionFailed)
    assert gone.past[-1].failure_reason == "runtime_unavailable"  # type: ignore[attr-defined]
    gone.when(ExpireWait(), late).then_nothing()


def test_the_wait_for_a_worker_is_apart_from_the_time_to_run() -> None:
    claimed = submitted(queue_timeout_s=1, timeout_s=300).when(claim()).after
    claimed.when(ExpireWait(), NOW + timedelta(seconds=200)).then_nothing()
    queued().when(ExpireWait(), NOW + timedelta(days=1)).then_nothing()


def test_each_wait_for_a_worker_has_the_whole_queue_timeout() -> None:
    again = running(queue_timeout_s=60).when(lose()).after.past[-1]
    assert isinstance(again, ExecutionQueued)
    assert again.expires_at == again.not_before + timedelta(seconds=60)


def test_the_priority_goes_with_every_wait() -> None:
    assert submitted(priority=7).past[-1].priority == 7  # type: ignore[attr-defined]
    assert running(priority=7).when(lose()).after.past[-1].priority == 7  # type: ignore[attr-defined]
    assert submit().priority == 0
