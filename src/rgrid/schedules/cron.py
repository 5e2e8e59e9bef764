"""Cron expressions as Debian reads them: which local times match. Zones and their clock changes are not known here."""

import re
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from rgrid.kernel.errors import Invalid

MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
EXPRESSIONS_MAX: Final = 20_000
"""So many parsed expressions are kept."""

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_HOUR_S: Final = 3600
_DAY_S: Final = 86_400
_DAY: Final = timedelta(days=1)


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()


_FIELDS: Final = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _WEEKDAYS),
)


class Cron(NamedTuple):
    """What an expression says. `either`: day of month and day of week are both restricted, so one of them is enough.
    `elapsed`: its hour is `*` or a step, so it follows elapsed time over a change of the clock."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool
    elapsed: bool

    def falls_on(self, day: date) -> bool:
        """Whether anything matches on this day."""
        if day.month not in self.months:
            return False
        by_week = day.isoweekday() % 7 in self.weekdays
        return (day.day in self.days or by_week) if self.either else (day.day in self.days and by_week)

    def matches(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """The matching local times in [start, end), both of whole seconds and without a zone."""
        for midnight, low, high in self._days(start, end):
            for second in self._of_day(low, high):
                yield midnight + timedelta(seconds=second)

    def match_count(self, start: datetime, end: datetime) -> int:
        """How many local times match in [start, end)."""
        whole_day = len(self.hours) * len(self.minutes) * len(self.seconds)
        return sum(
            whole_day if (low, high) == (0, _DAY_S) else sum(1 for _ in self._of_day(low, high))
            for _, low, high in self._days(start, end)
        )

    def _days(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, int, int]]:
        """The midnights of the days it falls on, with the part of the day, in seconds, that lies in [start, end)."""
        midnight = datetime.combine(start, time())
        while midnight < end:
            if midnight.month not in self.months:
                midnight = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
                continue
            if self.falls_on(midnight):
                low = max(0, int((start - midnight).total_seconds()))
                yield midnight, low, min(_DAY_S, int((end - midnight).total_seconds()))
            midnight += _DAY

    def _of_day(self, low: int, high: int) -> Iterator[int]:
        """The matching seconds of a day in [low, high)."""
        for hour in self.hours:
            if hour * _HOUR_S >= high:
                return
            if (hour + 1) * _HOUR_S <= low:
                continue
            for minute in self.minutes:
                begin = hour * _HOUR_S + minute * 60
                if begin + 60 > low and begin < high:
                    yield from [begin + second for second in self.seconds if low <= begin + second < high]


@lru_cache(EXPRESSIONS_MAX)
def parse(expression: str) -> Cron:
    """Five fields, six with seconds in front, or one of MACROS. Raises Invalid with code bad_cron."""
    text = expression.strip().lower()
    if text.startswith("@"):
        if text not in MACROS:
            raise bad_cron(expression, f"it knows {', '.join(sorted(MACROS))}")
        text = MACROS[text]
    terms = text.split()
    if len(terms) == 5:
        terms = ["0", *terms]
    if len(terms) != 6:
        raise bad_cron(expression, "it has five fields: minute, hour, day of month, month, day of week")
    try:
        seconds, minutes, hours, days, months, weekdays = map(_values, _FIELDS, terms)
    except ValueError as bad:
        raise bad_cron(expression, str(bad)) from None
    return Cron(
        seconds=tuple(sorted(seconds)),
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=frozenset(days),
        months=frozenset(months),
        weekdays=frozenset(day % 7 for day in weekdays),
        # Debian's cron looks at the first character only, so `*/2` counts as unrestricted here.
        either=not terms[3].startswith("*") and not terms[5].startswith("*"),
        elapsed=any(term.startswith("*") or "/" in term for term in terms[2].split(",")),
    )


def bad_cron(expression: str, why: str) -> Invalid:
    """The refusal of an expression."""
    detail = f"The cron expression {expression!r} can't be used: {why}."
    return Invalid(detail, code="bad_cron", fields=[("cron_expression", f"{why}.")])


def _values(field: _Field, text: str) -> set[int]:
    values: set[int] = set()
    for term in text.split(","):
        span, slash, step_text = term.partition("/")
        if span == "*":
            low, high = field.low, field.high
        else:
            first, dash, last = span.partition("-")
            low = _value(field, first)
            # `5/15` means from 5 on to the end, every 15.
            high = _value(field, last) if dash else field.high if slash else low
        if high < low:
            raise ValueError(f"in the {field.name}, {span} ends before it begins")
        step = _number(step_text) if slash else 1
        if step is None or step == 0:
            raise ValueError(f"the {field.name} has {term!r}, whose step is no number from 1 on")
        values.update(range(low, high + 1, step))
    return values


def _value(field: _Field, text: str) -> int:
    if text in field.words:
        return field.words.index(text) + field.low
    value = _number(text)
    if value is None or not field.low <= value <= field.high:
        raise ValueError(f"the {field.name} has {text!r}, which is no value from {field.low} to {field.high}")
    return value


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None
