"""Schedules as clients make, read, change and remove them; nothing here runs for long enough to fire."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import httpx
import pytest
from api.one_service import Live, fields, moment, problem

PATH = "/api/v1/schedules"
SCRIPT = {"script_content": "print(1)"}
_names = count(1)


def create(live: Live, **body: Any) -> httpx.Response:
    times = {} if {"cron_expression", "run_at", "interval_seconds"} & body.keys() else {"cron_expression": "0 6 * * 1"}
    given = {"name": f"made-{next(_names)}", "target_type": "EXECUTION", "target_name": "job", **times}
    params = {} if {"params", "target_params"} & body.keys() else {"target_params": SCRIPT}
    return live.http.post(PATH, json={**given, **params, **body})


def made(live: Live, **body: Any) -> dict[str, Any]:
    answer = create(live, **body)
    assert answer.status_code == 201, answer.text
    return get(live, answer.json()["id"])


def get(live: Live, schedule_id: str, **query: Any) -> dict[str, Any]:
    answer = live.http.get(f"{PATH}/{schedule_id}", params=query)
    assert answer.status_code == 200, answer.text
    schedule: dict[str, Any] = answer.json()
    return schedule


def patch(live: Live, schedule_id: str, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    return live.http.patch(f"{PATH}/{schedule_id}", json=body, headers=headers)


def test_a_schedule_is_made_with_every_default_and_counts_from_now(idle: Live) -> None:
    answer = create(idle, name="every.default", timezone="America/New_York")
    assert answer.status_code == 201
    body = answer.json()
    assert body["status"] == "enabled"
    assert answer.headers["location"] == f"{PATH}/{body['id']}"
    assert int(answer.headers["rgrid-position"]) > 0
    seen = get(idle, body["id"])
    assert seen["schedule_type"] == "cron"
    assert seen["target_params"] == SCRIPT
    defaults = {
        "enabled": True, "max_instances": 1, "overlap_policy": "SKIP", "misfire_policy": "FIRE_ONCE",
        "dst_gap": "SHIFT", "dst_fold": "FIRST", "jitter_seconds": 0, "misfire_grace_seconds": 60,
        "catch_up_limit": 10, "start_at": None, "end_at": None, "description": None, "tags": [], "last_run_at": None,
        "last_run_status": None, "run_count": 0, "success_count": 0, "failure_count": 0, "consecutive_failures": 0,
    }  # fmt: skip
    assert {name: seen[name] for name in defaults} == defaults
    due = moment(seen["next_run_at"])
    assert due > datetime.now(UTC)
    assert (due.weekday(), due.minute) == (0, 0), "a Monday"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("workflow", None), ("PIPELINE", None), ("execution", "EXECUTION"), ("Command", "EXECUTION")],
)
def test_target_types_come_in_any_case_and_under_their_old_names(idle: Live, given: str, wanted: str | None) -> None:
    answer = create(idle, target_type=given)
    if wanted is None:
        problem(answer, 400, "unknown_target")
    else:
        assert get(idle, answer.json()["id"])["target_type"] == wanted


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"target_type": "WORKFLOW", "target_name": "nowhere"}, 400, "unknown_target"),
        ({"target_type": "SOURCE", "target_name": "nowhere"}, 400, "unknown_target"),
        ({"target_type": "NOTHING"}, 422, "validation_failed"),
        ({"target_params": {"script_content": "print(1)", "cpu": "many"}}, 400, "invalid_template"),
        ({"target_params": {}}, 400, "invalid_template"),
        ({"params": SCRIPT, "target_params": {"script_content": "print(2)"}}, 400, "conflicting_params"),
        ({"cron_expression": "61 * * * *"}, 400, "bad_cron"),
        ({"cron_expression": "0 0 30 2 *"}, 400, "bad_cron"),
        ({"timezone": "Mars/Olympus"}, 400, "bad_timezone"),
        ({"cron_expression": "* * * * *", "interval_seconds": 60}, 400, "bad_timing"),
        ({"cron_expression": "* * * * *", "schedule_type": "interval"}, 400, "bad_timing"),
        ({"run_at": "2001-01-01T00:00:00Z"}, 400, "bad_timing"),
        ({"run_at": "2101-01-01T00:00:00"}, 422, "validation_failed"),
        ({"interval_seconds": 0}, 422, "validation_failed"),
        ({"max_instances": 101}, 422, "validation_failed"),
        ({"name": "preview"}, 400, "reserved_name"),
        ({"name": "with blanks"}, 422, "validation_failed"),
        ({"exclusions": [{"first": "2026-02-30"}]}, 400, "bad_exclusion"),
        ({"exclusions": [{"first": "2026-03-02", "last": "2026-03-01"}]}, 400, "bad_exclusion"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_code(idle: Live, body: Any, status: int, code: str) -> None:
    answer = create(idle, **body)
    problem(answer, status, code)
    assert fields(answer)


def test_no_times_at_all_are_refused(idle: Live) -> None:
    body = {"name": "timeless", "target_type": "EXECUTION", "target_name": "x", "params": SCRIPT}
    problem(idle.http.post(PATH, json=body), 400, "bad_timing")


def test_a_name_is_taken_until_its_schedule_is_gone(idle: Live) -> None:
    first = made(idle, name="taken.once")
    problem(create(idle, name="taken.once"), 409, "duplicate_name")
    assert made(idle, name="Taken.once")["name"] == "Taken.once"
    assert idle.http.delete(f"{PATH}/{first['id']}").json()["status"] == "deleted"
    problem(idle.http.get(f"{PATH}/{first['id']}"), 404, "not_found")
    problem(idle.http.delete(f"{PATH}/{first['id']}"), 404, "not_found")
    assert idle.page(f"{PATH}/{first['id']}/runs")["data"] == [], "history stays readable"
    assert made(idle, name="taken.once")["id"] != first["id"]


def test_the_same_key_makes_one_schedule(idle: Live) -> None:
    body = {"name": "one.only", "target_type": "EXECUTION", "target_name": "x", "interval_seconds": 60}
    headers = {"Idempotency-Key": "made-once"}
    answers = [idle.http.post(PATH, json={**body, "params": SCRIPT}, headers=headers) for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert answers[1].headers["idempotency-replayed"] == "true"


def test_a_change_keeps_what_it_leaves_out_and_a_null_clears(idle: Live) -> None:
    before = made(idle, description="first", tags=["a"], pause_after_failures=3)
    after = patch(idle, before["id"], tags=["b", "c"], description=None, pause_after_failures=None).json()
    changed = {"tags": ["b", "c"], "description": None, "pause_after_failures": None}
    assert after == {**before, **changed, "version": after["version"], "updated_at": after["updated_at"]}
    assert after["version"] > before["version"]
    same = patch(idle, before["id"], tags=["b", "c"])
    assert same.json()["version"] == after["version"], "nothing changed, nothing written"
    assert "rgrid-position" not in same.headers
    refused = patch(idle, before["id"], timezone=None, overlap_policy=None, tags=None)
    problem(refused, 422, "validation_failed")
    assert fields(refused) == {"timezone", "overlap_policy", "tags"}
    problem(patch(idle, before["id"], name="other"), 422, "validation_failed")
    problem(patch(idle, "sched_nowhere", tags=[]), 404, "not_found")


def test_new_times_count_from_now_and_the_type_can_change(idle: Live) -> None:
    schedule = made(idle, interval_seconds=3600)
    assert schedule["schedule_type"] == "interval"
    began = datetime.now(UTC)
    shorter = patch(idle, schedule["id"], interval_seconds=1800).json()
    assert moment(shorter["next_run_at"]) >= began + timedelta(seconds=1800)
    problem(patch(idle, schedule["id"], cron_expression="@daily"), 400, "bad_timing")
    daily = patch(idle, schedule["id"], interval_seconds=None, cron_expression="@daily").json()
    assert (daily["schedule_type"], daily["interval_seconds"]) == ("cron", None)
    over = patch(idle, schedule["id"], end_at="2020-01-01T00:00:00Z").json()
    assert over["next_run_at"] is None


def test_a_version_that_is_not_the_present_one_changes_nothing(idle: Live) -> None:
    schedule = made(idle)
    stale = {"If-Match": '"99"'}
    problem(patch(idle, schedule["id"], stale, tags=["x"]), 412, "version_mismatch")
    problem(idle.http.delete(f"{PATH}/{schedule['id']}", headers=stale), 412, "version_mismatch")
    right = {"If-Match": f'"{schedule["version"]}"'}
    assert patch(idle, schedule["id"], right, tags=["x"]).status_code == 200
    seen = idle.http.get(f"{PATH}/{schedule['id']}")
    assert seen.json()["tags"] == ["x"]
    unchanged = idle.http.get(f"{PATH}/{schedule['id']}", headers={"If-None-Match": seen.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


def test_everything_of_a_schedule_changes_at_once_or_not_at_all(idle: Live) -> None:
    schedule = made(idle)
    off = patch(idle, schedule["id"], enabled=False, interval_seconds=60, cron_expression=None).json()
    assert (off["enabled"], off["next_run_at"], off["interval_seconds"]) == (False, None, 60)
    problem(patch(idle, schedule["id"], enabled=True, timezone="Nowhere"), 400, "bad_timezone")
    assert get(idle, schedule["id"])["enabled"] is False


def test_disabling_takes_a_note_and_says_when_it_is_so_already(idle: Live) -> None:
    schedule_id = made(idle)["id"]
    first = idle.http.post(f"{PATH}/{schedule_id}/disable", json={"note": "until the move is over"})
    assert first.json()["status"] == "disabled"
    seen = get(idle, schedule_id)
    assert (seen["enabled"], seen["note"], seen["next_run_at"]) == (False, "until the move is over", None)
    again = idle.http.post(f"{PATH}/{schedule_id}/disable")
    assert (again.status_code, "rgrid-position" in again.headers) == (200, False)
    assert idle.http.post(f"{PATH}/{schedule_id}/enable").json()["status"] == "enabled"
    seen = get(idle, schedule_id)
    assert (seen["note"], seen["next_run_at"] is None) == (None, False)


def test_the_past_shows_as_it_was(idle: Live) -> None:
    answer = create(idle, tags=["as-of"])
    schedule_id, position = answer.json()["id"], answer.headers["rgrid-position"]
    patch(idle, schedule_id, tags=["later"])
    assert get(idle, schedule_id, as_of=position)["tags"] == ["as-of"]
    idle.http.delete(f"{PATH}/{schedule_id}")
    earlier = idle.http.get(f"{PATH}/{schedule_id}", params={"as_of": position})
    assert earlier.headers["rgrid-as-of-position"] == position
    assert "etag" not in earlier.headers
    page = idle.page(PATH, as_of=position, tag="as-of")
    assert [row["id"] for row in page["data"]] == [schedule_id]
    before = idle.http.get(f"{PATH}/{schedule_id}", params={"as_of": int(position) - 1})
    problem(before, 404, "not_found")


def test_lists_are_filtered_sorted_and_paged(idle: Live) -> None:
    tag = f"tag-{next(_names)}"
    ids = [made(idle, name=f"{tag}-{letter}", tags=[tag], interval_seconds=3600)["id"] for letter in "cab"]
    idle.http.post(f"{PATH}/{ids[0]}/disable")

    def names(**query: Any) -> list[str]:
        return [row["name"][-1] for row in idle.page(PATH, tag=tag, **query)["data"]]

    assert names(sort="name", order="asc") == ["a", "b", "c"]
    assert names() == ["b", "a", "c"]
    assert names(enabled="false") == ["c"]
    assert names(sort="next_run_at", order="asc") == ["a", "b", "c"], "what has none comes last"
    assert names(target_type="command", target_name="job", enabled="1", order="asc") == ["a", "b"]
    first = idle.page(PATH, tag=tag, limit=2)
    rest = idle.page(PATH, tag=tag, limit=2, cursor=first["pagination"]["next_cursor"])
    assert [row["name"][-1] for row in first["data"] + rest["data"]] == ["b", "a", "c"]
    assert first["pagination"]["total"] == 3
    problem(idle.http.get(PATH, params={"target_type": "NOTHING"}), 422, "validation_failed")
    problem(idle.http.get(PATH, params={"nothing": "1"}), 422, "unknown_parameter")
    assert idle.page(f"{PATH}/runs", schedule_id=ids[0])["data"] == []
    problem(idle.http.get(f"{PATH}/sched_nowhere/runs"), 404, "not_found")


def test_reading_is_enough_for_previews_and_not_for_changes(idle: Live) -> None:
    reader = idle.key("read")
    schedule_id = made(idle)["id"]
    body = {"cron_expression": "@hourly"}
    assert idle.call("POST", f"{PATH}/preview", reader, json=body).status_code == 200
    assert idle.call("GET", f"{PATH}/{schedule_id}", reader).status_code == 200
    for method, sub in (("POST", "/run-now"), ("POST", "/disable"), ("DELETE", "")):
        problem(idle.call(method, f"{PATH}/{schedule_id}{sub}", reader), 403, "scope_missing")
