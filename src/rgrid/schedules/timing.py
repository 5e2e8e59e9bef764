"""When a schedule is due: cron, interval or one date, in a time zone, within its start, its end and its exclusions.

A due time is an instant in UTC. Fixed hours of a cron expression follow the clock on the wall: a time that a change of
the clock leaves out is due at the first instant after the gap, one that comes twice is due the first time, unless
`dst_gap` and `dst_fold` say otherwise. An hour of `*` or a step follows elapsed time: every instant that matches, both
passes, nothing extra for the gap.
"""

from collections import deque
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import msgspec

from rgrid.kernel.errors import Invalid
from rgrid.schedules.cron import Cron, bad_cron, parse
from rgrid.schedules.events import Exclusion, Timing
from rgrid.schedules.zones import Stretch, stretches, zone

NEVER_YEARS: Final = 5
"""An expression that isn't due within so many years is refused."""
HORIZON_YEARS: Final = 30
"""Due times are looked for so far ahead."""
INTERVAL_S_MAX: Final = 31_536_000
EXCLUSIONS_MAX: Final = 1_000
KEPT_MAX: Final = 4_096
"""So many lists of exclusions are kept."""

_YEAR: Final = timedelta(days=365.25)
_SECOND: Final = timedelta(seconds=1)
_TICK: Final = timedelta(microseconds=1)
# Zones have no sensible past before the one, and calendars no future after the other.
_EARLIEST: Final = datetime(1900, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9900, 1, 1, tzinfo=UTC)

Days = tuple[tuple[datetime, datetime], ...]
"""Local times as [from, to), in order, apart from each other."""


class Due(NamedTuple):
    """A due time. `shifted`: the clock left out the time that it stands for."""

    at: datetime
    shifted: bool = False


class Occurrence(msgspec.Struct, frozen=True, kw_only=True):
    """A due time as people read it: `local_time` is ISO 8601 with the zone's offset; `dst` marks a time that was put
    off by a gap, and one whose local time comes twice."""

    at: datetime
    local_time: str
    dst: Literal["gap", "fold"] | None = None


def check(timing: Timing, now: datetime) -> None:
    """Raises Invalid when it could never be meant so: bad_timing, bad_timezone, bad_cron, bad_exclusion. An end in the
    past is none of these: nothing is due then."""
    given = [
        field
        for field, value in (
            ("cron_expression", timing.cron),
            ("interval_seconds", timing.interval_s),
            ("run_at", timing.run_at),
        )
        if value is not None
    ]
    if len(given) != 1:
        raise _bad("cron_expression", "Give exactly one of cron_expression, interval_seconds and run_at.")
    zone(timing.timezone)
    if timing.cron is not None:
        bare = Timing(cron=timing.cron, timezone=timing.timezone, dst_gap=timing.dst_gap, dst_fold=timing.dst_fold)
        if next(due(bare, now, now, now + NEVER_YEARS * _YEAR), None) is None:
            raise bad_cron(timing.cron, f"it is never due within {NEVER_YEARS} years")
    if timing.interval_s is not None and not 1 <= timing.interval_s <= INTERVAL_S_MAX:
        raise _bad("interval_seconds", f"An interval has from 1 to {INTERVAL_S_MAX} seconds.")
    if timing.run_at is not None and timing.run_at <= now:
        raise _bad("run_at", "The time to run at must lie in the future.")
    if timing.start_at is not None and timing.end_at is not None and timing.end_at < timing.start_at:
        raise _bad("end_at", "It ends before it starts.")
    if len(timing.exclusions) > EXCLUSIONS_MAX:
        raise _bad("exclusions", f"There may be at most {EXCLUSIONS_MAX} exclusions.")
    excluded(tuple(timing.exclusions))


def next_due(timing: Timing, anchor: datetime, after: datetime) -> datetime | None:
    """The first due time strictly after this moment. `anchor` is when the interval was set."""
    found = next(due(timing, anchor, after), None)
    return found.at if found else None


def occurrences(timing: Timing, anchor: datetime, after: datetime, count: int) -> list[Occurrence]:
    """The next so many due times, as people read them; fewer when there are no more within HORIZON_YEARS."""
    tz = zone(timing.timezone)
    found = []
    for one in due(timing, anchor, after):
        local = one.at.astimezone(tz)
        twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
        mark: Literal["gap", "fold"] | None = "gap" if one.shifted else "fold" if twice else None
        found.append(Occurrence(at=one.at, local_time=local.isoformat(), dst=mark))
        if len(found) == count:
            break
    return found


def due(timing: Timing, anchor: datetime, after: datetime, until: datetime | None = None) -> Iterator[Due]:
    """The due times in (after, until], in order; without `until` those of HORIZON_YEARS."""
    first, last = _window(timing, after, until)
    if first > last:
        return
    if timing.run_at is not None:
        if first <= timing.run_at <= last and _is_open(timing, timing.run_at):
            yield Due(timing.run_at)
    elif timing.interval_s is not None:
        step = timedelta(seconds=timing.interval_s)
        for begin, count in _runs(timing, anchor, first, last):
            for index in range(count):
                yield Due(begin + index * step)
    else:
        assert timing.cron is not None
        cron = parse(timing.cron)
        for stretch, begin, end, gap in _local(timing, cron, first, last):
            if gap is not None:
                yield Due(gap.replace(tzinfo=UTC), shifted=True)
            for wall in cron.matches(begin, end):
                yield Due((wall - stretch.offset).replace(tzinfo=UTC))


def count_due(timing: Timing, anchor: datetime, after: datetime, until: datetime) -> int:
    """How many due times lie in (after, until], without going through each of them."""
    first, last = _window(timing, after, until)
    if first > last:
        return 0
    if timing.run_at is not None:
        return sum(1 for _ in due(timing, anchor, after, until))
    if timing.interval_s is not None:
        return sum(count for _, count in _runs(timing, anchor, first, last))
    assert timing.cron is not None
    cron = parse(timing.cron)
    return sum(
        cron.match_count(begin, end) + (gap is not None) for _, begin, end, gap in _local(timing, cron, first, last)
    )


def latest_due(timing: Timing, anchor: datetime, after: datetime, until: datetime, count: int) -> list[datetime]:
    """The last `count` due times in (after, until], in order."""
    span = timedelta(hours=1)
    while until - span > after and count_due(timing, anchor, until - span, until) < count:
        span *= 2
    begin = max(after, until - span)
    return list(deque((one.at for one in due(timing, anchor, begin, until)), maxlen=count))


@lru_cache(KEPT_MAX)
def excluded(exclusions: tuple[Exclusion, ...]) -> Days:
    """The local times on which nothing is due. Raises Invalid with code bad_exclusion."""
    spans = sorted(_span(index, one) for index, one in enumerate(exclusions))
    merged: list[tuple[datetime, datetime]] = []
    for begin, end in spans:
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return tuple(merged)


def _span(index: int, exclusion: Exclusion) -> tuple[datetime, datetime]:
    try:
        first, last = date.fromisoformat(exclusion.first), date.fromisoformat(exclusion.last)
    except ValueError:
        raise _bad(f"exclusions[{index}]", "The days of an exclusion look like 2026-12-25.", "bad_exclusion") from None
    if last < first:
        raise _bad(f"exclusions[{index}]", "The exclusion ends before it begins.", "bad_exclusion")
    last = min(last, _LATEST.date())
    return datetime.combine(first, time()), datetime.combine(last, time()) + timedelta(days=1)


def _bad(field: str, why: str, code: str = "bad_timing") -> Invalid:
    return Invalid(why, code=code, fields=[(field, why)])


def _window(timing: Timing, after: datetime, until: datetime | None) -> tuple[datetime, datetime]:
    """The first and the last moment that may be due, both inclusive."""
    first = max(after, _EARLIEST) + _TICK if after < _LATEST else _LATEST
    if timing.start_at is not None:
        first = min(max(first, timing.start_at), _LATEST)
    last = min(first + HORIZON_YEARS * _YEAR if until is None else until, _LATEST - _TICK)
    if timing.end_at is not None:
        last = min(last, timing.end_at)
    return first.astimezone(UTC), last.astimezone(UTC)


def _is_open(timing: Timing, at: datetime) -> bool:
    local = at.astimezone(zone(timing.timezone)).replace(tzinfo=None)
    return not any(begin <= local < end for begin, end in excluded(tuple(timing.exclusions)))


def _runs(timing: Timing, anchor: datetime, first: datetime, last: datetime) -> Iterator[tuple[datetime, int]]:
    """The due times of an interval: from when on how many follow each other."""
    assert timing.interval_s is not None
    step = timedelta(seconds=timing.interval_s)
    zero = timing.start_at or anchor
    for begin, end in _allowed(timing, first, last):
        low = max(0, -((zero - begin) // step))  # the division rounds down, so this rounds up
        high = (end - zero) // step
        if high >= low:
            yield zero + low * step, high - low + 1


def _allowed(timing: Timing, first: datetime, last: datetime) -> Iterator[tuple[datetime, datetime]]:
    """[first, last], both inclusive, without the exclusions."""
    exclusions = excluded(tuple(timing.exclusions))
    if not exclusions:
        yield first, last
        return
    begin, end = first.replace(tzinfo=None), last.replace(tzinfo=None) + _TICK
    for stretch in stretches(timing.timezone, begin, end):
        offset = stretch.offset
        for low, high in _cut(max(stretch.start, begin) + offset, min(stretch.end, end) + offset, exclusions):
            yield (low - offset).replace(tzinfo=UTC), (high - offset - _TICK).replace(tzinfo=UTC)


def _cut(begin: datetime, end: datetime, exclusions: Days) -> Iterator[tuple[datetime, datetime]]:
    """[begin, end) without the exclusions."""
    for first, last in exclusions:
        if last <= begin:
            continue
        if first >= end:
            break
        if first > begin:
            yield begin, first
        begin = last
    if begin < end:
        yield begin, end


def _local(
    timing: Timing, cron: Cron, first: datetime, last: datetime
) -> Iterator[tuple[Stretch, datetime, datetime, datetime | None]]:
    """Stretches of local time [begin, end) in which every match is due, by the rules for the changes of the clock. The
    fourth is an instant that is due because the gap before the stretch holds a match."""
    begin = first.replace(tzinfo=None, microsecond=0)
    if first.microsecond:
        begin += _SECOND
    end = last.replace(tzinfo=None, microsecond=0) + _SECOND
    exclusions = excluded(tuple(timing.exclusions))
    for stretch in stretches(timing.timezone, begin, end):
        low, high = max(stretch.start, begin) + stretch.offset, min(stretch.end, end) + stretch.offset
        gap = None
        if not cron.elapsed:
            if timing.dst_gap == "SHIFT" and begin <= stretch.start < end:
                gap = _due_after_gap(cron, stretch, exclusions)
            if timing.dst_fold == "FIRST":
                low = max(low, stretch.start + stretch.before)
            elif timing.dst_fold == "LAST":
                high = min(high, stretch.end + stretch.after)
        for piece_begin, piece_end in _cut(low, high, exclusions) if low < high else ():
            yield stretch, piece_begin, piece_end, gap
            gap = None
        if gap is not None:
            yield stretch, low, low, gap


def _due_after_gap(cron: Cron, stretch: Stretch, exclusions: Days) -> datetime | None:
    """The beginning of the stretch when the clock jumped over a match to get there and none stands there itself."""
    left, reached = stretch.start + stretch.before, stretch.start + stretch.offset
    if left >= reached or next(cron.matches(left, reached), None) is None:
        return None
    if next(cron.matches(reached, reached + _SECOND), None) is not None:
        return None
    return None if any(begin <= reached < end for begin, end in exclusions) else stretch.start
