"""In every time zone, over ten years, no due time is lost or doubled. RGRID_DEEP=1 looks at all of it, for minutes."""

import os
import random
import zoneinfo
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules.due_times_oracle import LONGEST_CHANGE, by_days, by_minutes, changes

from rgrid.schedules.events import Timing
from rgrid.schedules.timing import count_due, due, next_due
from rgrid.schedules.zones import NOT_ZONES, zone

DEEP = os.environ.get("RGRID_DEEP") == "1"
ZONES = sorted(zoneinfo.available_timezones() - NOT_ZONES)
# Samoa left out a day in 2011, North Korea came back to its old time in 2018, Morocco turns back for each Ramadan.
BEGIN, END = date(2010, 1, 1), date(2036, 1, 1)
YEARS = (date(2016, 1, 1), date(2026, 1, 1))
CLOCK = st.sampled_from(
    ["30 1 * * *", "30 2 * * *", "0,15,30,45 0-3 * * *", "59 23 * * *", "0 0 * * *", "*/10 1,2,23 * * *", "* 1-2 * * *"]
)
ELAPSED = st.sampled_from(["* * * * *", "*/7 * * * *", "15 */2 * * *", "30 1-23/3 * * *", "0 * * * 0,6"])


def content(name: str) -> bytes | str:
    """What the database says of a zone: many names mean the same."""
    files = [Path(folder) / name for folder in zoneinfo.TZPATH]
    return next((file.read_bytes() for file in files if file.is_file()), name)


DIFFERENT = list({content(name): name for name in ZONES}.values())


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def all_due(timing: Timing, begin: datetime, end: datetime) -> list[datetime]:
    """The due times in [begin, end)."""
    return [one.at for one in due(timing, begin, begin - timedelta(microseconds=1), end - timedelta(microseconds=1))]


def test_every_zone_of_the_database_is_known() -> None:
    assert len(ZONES) > 400
    for name in ZONES:
        assert zone(name).key == name


@pytest.mark.parametrize("seed", range(8 if DEEP else 1))
def test_over_ten_years_in_every_zone_each_due_time_is_there_once(seed: int) -> None:
    draw = random.Random(seed)
    for name in ZONES if DEEP else DIFFERENT:
        minute, hours = draw.randrange(60), draw.sample(range(24), 1)
        # Half of them at hours at which clocks are changed.
        if draw.random() < 0.5:
            hours = [draw.choice([0, 1, 2, 3, 23])]
        week = draw.choice(["*", "0", "0", "6,0"])
        timing = Timing(cron=f"{minute} {hours[0]} * * {week}", timezone=name)
        begin, end = (BEGIN, END) if DEEP else YEARS
        wanted = by_days(timing, begin - timedelta(days=3), end + timedelta(days=3))
        first, last = midnight(begin), midnight(end)
        wanted = [one for one in wanted if first <= one < last]
        found = all_due(timing, first, last)
        assert found == wanted, (timing, set(found) ^ set(wanted))


@cache
def days_of_change(name: str) -> list[datetime]:
    """Days on which something happens in this zone; any day when nothing ever does."""
    return list(changes(name, midnight(BEGIN), midnight(END))) or [midnight(date(2020, 2, 29))]


@st.composite
def around_a_change(draw: Any) -> tuple[Timing, datetime, datetime]:
    name = draw(st.sampled_from(DIFFERENT))
    day = draw(st.sampled_from(days_of_change(name)))
    timing = Timing(
        cron=draw(st.one_of(CLOCK, ELAPSED)),
        timezone=name,
        dst_gap=draw(st.sampled_from(["SHIFT", "SKIP"])),
        dst_fold=draw(st.sampled_from(["FIRST", "LAST", "BOTH"])),
    )
    begin = day - LONGEST_CHANGE / 2 + timedelta(minutes=draw(st.integers(0, 2_000)))
    return timing, begin, begin + timedelta(minutes=draw(st.integers(1, 2_500)))


@settings(max_examples=5_000 if DEEP else 150, deadline=None)
@given(around_a_change())
def test_around_each_change_of_the_clock_the_due_times_are_those_of_a_watch(
    case: tuple[Timing, datetime, datetime],
) -> None:
    timing, begin, end = case
    wanted = by_minutes(timing, begin, end)
    found = all_due(timing, begin, end)
    assert found == wanted
    before = begin - timedelta(microseconds=1)
    assert count_due(timing, begin, before, end - timedelta(microseconds=1)) == len(wanted)
    # Going on from any due time leads to the next one: nothing depends on where one begins.
    for former, later in pairwise(wanted[:50]):
        assert next_due(timing, begin, former) == later
        assert next_due(timing, begin, later - timedelta(seconds=1)) == later
