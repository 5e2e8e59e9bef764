"""Appending log lines over HTTP: with the lease's token while the attempt runs, or as an operator's repair."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from api.one_service import Live, moment, problem

from rgrid.kernel.clock import now

SLEEPER = "import time; print('on', flush=True); time.sleep(120)"


@pytest.fixture(scope="module")
def running(live: Live) -> Iterator[dict[str, Any]]:
    """A running attempt; its own worker has said one line."""
    execution = live.started(SLEEPER)
    yield execution
    live.stop(execution["execution_id"])


def append(live: Live, execution: dict[str, Any], secret: str | None = None, **more: Any) -> httpx.Response:
    path = f"/api/v1/executions/{execution['execution_id']}/logs/stream"
    return live.call("POST", path, secret or live.lease_token(execution), **more)


def line(number: int, message: str = "x", **more: Any) -> dict[str, Any]:
    return {"sequence_number": number, "stream": "stdout", "message": message, **more}


def stored(live: Live, execution: dict[str, Any], number: int) -> dict[str, Any]:
    page = live.page(f"/api/v1/executions/{execution['execution_id']}/logs", after=number - 1, limit=1)
    row: dict[str, Any] = page["data"][0]
    assert row["sequence_number"] == number
    return row


def test_one_line_goes_in_the_query_and_comes_back_under_its_id(live: Live, running: dict[str, Any]) -> None:
    answer = append(live, running, params=line(100, "by query ü"))
    body = answer.json()
    assert (answer.status_code, body["status"], body["accepted"], body["duplicates"]) == (200, "ok", 1, 0)
    row = stored(live, running, 100)
    assert body["log_id"] == row["log_id"]
    assert (row["message"], row["stream"], row["attempt"]) == ("by query ü", "stdout", 1)
    assert body["last_sequence_number"] >= 100


def test_many_lines_go_in_the_body(live: Live, running: dict[str, Any]) -> None:
    when = "2026-01-02T03:04:05.123456+02:00"
    lines = [line(number, f"m{number}", timestamp=when) for number in range(200, 210)]
    body = append(live, running, json={"lines": lines}).json()
    assert (body["accepted"], body["duplicates"], body["log_id"]) == (10, 0, None)
    assert stored(live, running, 205)["timestamp"] == "2026-01-02T01:04:05.123456Z"


def test_a_number_that_is_there_is_counted_and_changes_nothing(live: Live, running: dict[str, Any]) -> None:
    append(live, running, params=line(300, "first"))
    first = stored(live, running, 300)
    again = append(live, running, params=line(300, "second", timestamp="2020-01-01T00:00:00Z")).json()
    assert (again["accepted"], again["duplicates"], again["log_id"]) == (0, 1, first["log_id"])
    mixed = append(live, running, json={"lines": [line(300), line(301), line(301, "twice in one")]}).json()
    assert (mixed["accepted"], mixed["duplicates"]) == (1, 2)
    assert stored(live, running, 300) == first
    assert stored(live, running, 301)["message"] == "x"


def test_equal_requests_at_the_same_time_store_each_line_once(live: Live, running: dict[str, Any]) -> None:
    body = {"lines": [line(number) for number in range(400, 450)]}
    token = live.lease_token(running)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: append(live, running, token, json=body).json(), range(8)))
    assert sum(answer["accepted"] for answer in answers) == 50
    assert all(answer["accepted"] + answer["duplicates"] == 50 for answer in answers)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"params": {"sequence_number": 500, "stream": "stdout"}},
        {"params": {"stream": "stdout", "message": "x"}},
        {"params": {"sequence_number": 500, "message": "x"}},
        {"params": line(500), "json": {"lines": [line(501)]}},
        {"params": {"timestamp": "2026-01-01T00:00:00Z"}, "json": {"lines": [line(501)]}},
        {"params": line(-1)},
        {"params": line(500, stream="stdin")},
        {"params": line(500, timestamp="now")},
        {"params": {"sequence_number": "9" * 30, "stream": "stdout", "message": "x"}},
        {"json": {"lines": []}},
        {"json": {"lines": [line(500, "x" * 65_537)]}},
        {"json": {"lines": [line(n) for n in range(1001)]}},
        {"json": {"lines": [line(500), line(-1)]}},
        {"json": {"lines": [line(500), {"sequence_number": 501}]}},
        {"json": {"lines": [line(500, "nul\0")]}},
        {"json": {"lines": [line(500, level="info")]}},
        {"json": {"lines": [line(500, timestamp="2026-01-01T00:00:00")]}},
        {"json": {"lines": [line(500, timestamp="0001-01-01T00:00:00+14:00")]}},
        {"json": {"lines": [line(500, timestamp="9999-12-31T23:59:59-14:00")]}},
        {"json": {"lines": [line(2**63)]}},
        {"params": line(500, timestamp="0001-01-01T00:00:00+14:00")},
        {"params": line(500, timestamp="0001-01-01T00:00:00Z")},
        {"json": {"lines": [line(500, timestamp="9999-12-31T23:59:59.999999Z")]}},
    ],
    ids=range(24),
)
def test_a_wrong_line_is_422_and_none_of_the_request_is_stored(
    live: Live, running: dict[str, Any], more: dict[str, Any]
) -> None:
    problem(append(live, running, **more), 422, "validation_failed")
    page = live.page(f"/api/v1/executions/{running['execution_id']}/logs", after=499, limit=2)
    assert not [row for row in page["data"] if row["sequence_number"] in (500, 501)]


@pytest.mark.parametrize("when", ["0002-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9998-12-31T23:59:59.999999Z"])
def test_a_time_at_the_edge_of_the_calendar_is_kept(live: Live, running: dict[str, Any], when: str) -> None:
    number = 600 + int(when[:4]) % 97
    body = append(live, running, params=line(number, timestamp=when)).json()
    row = stored(live, running, number)
    assert (row["timestamp"], row["log_id"]) == (when, body["log_id"])


def test_a_body_over_its_own_limit_is_413(live: Live, running: dict[str, Any]) -> None:
    lines = [line(n, "x" * 60_000) for n in range(700, 850)]
    problem(append(live, running, json={"lines": lines}), 413, "body_too_large")


def test_a_token_of_an_earlier_attempt_has_lost_its_lease(live: Live, running: dict[str, Any]) -> None:
    for changes in ({"fencing_token": 99}, {"fencing_token": 0}):
        late = append(live, running, live.lease_token(running, **changes), params=line(900))
        problem(late, 409, "lease_lost")
    known = append(live, running, live.lease_token(running, fencing_token=99), params=line(100)).json()
    assert (known["accepted"], known["duplicates"]) == (0, 1)


def test_a_token_opens_its_own_execution_and_nothing_else(
    live: Live, running: dict[str, Any], finished: dict[str, Any]
) -> None:
    token = live.lease_token(running)
    problem(append(live, finished, token, params=line(900)), 403, "scope_missing")
    elsewhere = {"execution_id": "exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X"}
    problem(append(live, elsewhere, token, params=line(900)), 403, "scope_missing")
    for method, path in (
        ("GET", f"/api/v1/executions/{running['execution_id']}"),
        ("GET", f"/api/v1/executions/{running['execution_id']}/logs"),
        ("POST", f"/api/v1/executions/{running['execution_id']}/cancel"),
        ("GET", "/api/v1/executions"),
        ("GET", "/api/v1/me"),
        ("GET", "/metrics"),
        ("GET", "/api/v1/keys"),
    ):
        problem(live.call(method, path, token), 403, "scope_missing")


def test_a_token_that_was_changed_is_no_credential(live: Live, running: dict[str, Any]) -> None:
    token = live.lease_token(running)
    head, mac = token.rsplit(".", 1)
    for wrong in (f"{head}.{mac[::-1]}", f"{head}0.{mac}", token.upper(), token[:-1], token + "0", f"lt_{token}"):
        problem(append(live, running, wrong, params=line(900)), 401, "credentials_invalid")


def test_an_admin_may_repair_the_log_of_what_has_not_ended(live: Live, running: dict[str, Any]) -> None:
    path = f"/api/v1/executions/{running['execution_id']}/logs/stream"
    assert live.http.post(path, params=line(950, "repaired")).json()["accepted"] == 1
    for scope in ("read", "run"):
        problem(append(live, running, live.key(scope), params=line(951)), 403, "scope_missing")


def test_an_unknown_execution_is_404_for_an_admin(live: Live) -> None:
    for execution_id in ("exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X", "x", "%00"):
        answer = live.http.post(f"/api/v1/executions/{execution_id}/logs/stream", params=line(1))
        problem(answer, 404, "not_found")


def test_the_last_lines_of_an_attempt_are_taken_for_a_moment_after_its_end(live: Live) -> None:
    ended = live.run("print('said')")
    token = live.lease_token(ended)
    late = append(live, ended, token, params=line(1, "last words"))
    assert (late.status_code, late.json()["accepted"]) == (200, 1)
    assert late.json()["log_id"] == stored(live, ended, 1)["log_id"]
    assert live.get(ended["execution_id"])["stdout"] == "said\nlast words\n"
    problem(append(live, ended, live.lease_token(ended, fencing_token=7), params=line(2)), 409, "execution_finished")
    admin = live.http.post(f"/api/v1/executions/{ended['execution_id']}/logs/stream", params=line(2))
    assert problem(admin, 409, "execution_finished")["current_status"] == "completed"


def test_after_that_moment_only_repeats_are_answered(live: Live, finished: dict[str, Any]) -> None:
    rest = 10.05 - (now() - moment(finished["completed_at"])).total_seconds()
    time.sleep(max(0.0, rest))  # long past, unless this test runs alone
    problem(append(live, finished, params=line(3)), 409, "execution_finished")
    assert append(live, finished, params=line(1)).json()["duplicates"] == 1
