"""When is a cron expression due? Answered by brute force: minute for minute, and day for day, as slowly as need be.

Nothing here is taken from the program but the reading of an expression; a zone is only asked what it shows when.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from rgrid.schedules.cron import Cron, parse
from rgrid.schedules.events import Timing

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
LONGEST_CHANGE = timedelta(days=2)


def matches(cron: Cron, wall: datetime) -> bool:
    return wall.minute in cron.minutes and wall.hour in cron.hours and cron.falls_on(wall.date())


def by_minutes(timing: Timing, begin: datetime, end: datetime) -> list[datetime]:
    """Due times in [begin, end), found by looking at the clock on the wall every minute."""
    assert timing.cron is not None
    cron, zone = parse(timing.cron), ZoneInfo(timing.timezone)
    first = begin - LONGEST_CHANGE
    count = (end + LONGEST_CHANGE - first) // MINUTE
    walls = [(first + index * MINUTE).astimezone(zone).replace(tzinfo=None) for index in range(count)]
    shown: dict[datetime, list[int]] = {}
    for index, wall in enumerate(walls):
        shown.setdefault(wall, []).append(index)
    found = []
    for index in range(1, count):
        wall, moment = walls[index], first + index * MINUTE
        if begin <= moment < end and (
            _is_due(timing, cron, wall, index, shown) or _ends_a_gap(timing, cron, walls[index - 1], wall)
        ):
            found.append(moment)
    return found


def _is_due(timing: Timing, cron: Cron, wall: datetime, index: int, shown: dict[datetime, list[int]]) -> bool:
    if not matches(cron, wall):
        return False
    if cron.elapsed or timing.dst_fold == "BOTH":
        return True
    return index == (shown[wall][0] if timing.dst_fold == "FIRST" else shown[wall][-1])


def _ends_a_gap(timing: Timing, cron: Cron, before: datetime, wall: datetime) -> bool:
    if cron.elapsed or timing.dst_gap == "SKIP":
        return False
    left_out = before + MINUTE
    while left_out < wall:
        if matches(cron, left_out):
            return True
        left_out += MINUTE
    return False


def by_days(timing: Timing, begin: date, end: date) -> list[datetime]:
    """Due times with the defaults for changes of the clock, for fixed hours on local days in [begin, end)."""
    assert timing.cron is not None and (timing.dst_gap, timing.dst_fold) == ("SHIFT", "FIRST")
    cron, zone = parse(timing.cron), ZoneInfo(timing.timezone)
    assert not cron.elapsed
    found = set()
    day = begin
    while day < end:
        if cron.falls_on(day):
            for hour in cron.hours:
                for minute in cron.minutes:
                    # Of a time that comes twice this is the first, by the rules of `fold`.
                    wall = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
                    moment = wall.astimezone(UTC)
                    if moment.astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None):
                        found.add(moment)
                    else:
                        found.add(_after_gap(wall))
        day += DAY
    return sorted(found)


def _after_gap(wall: datetime) -> datetime:
    """Read with the offset of afterwards a time in the gap lies before it: from there on until the offset is that."""
    moment = wall.replace(fold=1).astimezone(UTC)
    afterwards = wall.replace(fold=1).utcoffset()
    while moment.astimezone(wall.tzinfo).utcoffset() != afterwards:
        moment += MINUTE
    return moment


def changes(zone_name: str, begin: datetime, end: datetime) -> Iterator[datetime]:
    """Days in [begin, end) within which the offset changes."""
    zone = ZoneInfo(zone_name)
    moment, offset = begin, begin.astimezone(zone).utcoffset()
    while moment < end:
        later = (moment + DAY).astimezone(zone).utcoffset()
        if later != offset:
            yield moment
        moment, offset = moment + DAY, later
