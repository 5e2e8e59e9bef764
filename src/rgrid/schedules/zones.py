"""Time zones as stretches of constant offset, found by asking the zone what it shows, never by its inner tables."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from rgrid.kernel.errors import Invalid

YEARS_MAX: Final = 20_000
"""So many years of zones are kept."""
NOT_ZONES: Final = frozenset({"localtime", "posixrules", "Factory"})
"""Files in the database of zones that name no zone."""

_PROBE: Final = timedelta(days=1)
_MARGIN: Final = timedelta(days=2)
"""Longer than any clock was ever set forward or back."""


class Stretch(NamedTuple):
    """From `start` (inclusive) to `end` (exclusive), in UTC without a zone, the local time is UTC + `offset`. Before it
    was UTC + `before`, and afterwards it is UTC + `after`."""

    start: datetime
    end: datetime
    offset: timedelta
    before: timedelta
    after: timedelta


@lru_cache(1)
def _names() -> frozenset[str]:
    return frozenset(available_timezones()) - NOT_ZONES


def zone(name: str) -> ZoneInfo:
    """The IANA zone of this name, in its exact spelling. Raises Invalid with code bad_timezone."""
    if name not in _names():
        why = "is not the name of an IANA time zone"
        raise Invalid(f"{name!r} {why}.", code="bad_timezone", fields=[("timezone", f"{name!r} {why}.")])
    return ZoneInfo(name)


def stretches(name: str, start: datetime, end: datetime) -> Iterator[Stretch]:
    """What covers [start, end), which are in UTC without a zone; the first and the last one reach beyond."""
    begin = start - _MARGIN
    until = end + _MARGIN
    offset = before = _offset(zone(name), begin)
    for year in range(begin.year, until.year + 1):
        for at, after in _changes(name, year):
            if not begin < at < until:
                continue
            if at > start:
                yield Stretch(begin, at, offset, before, after)
            begin, before, offset = at, offset, after
            if at >= end:
                return
    yield Stretch(begin, until, offset, before, offset)


@lru_cache(YEARS_MAX)
def _changes(name: str, year: int) -> list[tuple[datetime, timedelta]]:
    """When in this year of UTC, its first instant excluded, the offset becomes which one."""
    tz = zone(name)
    probe, last = datetime(year, 1, 1), datetime(year + 1, 1, 1)  # noqa: DTZ001 -- UTC by convention of this file
    offset = _offset(tz, probe)
    found = []
    while probe < last:
        following = probe + _PROBE
        after = _offset(tz, following)
        if after != offset:
            found.append((_when(tz, probe, following, offset), after))
        probe, offset = following, after
    return found


def _when(tz: ZoneInfo, low: datetime, high: datetime, old: timedelta) -> datetime:
    """The first second in (low, high] with another offset than `old`."""
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        if _offset(tz, middle) == old:
            low = middle
        else:
            high = middle
    return high


def _offset(tz: ZoneInfo, at: datetime) -> timedelta:
    offset = at.replace(tzinfo=UTC).astimezone(tz).utcoffset()
    assert offset is not None
    return offset
