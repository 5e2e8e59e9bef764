"""Schedules, what is due of them and how their runs went, from the events they leave."""

import asyncio
from typing import Any

import pytest
from projected import projected, read_model, recorded
from schedule_lives import (
    NOON,
    S1,
    at,
    created,
    ended,
    fired,
    missed,
    on,
    run_id,
    skipped,
    started,
)

from projections import schedule_names, schedules
from projections.schedules import PROJECTION, Due, Filter
from rgrid.kernel.messages import Event
from rgrid.postgres.paging import Window
from rgrid.schedules.events import (
    Exclusion,
    Rules,
    ScheduleDeleted,
    ScheduleDisabled,
    ScheduleEnabled,
    ScheduleRevised,
    Target,
    Timing,
)

STANDING = (
    "select enabled, next_run_at, last_run_at, last_run_status, run_count, success_count, failure_count,"
    " consecutive_failures, version from schedules"
)
DISABLED = ScheduleDisabled(disabled_by="key:k", note="a freeze", dropped=[run_id(2)], disabled_at=at(3))
ENABLED = ScheduleEnabled(enabled_by="key:k", enabled_at=at(10), next_due_at=at(11))
DELETED = ScheduleDeleted(deleted_by="key:k", deleted_at=at(20))


def row(database: str, *events: Event, query: str = STANDING) -> dict[str, Any]:
    (found,) = projected(database, PROJECTION, on(S1, *events), query)
    return found


def revised(minutes: float, timing: Timing, **more: Any) -> ScheduleRevised:
    given = {"target": Target(type="WORKFLOW", name="load"), "rules": Rules(), "retimed": True}
    return ScheduleRevised(
        timing=timing, revised_by="key:k", revised_at=at(minutes), **{**given, "next_due_at": at(minutes + 1), **more}
    )


def test_a_new_schedule_waits_for_its_first_due_time(database: str) -> None:
    made = created(timing=Timing(cron="0 6 * * 1", exclusions=[Exclusion(first="2026-12-24", last="2026-12-26")]))
    found = row(database, made, query="select name, cron, exclusions, next_run_at, run_count, version from schedules")
    assert found["cron"] == "0 6 * * 1"
    assert "2026-12-24" in found["exclusions"]
    assert found["next_run_at"] == at(1)
    assert (found["run_count"], found["version"]) == (0, 1)


def test_the_counters_follow_the_runs_to_their_ends(database: str) -> None:
    past = [created(), fired(1), started(1), ended(1), fired(2), started(2), ended(2, "PARTIAL"), fired(3), started(3)]
    found = row(database, *past)
    assert found["next_run_at"] == at(4)
    assert (found["last_run_at"], found["last_run_status"]) == (at(3), "RUNNING")
    assert (found["run_count"], found["success_count"], found["failure_count"]) == (3, 1, 1)
    assert found["consecutive_failures"] == 1
    found = row(database, *past, ended(3, "FAILED"))
    assert (found["last_run_status"], found["failure_count"], found["consecutive_failures"]) == ("FAILED", 2, 2)
    found = row(database, *past, ended(3))
    assert (found["last_run_status"], found["success_count"], found["consecutive_failures"]) == ("COMPLETED", 2, 0)


def test_a_cancelled_run_is_neither_a_success_nor_a_failure(database: str) -> None:
    past = [created(), fired(1), started(1), ended(1, "FAILED"), fired(2), started(2), ended(2, "CANCELLED")]
    found = row(database, *past)
    assert (found["success_count"], found["failure_count"], found["consecutive_failures"]) == (0, 1, 1)
    assert found["last_run_status"] == "CANCELLED"


def test_an_older_run_that_ends_later_does_not_speak_for_the_last_one(database: str) -> None:
    found = row(database, created(), fired(1), started(1), fired(2), started(2), ended(1, "FAILED", after=5))
    assert (found["last_run_at"], found["last_run_status"]) == (at(2), "RUNNING")
    assert found["failure_count"] == 1


def test_a_run_that_could_not_begin_is_the_last_one(database: str) -> None:
    past = [created(), fired(1), started(1), ended(1), fired(2), ended(2, "FAILED", after=0, error="no money")]
    found = row(database, *past)
    assert (found["last_run_at"], found["last_run_status"]) == (at(2), "FAILED")
    assert (found["run_count"], found["failure_count"]) == (2, 1)


def test_what_is_skipped_or_missed_moves_on_without_a_run(database: str) -> None:
    found = row(database, created(), skipped(1))
    assert (found["next_run_at"], found["run_count"], found["last_run_status"]) == (at(2), 0, None)
    found = row(database, created(), missed(1, 2, 3))
    assert (found["next_run_at"], found["run_count"]) == (at(13), 0)


def test_a_run_that_somebody_asked_for_leaves_the_next_due_time_alone(database: str) -> None:
    for trigger in ("MANUAL", "BACKFILL"):
        found = row(database, created(), fired(0.5, trigger=trigger, next_due_at=at(1)))
        assert (found["next_run_at"], found["run_count"]) == (at(1), 1)


def test_disabling_says_why_and_enabling_forgets_it(database: str) -> None:
    query = "select enabled, note, next_run_at, waiting, updated_at from schedules"
    found = row(database, created(), fired(1), fired(2), DISABLED, query=query)
    assert (found["enabled"], found["note"], found["next_run_at"]) == (False, "a freeze", None)
    assert found["waiting"] == f'["{run_id(1)}"]'
    assert found["updated_at"] == at(3)
    found = row(database, created(), DISABLED, ENABLED, query=query)
    assert (found["enabled"], found["note"], found["next_run_at"]) == (True, None, at(11))


def test_a_changed_interval_counts_from_its_change_and_any_other_from_before(database: str) -> None:
    query = "select anchored_at, interval_s, timezone, next_run_at from schedules"
    found = row(database, created(), revised(5, Timing(interval_s=60, timezone="Asia/Tokyo")), query=query)
    assert (found["anchored_at"], found["timezone"]) == (NOON, "Asia/Tokyo")
    found = row(database, created(), revised(5, Timing(interval_s=30)), query=query)
    assert (found["anchored_at"], found["interval_s"], found["next_run_at"]) == (at(5), 30, at(6))


def test_due_schedules_come_oldest_first_in_pages(database: str) -> None:
    async def due() -> tuple[list[str], list[str], float, list[str]]:
        given = [
            *on("sched_b", created("sched_b", next_due_at=at(2))),
            *on("sched_a", created("sched_a", next_due_at=at(2))),
            *on("sched_c", created("sched_c", next_due_at=at(1))),
            *on("sched_d", created("sched_d", next_due_at=at(9))),
            *on("sched_e", created("sched_e", next_due_at=None, enabled=False)),
            *on("sched_f", created("sched_f", next_due_at=at(1)), DELETED),
        ]
        async with read_model(database, PROJECTION, given) as connection:
            first = await schedules.due(connection, at(3))
            rest = await schedules.due(connection, at(3), Due(schedule_id="sched_c", due_at=at(1)))
            lag_s = await schedules.lag_s(connection, at(3))
            soonest = await schedules.soonest(connection, 10)
            return (
                [one.schedule_id for one in first],
                [one.schedule_id for one in rest],
                lag_s,
                [one["schedule_id"] for one in soonest],
            )

    first, rest, lag_s, soonest = asyncio.run(due())
    assert first == ["sched_c", "sched_a", "sched_b"]
    assert rest == ["sched_a", "sched_b"]
    assert lag_s == 120
    assert soonest == [*first, "sched_d"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), ["sched_a", "sched_b", "sched_c"]),
        (Filter(enabled=False), ["sched_b"]),
        (Filter(target_type="EXECUTION"), ["sched_c"]),
        (Filter(target_type="WORKFLOW", target_name="load"), ["sched_a", "sched_b"]),
        (Filter(tag="eu"), ["sched_b", "sched_c"]),
        (Filter(tag="eu", enabled=True), ["sched_c"]),
    ],
)
def test_the_list_is_narrowed_by_every_filter_and_leaves_deleted_ones_out(
    database: str, wanted: Filter, found: list[str]
) -> None:
    async def listed() -> tuple[list[str], int]:
        given = [
            *on("sched_a", created("sched_a", tags=["us"])),
            *on("sched_b", created("sched_b", tags=["eu", "us"], enabled=False, next_due_at=None)),
            *on("sched_c", created("sched_c", tags=["eu"], target=Target(type="EXECUTION", name="load"))),
            *on("sched_d", created("sched_d", tags=["eu"]), DELETED),
        ]
        window = Window(keys=(schedules.KEYS["name"], schedules.KEYS["schedule_id"]), descending=False)
        async with read_model(database, PROJECTION, given) as connection:
            rows = await schedules.page(connection, wanted, window)
            return [row["schedule_id"] for row in rows.rows], rows.total

    assert asyncio.run(listed()) == (found, len(found))


def test_folding_the_stream_gives_the_row(database: str) -> None:
    past = [created(), fired(1), started(1), ended(1), DISABLED, ENABLED, revised(12, Timing(cron="@daily")), fired(13)]

    async def rows() -> tuple[Any, Any]:
        given = recorded(on(S1, *past))
        async with read_model(database, PROJECTION, given) as connection:
            return await schedules.get(connection, S1), schedules.fold(given)

    kept, folded = asyncio.run(rows())
    assert {**kept, "waiting": [run_id(13)], "anchored_at": None} == {**folded, "anchored_at": None}
    assert schedules.fold(recorded(on(S1, created(), DELETED))) is None
    assert schedules.fold([]) is None


def test_a_name_is_taken_until_its_schedule_is_deleted(database: str) -> None:
    names = "select schedule_id from schedule_names where name = 'one'"
    taken = projected(database, schedule_names.PROJECTION, on(S1, created(name="one")), names)
    assert taken == [{"schedule_id": S1}]
    given = [*on(S1, created(name="one"), DELETED), *on("sched_2", created("sched_2", name="one"))]
    assert projected(database, schedule_names.PROJECTION, given, names) == [{"schedule_id": "sched_2"}]
