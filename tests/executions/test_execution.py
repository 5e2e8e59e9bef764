"""The execution aggregate: what may happen, in which order, and what never does."""

from datetime import timedelta
from typing import Any

import pytest
from given import NOW, Given, given

from rgrid.executions.commands import (
    CancelExecution,
    ClaimExecution,
    CompleteInputs,
    ExpireInputs,
    FinishAttempt,
    LoseAttempt,
    SubmitExecution,
)
from rgrid.executions.events import (
    AttemptEnded,
    CancelRequested,
    DeclaredInput,
    ExecutionCancelled,
    ExecutionClaimed,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionQueued,
    ExecutionSubmitted,
    ExecutionTimedOut,
    InputsVerified,
    OutputsStored,
    StaleResultRefused,
    StoredArtifact,
    StoredFile,
)
from rgrid.executions.execution import DECIDER, TERMINAL

SHA = "0" * 64
FILE = StoredFile(name="a.csv", size_bytes=2, sha256=SHA)
ARTIFACT = StoredArtifact(
    artifact_id="art_1", filename="out.csv", size_bytes=3, sha256=SHA, content_type="text/csv"
)  # fmt: skip


def submit(**changes: Any) -> SubmitExecution:
    asked: dict[str, Any] = {
        "script_sha256": SHA,
        "script_size_bytes": 8,
        "runtime": "python:3.11",
        "timeout_s": 300,
        "cpu": 1.0,
        "memory_mb": 512,
        "max_retries": 2,
        "inputs_deadline_s": 3600,
        "root_execution_id": "exec_1",
        "created_by": "key:key_1",
    }
    return SubmitExecution(**(asked | changes))


def claim(worker_id: str = "wrk_1", rate_micros: int = 8_000) -> ClaimExecution:
    return ClaimExecution(
        worker_id=worker_id,
        worker_hostname="here",
        runner_kind="sandbox",
        sandbox_level="full",
        rate_micros=rate_micros,
    )


def finish(token: int = 1, end: Any = "completed", **changes: Any) -> FinishAttempt:
    said: dict[str, Any] = {"exit_code": 0 if end == "completed" else None, "duration_ms": 60_000}
    return FinishAttempt(fencing_token=token, end=end, **(said | changes))


def failed(reason: Any, token: int = 1, **changes: Any) -> FinishAttempt:
    return finish(token, "failed", failure_reason=reason, error="it broke", **changes)


def lose(token: int = 1, after_s: float = 60) -> LoseAttempt:
    heard = NOW + timedelta(seconds=after_s)
    return LoseAttempt(fencing_token=token, last_heartbeat_at=heard, error="The worker was lost.")


def submitted(**changes: Any) -> Given:
    return given(DECIDER).when(submit(**changes)).after


def queued(**changes: Any) -> Given:
    return submitted(**changes)


def running(**changes: Any) -> Given:
    return queued(**changes).when(claim()).after


def completed() -> Given:
    return running().when(finish()).after


def awaiting() -> Given:
    return submitted(inputs=[DeclaredInput(name="a.csv")])


CANCEL = CancelExecution(requested_by="key:key_1", reason="not needed")


# --- inputs


def test_an_execution_without_inputs_is_queued_at_once() -> None:
    after = given(DECIDER).when(submit()).then(ExecutionSubmitted, ExecutionQueued)
    assert after.state.status == "queued"
    assert after.state.spec.inputs_deadline is None


def test_an_execution_whose_inputs_are_all_stored_is_queued_at_once() -> None:
    after = given(DECIDER).when(submit(inputs=[DeclaredInput(name="a.csv")], verified=[FILE]))
    assert after.then(ExecutionSubmitted, InputsVerified, ExecutionQueued).state.inputs == (FILE,)


def test_an_execution_with_missing_inputs_waits_for_them_until_a_deadline() -> None:
    after = given(DECIDER).when(submit(inputs=[DeclaredInput(name="a.csv")])).then(ExecutionSubmitted)
    assert after.state.status == "awaiting_inputs"
    assert after.state.spec.inputs_deadline == NOW + timedelta(hours=1)


def test_submitting_again_changes_nothing() -> None:
    submitted().when(submit()).then_nothing()


def test_an_execution_that_waits_for_inputs_cannot_be_claimed() -> None:
    refusal = awaiting().when(claim()).then_refused("illegal_transition")
    assert refusal.extra == {"current_status": "awaiting_inputs"}


def test_complete_inputs_make_it_claimable() -> None:
    ready = (
        awaiting()
        .when(CompleteInputs(files=[FILE]))
        .then(InputsVerified(files=[FILE], verified_at=NOW), ExecutionQueued)
    )
    assert ready.when(claim()).then(ExecutionClaimed).state.status == "running"


def test_completing_inputs_twice_changes_nothing() -> None:
    awaiting().when(CompleteInputs(files=[FILE])).after.when(CompleteInputs(files=[FILE])).then_nothing()


def test_inputs_of_an_unknown_execution_are_refused() -> None:
    given(DECIDER).when(CompleteInputs(files=[FILE])).then_refused("illegal_transition")


def test_inputs_that_come_after_the_cancel_are_refused() -> None:
    awaiting().when(CANCEL).after.when(CompleteInputs(files=[FILE])).then_refused("cancelled")


def test_inputs_expire_at_the_deadline_and_not_before() -> None:
    waits = awaiting()
    waits.when(ExpireInputs(), NOW + timedelta(minutes=59)).then_nothing()
    late = NOW + timedelta(hours=1)
    gone = waits.when(ExpireInputs(), late).then(
        ExecutionFailed(
            failure_reason="input_missing",
            error="The inputs were not uploaded in time.",
            finalized_cost_micros=0,
            completed_at=late,
        )
    )
    gone.when(ExpireInputs(), late).then_nothing()


def test_nothing_expires_once_the_inputs_are_there() -> None:
    ready = awaiting().when(CompleteInputs(files=[FILE])).after
    ready.when(ExpireInputs(), NOW + timedelta(days=9)).then_nothing()


# --- claims


def test_a_claim_takes_the_next_attempt_and_the_next_token_at_the_price_of_its_cpus() -> None:
    queued(cpu=0.25).when(claim()).then(
        ExecutionClaimed(
            attempt=1,
            fencing_token=1,
            worker_id="wrk_1",
            worker_hostname="here",
            runner_kind="sandbox",
            sandbox_level="full",
            hourly_micros=2_000,
            claimed_at=NOW,
        )
    )


def test_a_running_execution_cannot_be_claimed_again() -> None:
    running().when(claim("wrk_2")).then_refused("running")


def test_a_finished_execution_cannot_be_claimed() -> None:
    completed().when(claim()).then_refused("completed")


def test_what_was_never_submitted_cannot_be_claimed() -> None:
    given(DECIDER).when(claim()).then_refused("absent")


# --- results


def test_exit_code_0_completes_it_at_the_exact_cost() -> None:
    decided = running().when(finish(duration_ms=120_000))
    after = decided.then(AttemptEnded, ExecutionCompleted(finalized_cost_micros=267, completed_at=NOW))
    assert after.state.cost_micros == 267


def test_outputs_are_recorded_before_the_end_of_their_attempt() -> None:
    decided = running().when(finish(artifacts=[ARTIFACT]))
    decided.then(OutputsStored(attempt=1, artifacts=[ARTIFACT], stored_at=NOW), AttemptEnded, ExecutionCompleted)


@pytest.mark.parametrize("reason", ["exit_code", "out_of_memory", "dependency_install", "input_missing"])
def test_a_fault_of_the_script_is_not_retried(reason: str) -> None:
    after = running().when(failed(reason, exit_code=3)).then(AttemptEnded, ExecutionFailed)
    event = after.past[-1]
    assert isinstance(event, ExecutionFailed)
    assert (event.failure_reason, event.exit_code, event.error) == (reason, 3, "it broke")


def test_running_out_of_time_is_a_status_of_its_own_and_not_retried() -> None:
    ended = finish(end="timed_out", failure_reason="timeout", error="It ran longer than 300 s.")
    running().when(ended).then(
        AttemptEnded,
        ExecutionTimedOut(error="It ran longer than 300 s.", finalized_cost_micros=133, completed_at=NOW),
    )


@pytest.mark.parametrize("reason", ["worker_lost", "runtime_unavailable", "internal"])
def test_a_fault_of_the_grid_is_retried_after_a_pause(reason: str) -> None:
    after = running().when(failed(reason)).then(AttemptEnded, ExecutionQueued)
    again = after.past[-1]
    assert isinstance(again, ExecutionQueued)
    assert again.attempt == 2
    assert timedelta(seconds=0.75) <= again.not_before - NOW <= timedelta(seconds=1.25)
    assert after.state.retries == 1


def test_packages_that_could_not_be_installed_are_tried_again_when_the_network_was_at_fault() -> None:
    broken = failed("dependency_install", caused_by_network=True)
    state = running(max_retries=1).when(broken).then(AttemptEnded, ExecutionQueued)
    over = state.when(claim()).after.when(failed("dependency_install", 2, caused_by_network=True))
    over.then(AttemptEnded, ExecutionFailed)


def test_pauses_double_and_end_at_a_minute() -> None:
    state, pauses = queued(max_retries=10), []
    for token in range(1, 10):
        state = state.when(claim()).after.when(failed("internal", token)).then(AttemptEnded, ExecutionQueued)
        again = state.past[-1]
        assert isinstance(again, ExecutionQueued)
        pauses.append((again.not_before - NOW).total_seconds())
    for pause, nominal in zip(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60], strict=True):
        assert 0.75 * nominal <= pause <= 1.25 * nominal


def test_retries_are_used_up_and_then_it_fails() -> None:
    once = running(max_retries=1).when(failed("internal")).then(AttemptEnded, ExecutionQueued)
    twice = once.when(claim()).after.when(failed("internal", token=2)).then(AttemptEnded, ExecutionFailed)
    assert twice.state.status == "failed"


def test_the_cost_is_the_sum_of_all_attempts() -> None:
    first = running().when(failed("internal", duration_ms=60_000)).after
    last = first.when(claim()).after.when(finish(2, duration_ms=120_000)).then(AttemptEnded, ExecutionCompleted)
    assert last.past[-1] == ExecutionCompleted(finalized_cost_micros=133 + 267, completed_at=NOW)


# --- stale workers


def test_a_result_that_comes_twice_is_accepted_once() -> None:
    completed().when(finish()).then_nothing()


def test_a_result_under_an_old_token_is_refused_and_recorded() -> None:
    second = running().when(lose()).after.when(claim("wrk_2")).after
    refused = StaleResultRefused(fencing_token=7, end="completed", refused_at=NOW)
    assert second.when(finish(7)).then(refused).state.status == "running"


def test_the_late_result_of_a_lost_attempt_is_refused_and_recorded() -> None:
    stale = StaleResultRefused(fencing_token=1, end="completed", refused_at=NOW)
    lost = running().when(lose()).after
    assert lost.when(finish(1)).then(stale).state.status == "queued"
    second = lost.when(claim("wrk_2")).after
    assert second.when(finish(1)).then(stale).state.status == "running"
    done = second.when(finish(2)).after
    assert done.when(finish(1)).then(stale).state.status == "completed"


def test_nobody_can_hand_in_a_result_for_a_queued_execution() -> None:
    queued().when(finish(1)).then(StaleResultRefused)


# --- lost attempts


def test_a_lost_attempt_is_charged_to_its_last_heartbeat_and_retried() -> None:
    decided = running().when(lose(after_s=30), NOW + timedelta(seconds=90))
    decided.then(
        AttemptEnded(
            attempt=1,
            status="lost",
            failure_reason="worker_lost",
            error="The worker was lost.",
            started_at=NOW,
            ended_at=NOW + timedelta(seconds=90),
            duration_ms=30_000,
            cost_micros=67,
        ),
        ExecutionQueued,
    )


def test_losing_an_attempt_that_is_over_changes_nothing() -> None:
    completed().when(lose()).then_nothing()
    second = running().when(lose()).after.when(claim("wrk_2")).after
    second.when(lose(1)).then_nothing()


def test_a_heartbeat_before_the_claim_costs_nothing() -> None:
    after = running().when(lose(after_s=-5)).after
    assert after.state.cost_micros == 0


def test_without_retries_a_lost_attempt_is_a_failure() -> None:
    decided = running(max_retries=0).when(lose())
    assert decided.then(AttemptEnded, ExecutionFailed).past[-1].failure_reason == "worker_lost"  # type: ignore[attr-defined]


# --- cancel


@pytest.mark.parametrize("waits", [awaiting, queued])
def test_what_has_not_started_is_cancelled_at_once(waits: Any) -> None:
    waits().when(CANCEL).then(
        ExecutionCancelled(
            cancelled_by="key:key_1", reason="not needed", finalized_cost_micros=0, completed_at=NOW
        )
    )  # fmt: skip


def test_what_runs_is_asked_to_stop_and_only_once() -> None:
    asked = running().when(CANCEL).then(
        CancelRequested(requested_by="key:key_1", reason="not needed", requested_at=NOW)
    )  # fmt: skip
    assert asked.state.status == "running"
    asked.when(CANCEL).then_nothing()


def test_a_stopped_attempt_ends_the_execution_as_cancelled() -> None:
    asked = running().when(CANCEL).after
    asked.when(finish(end="cancelled", failure_reason="cancelled")).then(
        AttemptEnded,
        ExecutionCancelled(
            cancelled_by="key:key_1", reason="not needed", finalized_cost_micros=133, completed_at=NOW
        ),
    )  # fmt: skip


def test_an_attempt_that_ended_by_itself_before_the_cancel_keeps_its_own_result() -> None:
    asked = running().when(CANCEL).after
    asked.when(finish()).then(AttemptEnded, ExecutionCompleted)
    asked.when(failed("exit_code")).then(AttemptEnded, ExecutionFailed)


def test_a_cancelled_execution_whose_worker_is_gone_is_not_retried() -> None:
    running().when(CANCEL).after.when(lose()).then(AttemptEnded, ExecutionCancelled)
    running().when(CANCEL).after.when(failed("internal")).then(AttemptEnded, ExecutionCancelled)


def test_cancelling_what_is_cancelled_changes_nothing() -> None:
    queued().when(CANCEL).after.when(CANCEL).then_nothing()


def test_what_is_finished_cannot_be_cancelled() -> None:
    refusal = completed().when(CANCEL).then_refused("illegal_transition")
    assert refusal.extra == {"current_status": "completed"}
    assert completed().state.status in TERMINAL
