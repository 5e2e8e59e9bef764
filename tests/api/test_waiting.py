"""Why something waits, in which order, for how long, and what is tried again: over HTTP, with real workers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from api.one_service import Live, moment, problem


@contextmanager
def busy(live: Live) -> Iterator[None]:
    """Every slot is taken until the block ends."""
    held = [live.started("import time\nprint('on', flush=True)\ntime.sleep(60)") for _ in range(4)]
    try:
        yield
    finally:
        for one in held:
            live.stop(one["execution_id"])


def test_what_waits_for_inputs_says_so(live: Live) -> None:
    waits = live.submit("print(1)", input_files=["a.txt", "b.txt"])
    assert waits["waiting"]["reason"] == "inputs_missing"
    assert waits["waiting"]["until"] == waits["inputs_deadline"]
    assert waits["queue_position"] is None
    live.stop(waits["execution_id"])


def test_without_a_worker_nothing_can_start(idle: Live) -> None:
    waits = idle.submit("print(1)")
    assert waits["waiting"]["reason"] == "queued"
    seen = idle.get(waits["execution_id"])
    assert seen["waiting"]["reason"] == "no_worker"
    assert seen["queue_position"] == seen["waiting"]["queue_position"] >= 1
    assert idle.stop(waits["execution_id"])["waiting"] is None


def test_what_is_too_large_for_every_worker_says_so(live: Live) -> None:
    waits = live.submit("print(1)", cpu=16)
    seen = live.get(waits["execution_id"])
    assert (seen["status"], seen["waiting"]["reason"]) == ("queued", "too_large_for_workers")
    live.stop(waits["execution_id"])


def test_behind_others_the_place_and_the_start_are_told_and_priority_goes_first(live: Live) -> None:
    live.run("print(1)")
    with busy(live):
        low = live.submit("print('low')")["execution_id"]
        last = live.submit("print('last')", priority=-10)["execution_id"]
        high = live.submit("print('high')", priority=10)["execution_id"]
        places = {name: live.get(name) for name in (high, low, last)}
        assert [one["queue_position"] for one in places.values()] == [1, 2, 3]
        for one in places.values():
            assert one["waiting"]["reason"] == "queued_behind"
            assert moment(one["waiting"]["estimated_start_at"]) > moment(one["queued_at"])
        assert places[high]["priority"] == 10
    ended = [live.ended(name) for name in (high, low, last)]
    claims = [_position(live, one["execution_id"], "execution.claimed.v1") for one in ended]
    assert claims == sorted(claims)


def _position(live: Live, execution_id: str, topic: str) -> int:
    return next(event["position"] for event in live.events(execution_id) if event["type"] in (topic, topic[:-3]))


def test_what_no_worker_takes_within_its_queue_timeout_fails(live: Live) -> None:
    with busy(live):
        waits = live.submit("print(1)", queue_timeout_seconds=1)
        assert live.get(waits["execution_id"])["waiting"]["until"]
        seen = live.ended(waits["execution_id"])
    assert (seen["status"], seen["failure_reason"]) == ("failed", "runtime_unavailable")
    assert "queue timeout of 1 s" in seen["execution_error"]
    assert (seen["attempts"], seen["finalized_cost_micros"], seen["queue_position"]) == ([], 0, None)


def test_an_exit_code_that_is_named_is_tried_again_after_the_pause_that_was_asked_for(live: Live) -> None:
    one = live.submit(
        "import os, sys\nprint('x', flush=True)\nsys.exit(75 if os.environ['RGRID_ATTEMPT'] == '1' else 0)",
        retry_on=["timeout", 75],
        retry_backoff_seconds=1.5,
    )
    waits = live.until(one["execution_id"], lambda seen: seen["retry_count"] == 1)
    assert waits["waiting"]["reason"] == "backoff"
    assert waits["waiting"]["estimated_start_at"] == waits["waiting"]["until"]
    done = live.ended(one["execution_id"])
    assert (done["status"], [each["exit_code"] for each in done["attempts"]]) == ("completed", [75, 0])
    assert done["cost_micros"] == sum(each["cost_micros"] for each in done["attempts"])
    assert (done["retry_on"], done["retry_backoff_seconds"]) == (["timeout", 75], 1.5)
    again = live.http.post(f"/api/v1/executions/{one['execution_id']}/retry").json()
    assert again["retry_on"] == ["timeout", 75], "a retry keeps the rules"
    live.stop(again["execution_id"])


def test_without_rules_the_grids_own_are_shown_and_a_wrong_exit_code_is_final(live: Live) -> None:
    done = live.run("import sys; sys.exit(75)")
    assert (done["status"], len(done["attempts"])) == ("failed", 1)
    assert done["retry_on"] == ["internal", "runtime_unavailable", "worker_lost"]
    assert (done["retry_backoff_seconds"], done["retry_backoff_max_seconds"]) == (1, 60)


@pytest.mark.parametrize(
    "body",
    [
        {"retry_on": ["cancelled"]},
        {"retry_on": ["input_missing"]},
        {"retry_on": [0]},
        {"retry_on": [256]},
        {"retry_on": [True]},
        {"retry_backoff_seconds": 0},
        {"queue_timeout_seconds": 0},
        {"priority": 11},
        {"priority": 0.5},
    ],
)
def test_rules_out_of_bounds_are_refused(idle: Live, body: dict[str, Any]) -> None:
    problem(idle.create(script_content="print(1)", **body), 422, "validation_failed")
