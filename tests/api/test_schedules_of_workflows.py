"""Schedules that start workflows: the request as users write it, run now, the parameters of each run, and its end."""

import time
from itertools import count
from typing import Any

from api.one_service import Live, problem

PATH = "/api/v1/schedules"
_names = count(1)


def define(live: Live, name: str, **more: Any) -> None:
    step = {"name": "only", "type": "WAIT", "duration_seconds": 1}
    document = {"name": name, "steps": [step], **more}
    answer = live.http.put(f"/api/v1/workflows/definitions/{name}", json=document)
    assert answer.status_code in (200, 201), answer.text


def ended(live: Live, schedule_id: str, number: int = 1) -> list[dict[str, Any]]:
    give_up = time.monotonic() + 60
    while True:
        rows: list[dict[str, Any]] = live.page(f"{PATH}/{schedule_id}/runs", order="asc")["data"]
        over = [row for row in rows if row["started_at"] and row["completed_at"]]
        if len(over) >= number:
            live.http.post(f"{PATH}/{schedule_id}/disable")
            return over
        assert time.monotonic() < give_up, rows
        time.sleep(0.1)


def test_the_request_works_as_it_stands_once_the_workflow_exists(live: Live) -> None:
    body = {
        "name": "sales.weekly", "target_type": "WORKFLOW", "target_name": "sales.weekly_refresh",
        "cron_expression": "0 6 * * 1", "timezone": "America/New_York", "target_params": {"region": "EU"},
    }  # fmt: skip
    problem(live.http.post(PATH, json=body), 400, "unknown_target")
    define(live, "sales.weekly_refresh")
    answer = live.http.post(PATH, json=body)
    assert answer.status_code == 201, answer.text
    started = live.http.post(f"{PATH}/{answer.json()['id']}/run-now", json={"params": {"week": 3}})
    assert started.status_code == 202, started.text
    told = started.json()
    assert (told["workflow_name"], told["target_type"]) == ("sales.weekly_refresh", "WORKFLOW")
    assert started.headers["location"] == f"/api/v1/workflows/runs/{told['run_id']}"
    (row,) = ended(live, answer.json()["id"])
    assert (row["run_id"], row["status"], row["trigger"]) == (told["run_id"], "COMPLETED", "MANUAL")
    run = live.http.get(f"/api/v1/workflows/runs/{told['run_id']}").json()
    assert run["params"] == {"region": "EU", "week": 3}


def test_a_workflow_that_is_due_runs_and_its_end_is_that_of_the_schedule_run(live: Live) -> None:
    name = f"due-{next(_names)}"
    define(live, name, parameters=[{"name": "scheduled_at", "type": "datetime"}])
    made = live.http.post(
        PATH, json={"name": name, "target_type": "pipeline", "target_name": name, "interval_seconds": 1}
    )
    assert made.status_code == 201, made.text
    row = ended(live, made.json()["id"])[0]
    assert (row["status"], row["target_type"]) == ("COMPLETED", "WORKFLOW")
    run = live.http.get(f"/api/v1/workflows/runs/{row['run_id']}").json()
    assert run["params"] == {"scheduled_at": row["scheduled_at"]}


def test_a_backfill_tells_a_workflow_which_time_it_is_about(live: Live) -> None:
    name = f"filled-{next(_names)}"
    define(live, name)
    body = {"name": name, "target_type": "WORKFLOW", "target_name": name, "cron_expression": "@daily", "enabled": False}
    schedule_id = live.http.post(PATH, json=body).json()["id"]
    asked = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-03T00:00:00Z", "max_parallel": 2}
    assert live.http.post(f"{PATH}/{schedule_id}/backfill", json=asked).json()["count"] == 2
    rows = ended(live, schedule_id, 2)
    params = [live.http.get(f"/api/v1/workflows/runs/{row['run_id']}").json()["params"] for row in rows]
    assert params == [{"scheduled_at": "2026-01-01T00:00:00Z"}, {"scheduled_at": "2026-01-02T00:00:00Z"}]
