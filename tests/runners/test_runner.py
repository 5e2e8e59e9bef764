"""The worker aggregate: registered, drained, stopped, lost and heard again."""

from datetime import timedelta
from typing import Any

import pytest
from given import NOW, Given, given

from rgrid.runners.commands import DrainWorker, MarkWorkerLost, RegisterWorker, StopWorker, WelcomeBack
from rgrid.runners.events import (
    WorkerDrainRequested,
    WorkerLost,
    WorkerRegistered,
    WorkerReturned,
    WorkerStopped,
)
from rgrid.runners.runner import DECIDER

ASKED: dict[str, Any] = {
    "hostname": "here",
    "pid": 7,
    "boot_id": "boot",
    "process_started_ticks": 99,
    "runner_kind": "sandbox",
    "sandbox_level": "full",
    "slots": 2,
    "runtimes": ["python:3.11"],
    "version": "1",
}
REGISTER = RegisterWorker(**ASKED)
DRAIN = DrainWorker(requested_by="key:key_1", reason="maintenance")
LOSE = MarkWorkerLost(reason="No heartbeat for 61 s.", last_heartbeat_at=NOW - timedelta(seconds=61))


def active() -> Given:
    return given(DECIDER).when(REGISTER).then(WorkerRegistered(**ASKED, registered_at=NOW))


def draining() -> Given:
    drained = WorkerDrainRequested(requested_by="key:key_1", reason="maintenance", requested_at=NOW)
    return active().when(DRAIN).then(drained)


def lost() -> Given:
    gone = WorkerLost(reason="No heartbeat for 61 s.", last_heartbeat_at=NOW - timedelta(seconds=61), lost_at=NOW)
    return active().when(LOSE).then(gone)


def stopped() -> Given:
    return active().when(StopWorker()).then(WorkerStopped(stopped_at=NOW))


def test_a_worker_registers_once() -> None:
    assert active().when(REGISTER).then_nothing().state.status == "active"


def test_a_worker_is_asked_to_drain_once() -> None:
    assert draining().when(DRAIN).then_nothing().state.status == "draining"


def test_a_draining_worker_stops() -> None:
    done = draining().when(StopWorker()).then(WorkerStopped)
    assert done.state.status == "stopped"
    done.when(StopWorker()).then_nothing()


@pytest.mark.parametrize(("past", "status"), [(lost, "lost"), (stopped, "stopped")])
def test_what_is_gone_cannot_be_drained(past: Any, status: str) -> None:
    assert past().when(DRAIN).then_refused("illegal_transition").extra == {"current_status": status}


def test_a_worker_is_lost_once_and_not_after_its_end() -> None:
    lost().when(LOSE).then_nothing()
    stopped().when(LOSE).then_nothing()
    draining().when(LOSE).then(WorkerLost)


def test_a_lost_worker_that_is_heard_again_is_back() -> None:
    back = lost().when(WelcomeBack()).then(WorkerReturned(returned_at=NOW))
    assert back.state.status == "active"
    back.when(WelcomeBack()).then_nothing()
    lost().when(REGISTER).then(WorkerReturned)


def test_a_lost_worker_that_was_draining_goes_on_draining() -> None:
    assert draining().when(LOSE).after.when(WelcomeBack()).then(WorkerReturned).state.status == "draining"


def test_a_lost_worker_can_still_say_goodbye() -> None:
    lost().when(StopWorker()).then(WorkerStopped)


@pytest.mark.parametrize("command", [DRAIN, LOSE, StopWorker(), WelcomeBack()])
def test_an_unknown_worker_is_not_found(command: Any) -> None:
    given(DECIDER).when(command).then_refused("not_found")
