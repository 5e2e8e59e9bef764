"""Which of the due times that wait still fire, and which were found too late. Pure."""

from datetime import datetime, timedelta
from itertools import islice
from typing import Final, NamedTuple

from rgrid.schedules.events import Rules, Timing
from rgrid.schedules.timing import count_due, due, latest_due

MISSED_MAX: Final = 1_000
"""So many missed times get a record of their own at once."""
FIRING_MAX: Final = 1_000
"""So many times are fired at once; the next decision goes on from there."""
PUNCTUAL_S: Final = 2
"""Nobody looks at the very instant: what is found so soon is on time, even with a grace of 0."""


class Sorted(NamedTuple):
    """What becomes of the due times that wait: the `missed` with a record, `more` older ones without, and those that
    fire, in order. `catching_up`: they wait for each other instead of getting in each other's way."""

    missed: list[datetime]
    more: int
    firing: list[datetime]
    catching_up: bool


def sort_out(timing: Timing, rules: Rules, anchor: datetime, cursor: datetime, now: datetime) -> Sorted:
    """Decide about the due times in (cursor, now]. Found later than the grace, they are misfires: SKIP misses them and
    fires the rest; FIRE_ONCE fires the latest of all that wait, CATCH_UP the last few. While none is late, all fire."""
    fresh = _fresh_after(cursor, now, rules)
    oldest = _oldest(timing, anchor, cursor, now)
    if not oldest or oldest[0] > fresh:
        return Sorted([], 0, oldest, catching_up=False)
    late = count_due(timing, anchor, cursor, fresh)
    if rules.misfire_policy == "SKIP":
        missed = latest_due(timing, anchor, cursor, fresh, MISSED_MAX)
        return Sorted(missed, late - len(missed), _oldest(timing, anchor, fresh, now), catching_up=False)
    waiting = late + count_due(timing, anchor, fresh, now)
    wanted = 1 if rules.misfire_policy == "FIRE_ONCE" else min(rules.catch_up_limit, FIRING_MAX)
    last = latest_due(timing, anchor, cursor, now, wanted + MISSED_MAX)
    missed, firing = last[:-wanted], last[-wanted:]
    return Sorted(missed, waiting - len(last), firing, catching_up=rules.misfire_policy == "CATCH_UP")


def _fresh_after(cursor: datetime, now: datetime, rules: Rules) -> datetime:
    """What is due at or before this moment is late; after it, it is not. A delay of the grace itself isn't late."""
    edge = now - timedelta(seconds=max(rules.misfire_grace_s, PUNCTUAL_S), microseconds=1)
    return max(cursor, edge)


def _oldest(timing: Timing, anchor: datetime, after: datetime, now: datetime) -> list[datetime]:
    return [one.at for one in islice(due(timing, anchor, after, now), FIRING_MAX)]
