"""Cost over HTTP: what was spent, the limit, what something would take."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from api.one_service import Live, fields, problem

LIMIT = "/api/v1/cost/limit"


@pytest.fixture
def limit(live: Live) -> Iterator[str]:
    """The address of the limit, which is gone after the test."""
    yield LIMIT
    assert live.http.delete(LIMIT).status_code == 200


def cost(live: Live, **query: Any) -> dict[str, Any]:
    answer = live.http.get("/api/v1/cost", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def put(live: Live, **body: Any) -> Any:
    return live.http.put(LIMIT, json=body)


def test_what_ran_today_is_in_todays_cost_to_the_micro(live: Live) -> None:
    ran = [live.run("print(1)", user_metadata={"team": "sales"}), live.run("import sys; sys.exit(1)")]
    found = cost(live)
    assert found["currency"] == "EUR"
    assert date.fromisoformat(found["end_date"]) - date.fromisoformat(found["start_date"]) == timedelta(days=6)
    assert sum(day["cost_micros"] for day in found["by_date"]) == found["total_cost_micros"]
    first = min(datetime.fromisoformat(one["completed_at"]) for one in ran).date()
    every: list[dict[str, Any]] = []
    while True:
        page = live.page("/api/v1/executions", since=str(first), limit=1000, offset=len(every))
        every += page["data"]
        if not page["pagination"]["has_more"]:
            break
    assert found["total_cost_micros"] == sum(one["cost_micros"] for one in every)
    assert found["total_executions"] == sum(one["started_at"] is not None for one in every)
    for one in ran:
        (attempt,) = one["attempts"]
        assert attempt["cost_micros"] == (attempt["duration_ms"] * 8_000 + 1_800_000) // 3_600_000
        assert one["finalized_cost_micros"] == one["cost_micros"] == attempt["cost_micros"]


@pytest.mark.parametrize(
    "query", [{"group_by": "key"}, {"group_by": "script"}, {"group_by": "metadata", "metadata_key": "team"}]
)
def test_costs_are_told_by_key_script_and_label_too(live: Live, query: dict[str, str]) -> None:
    live.run("print('labelled')", user_metadata={"team": "ops"})
    found = cost(live, **query)
    assert found["group_by"] == query["group_by"]
    assert sum(group["cost_micros"] for group in found["groups"]) == found["total_cost_micros"]
    names = {group["name"] for group in found["groups"]}
    assert {"key": any, "script": any, "metadata": any}[query["group_by"]](
        name and (name.startswith("key:") or name in (sha256(b"print('labelled')").hexdigest(), "ops"))
        for name in names
    )


def test_days_without_cost_are_left_out_and_a_range_has_bounds(live: Live) -> None:
    assert cost(live, since="2020-01-01", until="2020-12-31")["by_date"] == []
    assert cost(live, since="2020-02-01", until="2020-02-01")["total_cost_micros"] == 0
    get = live.http.get
    problem(get("/api/v1/cost", params={"since": "2020-02-02", "until": "2020-02-01"}), 400, "invalid_range")
    problem(get("/api/v1/cost", params={"since": "2019-01-01", "until": "2020-12-31"}), 400, "invalid_range")
    answer = get("/api/v1/cost", params={"since": "2020-02-30", "until": "yesterday"})
    problem(answer, 422, "validation_failed")
    assert fields(answer) == {"query.since", "query.until"}
    problem(get("/api/v1/cost", params={"group_by": "metadata"}), 422, "validation_failed")
    problem(get("/api/v1/cost", params={"since": "0001-01-01"}), 400, "invalid_range")


def test_the_default_price_is_listed_for_every_kind_of_runner(live: Live) -> None:
    rates = live.page("/api/v1/cost/rates")
    assert rates["pagination"]["total"] == 3
    assert {rate["hourly_micros"] for rate in rates["data"]} == {8_000}
    assert {rate["per"] for rate in rates["data"]} == {"vCPU-hour"}


# --- the limit


def test_without_a_limit_usage_and_what_is_kept_aside_are_shown(live: Live) -> None:
    waits = live.submit("print(1)", input_files=["never.txt"])
    answer = live.http.get(LIMIT)
    found = answer.json()
    assert answer.headers["etag"]
    assert (found["has_limit"], found["status"], found["usage_percent"]) == (False, "unlimited", None)
    assert found["monthly_limit_display"] == "No limit"
    assert found["reserved_micros"] >= 667
    assert found["current_usage_micros"] == cost(live, since=found["period_start"][:10])["total_cost_micros"]
    today = datetime.now(UTC).date()
    assert found["period_start"] == f"{today.replace(day=1)}T00:00:00Z"
    live.stop(waits["execution_id"])


@pytest.mark.parametrize(("euros", "micros"), [(19.99, 19_990_000), (50, 50_000_000), (0.0100005, 10_001)])
def test_a_limit_in_euros_is_the_decimal_that_was_written(live: Live, limit: str, euros: float, micros: int) -> None:
    answer = put(live, monthly_limit_euros=euros)
    assert answer.status_code == 200, answer.text
    assert answer.json()["monthly_limit_micros"] == micros
    assert live.http.get(limit).json()["monthly_limit_micros"] == micros


@pytest.mark.parametrize(
    "body",
    [
        {"monthly_limit_micros": 0},
        {"monthly_limit_euros": 0},
        {"monthly_limit_euros": -1},
        {"monthly_limit_euros": "50"},
        {"monthly_limit_micros": 1.5},
        {"monthly_limit_micros": 1 << 63},
        {"monthly_limit_euros": 1e13},
        {"monthly_limit_euros": 1e300},
        {"monthly_limit_micros": 5, "monthly_limit_euros": 5},
        {},
        {"monthly_limit_micros": 5, "alert_threshold_percent": 101},
    ],
)
def test_no_amount_two_amounts_and_zero_are_refused(live: Live, body: dict[str, Any]) -> None:
    problem(put(live, **body), 422, "validation_failed")
    assert live.http.get(LIMIT).json()["has_limit"] is False


def test_only_an_admin_sets_a_limit(live: Live) -> None:
    secret = live.key("run")
    problem(live.call("PUT", LIMIT, secret, json={"monthly_limit_micros": 5}), 403, "scope_missing")
    problem(live.call("DELETE", LIMIT, secret), 403, "scope_missing")
    assert live.call("GET", LIMIT, live.key("read")).status_code == 200


def test_a_limit_is_changed_only_by_who_knows_the_present_one(live: Live, limit: str) -> None:
    first = put(live, monthly_limit_micros=10**9)
    stale = live.http.put(limit, json={"monthly_limit_micros": 2 * 10**9}, headers={"If-Match": '"0"'})
    problem(stale, 412, "version_mismatch")
    version = live.http.get(limit).headers["etag"]
    assert first.headers["rgrid-position"]
    again = live.http.put(limit, json={"monthly_limit_micros": 10**9}, headers={"If-Match": version})
    assert again.status_code == 200
    assert live.http.get(limit).headers["etag"] == version, "nothing was changed"


def test_what_overshoots_the_limit_is_refused_with_the_figures(live: Live, limit: str) -> None:
    ended = live.run("print(1)")
    spent = live.http.get(limit).json()
    free = spent["current_usage_micros"] + spent["reserved_micros"]
    put(live, monthly_limit_micros=free + 700)
    waits = live.submit("print(1)", input_files=["never.txt"])
    for refused in (
        live.create(script_content="print(1)"),
        live.http.post(f"/api/v1/executions/{ended['execution_id']}/retry"),
    ):
        body = problem(refused, 402, "spending_limit_exceeded")
        assert body["current_usage_micros"] == spent["current_usage_micros"]
        assert body["reserved_micros"] == spent["reserved_micros"] + 667
        assert body["requested_micros"] == 667
        assert body["monthly_limit_micros"] == free + 700
    assert live.create(script_content="print(1)", timeout_seconds=1, cpu=0.25).status_code == 201
    live.stop(waits["execution_id"])
    assert live.run("print(1)")["status"] == "completed"
    assert live.http.delete(limit).json()["status"] == "removed"
    assert live.http.delete(limit).status_code == 200
    live.stop(live.submit("print(1)", timeout_seconds=86_400, cpu=16)["execution_id"])


def test_near_the_limit_a_notice_is_recorded(live: Live, limit: str) -> None:
    live.run("import time; time.sleep(1.2)")
    used = live.http.get(limit).json()["current_usage_micros"]
    put(live, monthly_limit_micros=used, alert_threshold_percent=50)
    found = live.http.get(limit).json()
    assert (found["status"], found["usage_percent"]) == ("blocked", 100)
    assert found["message"]
    problem(live.create(script_content="print(1)"), 402, "spending_limit_exceeded")


def test_what_runs_is_not_stopped_by_a_limit(live: Live, limit: str) -> None:
    begun = live.started("import time; print('on', flush=True); time.sleep(2)")
    put(live, monthly_limit_micros=1)
    problem(live.create(script_content="print(1)"), 402, "spending_limit_exceeded")
    assert live.get(begun["execution_id"])["status"] == "running", "the limit was there while it ran"
    assert live.ended(begun["execution_id"])["status"] == "completed"


# --- estimates


def estimate(live: Live, **query: Any) -> dict[str, Any]:
    answer = live.http.get("/api/v1/estimate", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_an_estimate_without_history_is_that_of_the_worked_example(idle: Live) -> None:
    found = estimate(idle, runtime="python:3.11", files=100, parallel=20)
    assert (found["basis"], found["sample_size"]) == ("default", 0)
    assert found["estimated_duration_seconds"] == 60
    assert found["estimated_total_duration_seconds"] == 6_000
    assert found["estimated_wall_seconds"] == 300
    assert (found["estimated_cost_micros"], found["estimated_cost_display"]) == (13_333, "€0.01")


def test_an_estimate_goes_by_the_same_script_then_by_the_runtime(live: Live) -> None:
    script = "print('measured')"
    digest = sha256(script.encode()).hexdigest()
    runs = [live.run(script) for _ in range(2)]
    assert estimate(live, script_sha256=digest)["basis"] == "runtime_history"
    runs.append(live.run(script))
    found = estimate(live, script_sha256=digest, files=3)
    took = sorted(one["duration_ms"] for one in runs)
    assert (found["basis"], found["sample_size"]) == ("script_history", 3)
    assert found["estimated_duration_seconds"] == took[1] / 1000
    assert found["estimated_p90_seconds"] == took[2] / 1000
    assert any("rices may change" in sentence for sentence in found["assumptions"])


def test_an_estimate_of_what_cannot_run_is_refused(live: Live) -> None:
    get = live.http.get
    problem(get("/api/v1/estimate", params={"runtime": "cobol"}), 422, "unknown_runtime")
    problem(get("/api/v1/estimate", params={"files": -1}), 422, "validation_failed")
    assert estimate(live, files=0)["estimated_cost_micros"] == 0
