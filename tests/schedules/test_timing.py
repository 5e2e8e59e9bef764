"""When is a schedule due? The worked examples, clock changes, windows and exclusions."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from schedules.schedules_given import at

from rgrid.kernel.errors import Invalid
from rgrid.schedules.events import Exclusion, Timing
from rgrid.schedules.timing import check, count_due, due, latest_due, next_due, occurrences

NEW_YORK = "America/New_York"


def times(timing: Timing, after: str, count: int, anchor: str = "2026-01-01T00:00") -> list[str]:
    found = occurrences(timing, at(anchor), at(after), count)
    return [f"{one.at:%Y-%m-%dT%H:%MZ}{' ' + one.dst if one.dst else ''}" for one in found]


def cron(expression: str, timezone: str = NEW_YORK, **more: object) -> Timing:
    return Timing(cron=expression, timezone=timezone, **more)  # type: ignore[arg-type]


def test_monday_at_six_stays_monday_at_six_when_summer_comes() -> None:
    assert times(cron("0 6 * * 1"), "2026-03-01T00:00", 2) == ["2026-03-02T11:00Z", "2026-03-09T10:00Z"]


def test_monday_at_six_is_monday_at_six_the_whole_year() -> None:
    found = occurrences(cron("0 6 * * 1"), at("10:00"), at("2026-01-01T00:00"), 52)
    locals_ = [datetime.fromisoformat(one.local_time) for one in found]
    assert {(local.isoweekday(), local.hour, local.minute) for local in locals_} == {(1, 6, 0)}
    assert [later.date() - former.date() for former, later in pairwise(locals_)] == [timedelta(days=7)] * 51


def test_a_time_in_the_gap_is_due_at_the_first_instant_after_it() -> None:
    assert times(cron("30 2 * * *"), "2026-03-07T12:00", 2) == ["2026-03-08T07:00Z gap", "2026-03-09T06:30Z"]


def test_several_times_in_one_gap_are_due_once() -> None:
    assert times(cron("0,20,40 2 * * *"), "2026-03-07T12:00", 2) == ["2026-03-08T07:00Z gap", "2026-03-09T06:00Z"]
    assert times(cron("0 2,3 * * *"), "2026-03-07T12:00", 2) == ["2026-03-08T07:00Z", "2026-03-09T06:00Z"]


def test_a_time_in_the_gap_may_be_dropped() -> None:
    assert times(cron("30 2 * * *", dst_gap="SKIP"), "2026-03-07T12:00", 1) == ["2026-03-09T06:30Z"]


def test_a_time_that_comes_twice_is_due_the_first_time() -> None:
    assert times(cron("30 1 * * *"), "2026-11-01T00:00", 2) == ["2026-11-01T05:30Z fold", "2026-11-02T06:30Z"]
    assert times(cron("30 1 * * *"), "2026-11-01T05:30", 1) == ["2026-11-02T06:30Z"]


def test_a_time_that_comes_twice_may_be_due_the_last_time_or_both() -> None:
    last = times(cron("30 1 * * *", dst_fold="LAST"), "2026-11-01T00:00", 2)
    assert last == ["2026-11-01T06:30Z fold", "2026-11-02T06:30Z"]
    both = times(cron("0,30 1 * * *", dst_fold="BOTH"), "2026-11-01T00:00", 4)
    assert both == [
        "2026-11-01T05:00Z fold",
        "2026-11-01T05:30Z fold",
        "2026-11-01T06:00Z fold",
        "2026-11-01T06:30Z fold",
    ]


def test_an_hour_of_star_follows_elapsed_time() -> None:
    found = times(cron("*/30 * * * *"), "2026-11-01T04:59", 5)
    assert [one[11:16] for one in found] == ["05:00", "05:30", "06:00", "06:30", "07:00"]
    assert times(cron("30 * * * *"), "2026-03-08T06:00", 2) == ["2026-03-08T06:30Z", "2026-03-08T07:30Z"]


def test_an_hour_with_a_step_follows_elapsed_time() -> None:
    found = times(cron("0 */6 * * *"), "2026-11-01T03:00", 4)
    assert [one[11:16] for one in found] == ["04:00", "11:00", "17:00", "23:00"]
    assert times(cron("0 */2 * * *"), "2026-03-08T05:00", 2) == ["2026-03-08T08:00Z", "2026-03-08T10:00Z"]


def test_day_of_month_and_day_of_week_that_are_both_restricted_match_either() -> None:
    found = occurrences(cron("0 0 13 * 5", "UTC"), at("10:00"), at("2026-01-01T00:00"), 60)
    days = [one.at for one in found]
    assert all(day.day == 13 or day.isoweekday() == 5 for day in days)
    assert {day.day for day in days if day.isoweekday() != 5} == {13}
    assert sum(day.isoweekday() == 5 for day in days) > 50


def test_an_interval_counts_from_when_it_was_set() -> None:
    hourly = Timing(interval_s=3600)
    assert times(hourly, "10:07", 2, anchor="10:07") == ["2026-01-05T11:07Z", "2026-01-05T12:07Z"]
    assert times(Timing(interval_s=1800), "12:20", 2, anchor="12:20") == ["2026-01-05T12:50Z", "2026-01-05T13:20Z"]


def test_an_interval_with_a_start_counts_from_the_start() -> None:
    timing = Timing(interval_s=3600, start_at=at("12:30"))
    assert times(timing, "10:07", 2, anchor="10:07") == ["2026-01-05T12:30Z", "2026-01-05T13:30Z"]
    assert times(timing, "15:00", 1, anchor="10:07") == ["2026-01-05T15:30Z"]


def test_one_date_is_due_once() -> None:
    timing = Timing(run_at=at("12:00"))
    assert times(timing, "10:00", 5) == ["2026-01-05T12:00Z"]
    assert times(timing, "12:00", 5) == []


def test_nothing_is_due_before_the_start_and_after_the_end() -> None:
    timing = cron("0 * * * *", "UTC", start_at=at("12:00"), end_at=at("14:00"))
    assert [one[11:16] for one in times(timing, "10:00", 9)] == ["12:00", "13:00", "14:00"]
    assert next_due(timing, at("10:00"), at("14:00")) is None


@pytest.mark.parametrize("timing", [cron("0 9 * * *"), Timing(interval_s=86_400, timezone=NEW_YORK)])
def test_nothing_is_due_on_excluded_days_of_the_zone(timing: Timing) -> None:
    days = [Exclusion(first="2026-01-07", last="2026-01-08"), Exclusion(first="2026-01-08", last="2026-01-09")]
    holiday = Timing(cron=timing.cron, interval_s=timing.interval_s, timezone=NEW_YORK, exclusions=days)
    found = times(holiday, "2026-01-06T00:00", 2, anchor="2026-01-01T14:00")
    assert found == ["2026-01-06T14:00Z", "2026-01-10T14:00Z"]
    assert count_due(holiday, at("2026-01-01T14:00"), at("2026-01-06T00:00"), at("2026-01-10T14:00")) == 2


def test_a_date_on_an_excluded_day_is_not_due() -> None:
    timing = Timing(run_at=at("2026-12-25T03:00"), timezone=NEW_YORK)
    assert next_due(timing, at("10:00"), at("10:00")) is not None
    closed = Timing(
        run_at=at("2026-12-25T03:00"), timezone=NEW_YORK, exclusions=[Exclusion(first="2026-12-24", last="2026-12-24")]
    )
    assert next_due(closed, at("10:00"), at("10:00")) is None


def test_six_fields_begin_with_seconds() -> None:
    found = occurrences(cron("*/20 30 9 * * *", "UTC"), at("10:00"), at("10:00"), 4)
    assert [one.local_time[11:19] for one in found] == ["09:30:00", "09:30:20", "09:30:40", "09:30:00"]


def test_a_local_time_has_the_offset_of_its_zone() -> None:
    found = occurrences(cron("30 1 * * *", dst_fold="BOTH"), at("10:00"), at("2026-11-01T00:00"), 2)
    assert [one.local_time for one in found] == ["2026-11-01T01:30:00-04:00", "2026-11-01T01:30:00-05:00"]


@pytest.mark.parametrize(
    ("timing", "code"),
    [
        (Timing(), "bad_timing"),
        (Timing(cron="* * * * *", interval_s=5), "bad_timing"),
        (Timing(interval_s=0), "bad_timing"),
        (Timing(run_at=at("09:00")), "bad_timing"),
        (Timing(cron="0 0 30 2 *"), "bad_cron"),
        (Timing(cron="0 0 31 4,6 *"), "bad_cron"),
        (Timing(cron="* * * * *", timezone="America/Gotham"), "bad_timezone"),
        (Timing(cron="* * * * *", timezone="../../etc/passwd"), "bad_timezone"),
        (Timing(cron="* * * * *", timezone="america/new_york"), "bad_timezone"),
        (Timing(cron="* * * * *", timezone=""), "bad_timezone"),
        (Timing(cron="* * * * *", start_at=at("12:00"), end_at=at("11:00")), "bad_timing"),
        (Timing(cron="* * * * *", exclusions=[Exclusion(first="2026-02-30", last="2026-03-01")]), "bad_exclusion"),
        (Timing(cron="* * * * *", exclusions=[Exclusion(first="2026-03-02", last="2026-03-01")]), "bad_exclusion"),
    ],
)
def test_what_can_never_be_meant_is_refused(timing: Timing, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        check(timing, at("10:00"))
    assert refused.value.code == code
    assert refused.value.fields


def test_an_end_in_the_past_is_accepted_and_nothing_is_due() -> None:
    timing = Timing(cron="* * * * *", end_at=at("09:00"))
    check(timing, at("10:00"))
    assert next_due(timing, at("10:00"), at("10:00")) is None


def test_a_leap_day_counts_as_due() -> None:
    check(Timing(cron="0 0 29 2 *"), at("2024-03-01T00:00"))


def test_counting_agrees_with_going_through() -> None:
    for timing in (
        cron("*/7 1-3 * * *"),
        cron("30 2 8 3 *"),
        cron("15,45 * * * *"),
        Timing(interval_s=5011, timezone=NEW_YORK, exclusions=[Exclusion(first="2026-03-08", last="2026-11-01")]),
        cron("* */3 * * 1-5", exclusions=[Exclusion(first="2026-03-08", last="2026-03-08")]),
    ):
        after, until = at("2026-03-01T03:04") + timedelta(microseconds=7), at("2026-11-20T05:06")
        every = [one.at for one in due(timing, at("10:00"), after, until)]
        assert count_due(timing, at("10:00"), after, until) == len(every) > 0
        assert latest_due(timing, at("10:00"), after, until, 10) == every[-10:]
        assert every == sorted(set(every))


def test_the_ends_of_the_calendar_are_no_trouble() -> None:
    for year in (1, 1899, 9899, 9999):
        moment = datetime(year, 1, 1, tzinfo=UTC)
        next_due(cron("0 6 * * 1"), moment, moment)
        occurrences(Timing(interval_s=31_536_000), moment, moment, 100)
