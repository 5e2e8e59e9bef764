"""What became of each due time, from the events of its schedule."""

import asyncio
from typing import Any

from projected import projected, read_model
from schedule_lives import S1, at, created, ended, fired, missed, on, run_id, skipped, started

from projections import schedule_runs
from projections.schedule_runs import PROJECTION, Filter
from rgrid.kernel.messages import Event
from rgrid.postgres.paging import Window
from rgrid.schedules.events import ScheduleDeleted, ScheduleDisabled, ScheduleRunReleased, Target

RUNS = "select * from schedule_runs order by scheduled_at"


def runs(database: str, *events: Event) -> list[dict[str, Any]]:
    return projected(database, PROJECTION, on(S1, created(), *events), RUNS)


def test_a_run_follows_its_target_to_the_end(database: str) -> None:
    (run,) = runs(database, fired(1))
    assert (run["status"], run["scheduled_at"], run["trigger"]) == ("PENDING", at(1), "SCHEDULE")
    (run,) = runs(database, fired(1), started(1, "run_7"))
    assert (run["status"], run["started_at"], run["target_id"]) == ("RUNNING", at(1), "run_7")
    (run,) = runs(database, fired(1), started(1, "run_7"), ended(1, "PARTIAL", error="two of three"))
    assert (run["status"], run["completed_at"], run["error"]) == ("PARTIAL", at(1.5), "two of three")


def test_what_could_not_begin_has_an_end_without_a_start(database: str) -> None:
    (run,) = runs(database, fired(1), ended(1, "FAILED", error="The monthly limit is reached."))
    assert (run["status"], run["started_at"], run["target_id"]) == ("FAILED", None, None)
    assert run["error"] == "The monthly limit is reached."


def test_skipped_times_say_why(database: str) -> None:
    (run,) = runs(database, skipped(1, reason="queue_full"))
    assert (run["status"], run["skip_reason"], run["completed_at"]) == ("SKIPPED", "queue_full", at(1))


def test_every_missed_time_has_a_row_and_the_first_counts_the_others(database: str) -> None:
    rows = runs(database, missed(1, 2, 3))
    assert [(row["status"], row["scheduled_at"], row["skip_reason"]) for row in rows] == [
        ("MISSED", at(minute), "misfire") for minute in (1, 2, 3)
    ]
    rows = runs(database, missed(5, 6, more=1234))
    assert [row["skip_reason"] for row in rows] == ["misfire, as were 1234 times before it", "misfire"]


def test_a_backfill_shows_all_its_times_and_then_what_becomes_of_each(database: str) -> None:
    first, second = run_id(-2, "b1"), run_id(-1, "b1")
    asked = [
        fired(-2, schedule_run_id=first, trigger="BACKFILL", backfill_id="b1"),
        fired(-1, schedule_run_id=second, trigger="BACKFILL", backfill_id="b1", decision="buffered"),
    ]
    rows = runs(database, *asked)
    assert [(row["status"], row["trigger"], row["start_at"]) for row in rows] == [
        ("PENDING", "BACKFILL", at(-2)),
        ("PENDING", "BACKFILL", None),
    ]
    released = ScheduleRunReleased(schedule_run_id=second, start_at=at(0), released_at=at(0))
    rows = runs(database, *asked, started(-2, run=first), ended(-2, run=first), released)
    assert [(row["status"], row["start_at"]) for row in rows] == [("COMPLETED", at(-2)), ("PENDING", at(0))]
    assert {row["backfill_id"] for row in rows} == {"b1"}


def test_what_is_put_off_is_found_when_its_time_comes_and_what_was_forgotten_a_while_later(database: str) -> None:
    given = on(S1, created(), fired(1, start_at=at(2)), fired(1.5), fired(1.7, decision="buffered"), fired(3))

    async def asked(moment: float, longest: float) -> list[tuple[str, str]]:
        async with read_model(database, PROJECTION, given) as connection:
            return await schedule_runs.late(connection, at(moment), at(longest))

    assert asyncio.run(asked(1.9, 1)) == []
    assert asyncio.run(asked(2, 1)) == [(S1, run_id(1))]
    assert asyncio.run(asked(2, 1.5)) == [(S1, run_id(1.5)), (S1, run_id(1))]


def test_what_waits_when_a_schedule_stops_is_dropped_with_the_reason(database: str) -> None:
    stopped = ScheduleDisabled(disabled_by="key:k", dropped=[run_id(2)], disabled_at=at(3))
    rows = runs(database, fired(1), started(1), fired(2, decision="buffered"), stopped)
    assert [(row["status"], row["skip_reason"]) for row in rows] == [("RUNNING", None), ("CANCELLED", "disabled")]
    gone = ScheduleDeleted(deleted_by="key:k", dropped=[run_id(1)], deleted_at=at(3))
    (run,) = runs(database, fired(1), gone)
    assert (run["status"], run["skip_reason"], run["completed_at"]) == ("CANCELLED", "deleted", at(3))


def test_lists_are_narrowed_by_schedule_status_trigger_and_time(database: str) -> None:
    given = [
        *on(S1, created(), fired(1), started(1), ended(1), skipped(2), fired(3, trigger="MANUAL")),
        *on("sched_2", created("sched_2", target=Target(type="EXECUTION", name="x"))),
        *on("sched_2", fired(2, schedule_run_id=run_id(2, "", "sched_2"))),
    ]
    window = Window(keys=(schedule_runs.KEYS["scheduled_at"], schedule_runs.KEYS["schedule_run_id"]))

    async def listed() -> list[Any]:
        async with read_model(database, PROJECTION, given) as connection:

            async def page(**wanted: Any) -> Any:
                rows = await schedule_runs.page(connection, Filter(**wanted), window)
                assert rows.total == len(rows.rows)
                return [(row["schedule_id"], row["scheduled_at"]) for row in rows.rows]

            found = [
                await page(),
                await page(schedule_id=S1),
                await page(status="PENDING"),
                await page(trigger="MANUAL"),
                await page(since=at(2), until=at(3)),
            ]
            rows = await schedule_runs.page(connection, Filter(schedule_id="sched_2"), window)
            assert [(row["schedule_name"], row["target_type"]) for row in rows.rows] == [
                ("name of sched_2", "EXECUTION")
            ]
            assert await schedule_runs.is_known(connection, "sched_2")
            assert not await schedule_runs.is_known(connection, "sched_3")
            return found

    everything, one, pending, manual, between = asyncio.run(listed())
    assert sorted(everything) == [(S1, at(1)), (S1, at(2)), (S1, at(3)), ("sched_2", at(2))]
    assert one == [(S1, at(3)), (S1, at(2)), (S1, at(1))]
    assert sorted(pending) == [(S1, at(3)), ("sched_2", at(2))]
    assert manual == [(S1, at(3))]
    assert sorted(between) == [(S1, at(2)), ("sched_2", at(2))]


def test_a_backfill_leaves_out_what_is_done_or_under_way(database: str) -> None:
    given = on(
        S1, created(), fired(1), started(1), ended(1), fired(2), started(2), ended(2, "FAILED"), skipped(3), fired(4)
    )

    async def asked() -> Any:
        async with read_model(database, PROJECTION, given) as connection:
            return (
                await schedule_runs.done_or_under_way(connection, S1, at(0), at(9)),
                await schedule_runs.done_or_under_way(connection, S1, at(2), at(3)),
            )

    done, between = asyncio.run(asked())
    assert done == {at(1), at(4)}
    assert between == set()
