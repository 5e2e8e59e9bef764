"""Schedules fire by themselves: what they start, what happens to late, overlapping and failing runs, and the past."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any

from api.one_service import Live, moment, problem

PATH = "/api/v1/schedules"
_names = count(1)


def make(live: Live, script: str = "print(1)", **body: Any) -> str:
    """A schedule that runs a script, each second unless said otherwise."""
    times = {} if {"cron_expression", "run_at"} & body.keys() else {"interval_seconds": 1}
    given = {"name": f"firing-{next(_names)}", "target_type": "EXECUTION", "target_name": "job", **times}
    answer = live.http.post(PATH, json={**given, "target_params": {"script_content": script}, **body})
    assert answer.status_code == 201, answer.text
    schedule_id: str = answer.json()["id"]
    return schedule_id


def runs(live: Live, schedule_id: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = live.page(f"{PATH}/{schedule_id}/runs", order="asc", limit=1000)["data"]
    return rows


def until(live: Live, schedule_id: str, holds: Callable[[list[dict[str, Any]]], object]) -> list[dict[str, Any]]:
    """Its runs as soon as this holds of them; then it is disabled, so that it disturbs nobody."""
    give_up = time.monotonic() + 60
    while not holds(found := runs(live, schedule_id)):
        assert time.monotonic() < give_up, found
        time.sleep(0.1)
    live.http.post(f"{PATH}/{schedule_id}/disable")
    return found


def ended(rows: list[dict[str, Any]], number: int = 1) -> bool:
    return sum(row["completed_at"] is not None for row in rows) >= number


def test_due_times_follow_each_other_without_drift_and_the_script_knows_which_is_its_own(live: Live) -> None:
    schedule_id = make(live, "import os\nprint(os.environ['RGRID_SCHEDULED_AT'])", overlap_policy="ALLOW")
    rows = until(live, schedule_id, lambda rows: ended(rows, 4))
    due = [moment(row["scheduled_at"]) for row in rows]
    assert {later - earlier for earlier, later in pairwise(due)} == {timedelta(seconds=1)}
    done = next(row for row in rows if row["status"] == "COMPLETED")
    execution = live.get(done["execution_id"])
    assert execution["stdout"].strip() == done["scheduled_at"]
    assert execution["name"] == "job"
    assert (done["run_id"], done["fetch_id"]) == (None, None)
    seen = live.http.get(f"{PATH}/{schedule_id}").json()
    assert seen["run_count"] >= 4
    assert seen["success_count"] + seen["failure_count"] <= seen["run_count"]


def test_the_end_of_what_was_started_is_the_end_of_the_run(live: Live) -> None:
    schedule_id = make(live, "raise SystemExit(3)")
    row = until(live, schedule_id, ended)[0]
    assert (row["status"], row["trigger"]) == ("FAILED", "SCHEDULE")
    assert row["error"]
    assert live.get(row["execution_id"])["exit_code"] == 3
    seen = live.http.get(f"{PATH}/{schedule_id}").json()
    assert (seen["last_run_status"], seen["success_count"]) == ("FAILED", 0)
    assert seen["failure_count"] >= 1


def test_failures_in_a_row_pause_it_with_a_note(live: Live) -> None:
    schedule_id = make(live, "raise SystemExit(3)", pause_after_failures=2)
    give_up = time.monotonic() + 60
    while (seen := live.http.get(f"{PATH}/{schedule_id}").json())["enabled"]:
        assert time.monotonic() < give_up, seen
        time.sleep(0.1)
    assert "2 runs in a row failed" in seen["note"]
    assert (seen["next_run_at"], seen["consecutive_failures"]) == (None, 2)


def test_a_run_that_takes_long_lets_the_next_times_be_skipped_and_delays_no_other_schedule(live: Live) -> None:
    slow = make(live, "import time\ntime.sleep(4)")
    quick = make(live)
    rows = until(live, slow, lambda rows: any(row["skip_reason"] == "overlap" for row in rows))
    assert rows[0]["status"] in ("RUNNING", "COMPLETED")
    until(live, quick, lambda rows: ended(rows, 2))
    began = moment(runs(live, quick)[0]["started_at"])
    first = until(live, slow, lambda rows: rows[0]["completed_at"])[0]
    assert began < moment(first["completed_at"])


def test_what_queues_runs_one_after_another(live: Live) -> None:
    schedule_id = make(live, "import time\ntime.sleep(1.5)", overlap_policy="QUEUE")
    rows = until(live, schedule_id, lambda rows: ended(rows, 3))
    done = [row for row in rows if row["completed_at"]]
    for first, second in pairwise(done):
        assert moment(second["started_at"] or second["completed_at"]) >= moment(first["completed_at"])
    left = [row for row in runs(live, schedule_id) if row["skip_reason"] == "disabled"]
    assert all(row["status"] == "CANCELLED" for row in left)
    assert not [row for row in runs(live, schedule_id) if row["status"] == "PENDING"]


def test_the_next_run_takes_the_place_of_the_last_one(live: Live) -> None:
    schedule_id = make(live, "import time\ntime.sleep(60)", interval_seconds=2, overlap_policy="CANCEL_OTHER")
    rows = until(live, schedule_id, lambda rows: len([row for row in rows if row["started_at"]]) >= 2)
    first, second = [row for row in rows if row["started_at"]][:2]
    assert first["status"] == "CANCELLED"
    assert moment(second["started_at"]) >= moment(first["completed_at"])
    assert live.get(first["execution_id"])["status"] == "cancelled"
    live.stop(second["execution_id"])


def test_run_now_overlays_the_parameters_and_leaves_the_times_alone(live: Live) -> None:
    script = "import sys\nprint(sys.argv[1:])"
    schedule_id = make(live, script, cron_expression="0 0 1 1 *", enabled=False)
    answer = live.http.post(f"{PATH}/{schedule_id}/run-now", json={"target_params": {"args": ["over"]}})
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert body["target_type"] == "EXECUTION"
    assert answer.headers["location"] == f"/api/v1/executions/{body['run_id']}"
    assert live.ended(body["run_id"])["stdout"] == "['over']\n"
    (row,) = until(live, schedule_id, ended)
    assert (row["id"], row["trigger"], row["status"]) == (body["schedule_run_id"], "MANUAL", "COMPLETED")
    seen = live.http.get(f"{PATH}/{schedule_id}").json()
    assert (seen["next_run_at"], seen["enabled"], seen["run_count"]) == (None, False, 1)
    wrong = live.http.post(f"{PATH}/{schedule_id}/run-now", json={"params": {"timeout_seconds": "soon"}})
    problem(wrong, 422, "validation_failed")


def test_a_date_fires_once_and_disables_itself(live: Live) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    schedule_id = make(live, run_at=soon.isoformat())
    (row,) = until(live, schedule_id, ended)
    assert abs(moment(row["scheduled_at"]) - soon) < timedelta(milliseconds=1)
    seen = live.http.get(f"{PATH}/{schedule_id}").json()
    assert (seen["enabled"], seen["next_run_at"], seen["schedule_type"]) == (False, None, "date")
    problem(live.http.post(f"{PATH}/{schedule_id}/enable"), 409, "run_at_passed")
    past = {"start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z"}
    problem(live.http.post(f"{PATH}/{schedule_id}/backfill", json=past), 409, "not_repeating")


def test_the_past_is_filled_in_oldest_first_and_only_once(live: Live) -> None:
    schedule_id = make(
        live, "import os\nprint(os.environ['RGRID_SCHEDULED_AT'])", cron_expression="0 6 * * *", enabled=False
    )
    path, asked = f"{PATH}/{schedule_id}/backfill", {"start": "2026-01-01T06:00:00Z", "end": "2026-01-04T06:00:00Z"}
    dry = live.http.post(path, json={**asked, "dry_run": True}).json()
    assert dry["occurrences"] == [f"2026-01-0{day}T06:00:00Z" for day in (1, 2, 3)]
    assert (dry["count"], dry["skipped"], dry["schedule_run_ids"]) == (3, 0, [])
    assert runs(live, schedule_id) == []
    body = live.http.post(path, json=asked).json()
    assert body["count"] == 3
    rows = until(live, schedule_id, lambda rows: ended(rows, 3))
    assert [row["id"] for row in rows] == body["schedule_run_ids"]
    assert {(row["status"], row["trigger"]) for row in rows} == {("COMPLETED", "BACKFILL")}
    for first, second in pairwise(rows):
        assert moment(second["started_at"]) >= moment(first["completed_at"])
    assert live.get(rows[0]["execution_id"])["stdout"].strip() == "2026-01-01T06:00:00Z"
    again = live.http.post(path, json=asked).json()
    assert (again["count"], again["skipped"]) == (0, 3)
    forced = live.http.post(path, json={**asked, "force": True, "max_parallel": 3}).json()
    assert forced["count"] == 3
    until(live, schedule_id, lambda rows: ended(rows, 6))


def test_a_target_that_cannot_begin_is_a_failed_run_with_the_reason(live: Live) -> None:
    schedule_id = make(live)
    until(live, schedule_id, ended)
    # What a schedule holds was right when it was made; the input is gone by the time it fires.
    missing = {"script_content": "print(1)", "inputs": {"a.txt": {"execution_id": "exec_gone", "filename": "a.txt"}}}
    revised = live.http.patch(f"{PATH}/{schedule_id}", json={"target_params": missing, "enabled": True})
    assert revised.status_code == 200, revised.text
    rows = until(live, schedule_id, lambda rows: any(row["status"] == "FAILED" for row in rows))
    failed = next(row for row in rows if row["status"] == "FAILED")
    assert "exec_gone" in failed["error"]
    assert (failed["started_at"], failed["execution_id"]) == (None, None)
