"""When schedules are due next, saved or not, with the marks of clocks that change."""

from itertools import count
from typing import Any

import pytest
from api.one_service import Live, problem

PATH = "/api/v1/schedules"
NEW_YORK = "America/New_York"
_names = count(1)


def preview(live: Live, **body: Any) -> list[dict[str, Any]]:
    answer = live.http.post(f"{PATH}/preview", json=body)
    assert answer.status_code == 200, answer.text
    page = answer.json()
    asked = body.get("count", 5)
    assert (page["pagination"]["offset"], page["pagination"]["limit"]) == (0, asked)
    data: list[dict[str, Any]] = page["data"]
    return data


def due(live: Live, expression: str, after: str, **body: Any) -> list[str]:
    rows = preview(live, cron_expression=expression, timezone=NEW_YORK, after=after, **body)
    return [row["next_run_at"][:16] for row in rows]


@pytest.mark.parametrize(
    ("expression", "after", "wanted"),
    [
        ("0 6 * * 1", "2026-03-01T00:00:00Z", ["2026-03-02T11:00", "2026-03-09T10:00"]),
        ("30 2 * * *", "2026-03-07T12:00:00Z", ["2026-03-08T07:00", "2026-03-09T06:30"]),
        ("30 1 * * *", "2026-11-01T04:00:00Z", ["2026-11-01T05:30", "2026-11-02T06:30"]),
        ("*/30 * * * *", "2026-11-01T04:59:00Z", ["2026-11-01T05:00", "2026-11-01T05:30", "2026-11-01T06:00",
                                                  "2026-11-01T06:30", "2026-11-01T07:00"]),
        ("0 */6 * * *", "2026-11-01T03:00:00Z", ["2026-11-01T04:00", "2026-11-01T11:00", "2026-11-01T17:00",
                                                 "2026-11-01T23:00"]),
    ],
)  # fmt: skip
def test_the_worked_examples_hold(idle: Live, expression: str, after: str, wanted: list[str]) -> None:
    assert due(idle, expression, after, count=len(wanted)) == wanted


def test_times_that_a_clock_leaves_out_or_repeats_are_marked(idle: Live) -> None:
    gap = preview(idle, cron_expression="30 2 * * *", timezone=NEW_YORK, after="2026-03-07T12:00:00Z", count=2)
    assert [(row["local_time"], row["dst"]) for row in gap] == [
        ("2026-03-08T03:00:00-04:00", "gap"),
        ("2026-03-09T02:30:00-04:00", None),
    ]
    fold = preview(
        idle, cron_expression="30 1 * * *", timezone=NEW_YORK, after="2026-11-01T04:00:00Z", count=2, dst_fold="BOTH"
    )
    assert [(row["next_run_at"], row["dst"]) for row in fold] == [
        ("2026-11-01T05:30:00Z", "fold"),
        ("2026-11-01T06:30:00Z", "fold"),
    ]
    none = due(idle, "30 2 * * *", "2026-03-07T12:00:00Z", count=1, dst_gap="SKIP")
    assert none == ["2026-03-09T06:30"]


def test_days_that_are_left_out_are_not_due(idle: Live) -> None:
    holiday = [{"first": "2026-12-24", "last": "2026-12-26", "reason": "holidays"}]
    rows = preview(idle, cron_expression="0 6 * * *", after="2026-12-23T00:00:00Z", count=2, exclusions=holiday)
    assert [row["next_run_at"] for row in rows] == ["2026-12-23T06:00:00Z", "2026-12-27T06:00:00Z"]


def test_what_can_not_be_saved_can_not_be_previewed(idle: Live) -> None:
    def refused(code: str, **body: Any) -> None:
        problem(idle.http.post(f"{PATH}/preview", json=body), 400, code)

    refused("bad_cron", cron_expression="0 0 30 2 *")
    refused("bad_timezone", cron_expression="@daily", timezone="Nowhere/Land")
    refused("bad_timing")
    refused("bad_timing", interval_seconds=5, schedule_type="cron")
    problem(
        idle.http.post(f"{PATH}/preview", json={"cron_expression": "@daily", "count": 101}), 422, "validation_failed"
    )


def test_a_hundred_times_are_found_or_as_many_as_thirty_years_have(idle: Live) -> None:
    assert len(preview(idle, cron_expression="0 12 * * 1-5", timezone=NEW_YORK, count=100)) == 100
    assert 0 < len(preview(idle, cron_expression="0 0 29 2 *", timezone=NEW_YORK, count=100)) < 10


def make(live: Live, **body: Any) -> dict[str, Any]:
    given = {"name": f"next-{next(_names)}", "target_type": "EXECUTION", "target_name": "x"}
    answer = live.http.post(PATH, json={**given, "params": {"script_content": "print(1)"}, **body})
    assert answer.status_code == 201, answer.text
    schedule: dict[str, Any] = live.http.get(f"{PATH}/{answer.json()['id']}").json()
    return schedule


def test_the_next_runs_of_a_schedule_begin_with_its_next_one(idle: Live) -> None:
    schedule = make(idle, interval_seconds=3600)
    rows = idle.page(f"{PATH}/{schedule['id']}/next-runs", count=3)["data"]
    assert rows[0]["next_run_at"] == schedule["next_run_at"]
    assert len(rows) == 3
    assert {(row["schedule_id"], row["schedule_name"]) for row in rows} == {(schedule["id"], schedule["name"])}
    idle.http.post(f"{PATH}/{schedule['id']}/disable")
    assert idle.page(f"{PATH}/{schedule['id']}/next-runs")["data"] == []
    problem(idle.http.get(f"{PATH}/sched_nowhere/next-runs"), 404, "not_found")


def test_what_is_due_next_comes_from_all_enabled_schedules_in_order(idle: Live) -> None:
    first, second = make(idle, interval_seconds=40), make(idle, interval_seconds=60)
    off = make(idle, interval_seconds=30, enabled=False)
    rows = idle.page(f"{PATH}/preview-next", count=50)["data"]
    times = [row["next_run_at"] for row in rows]
    assert times == sorted(times)
    seen = {row["schedule_id"] for row in rows}
    assert {first["id"], second["id"]} <= seen
    assert off["id"] not in seen
    only = idle.page(f"{PATH}/preview-next", count=2, schedule_id=second["id"])["data"]
    assert [row["schedule_id"] for row in only] == [second["id"]] * 2
    problem(idle.http.get(f"{PATH}/preview-next", params={"schedule_id": "sched_nowhere"}), 404, "not_found")
    for schedule in (first, second):
        idle.http.delete(f"{PATH}/{schedule['id']}")
