"""Which local times does a cron expression match?"""

from datetime import UTC, date, datetime, timedelta
from itertools import islice

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from rgrid.kernel.errors import Invalid
from rgrid.schedules.cron import parse

BEGIN = datetime(2027, 2, 10, 11, 12, 13, tzinfo=UTC).replace(tzinfo=None)
END = BEGIN.replace(year=2100)


@pytest.mark.parametrize(
    ("expression", "same"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@Annually", "0 0 1 1 *"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * SUN", "0 0 * * 0"),
        ("0 0 * Jan,DEC *", "0 0 * 1,12 *"),
        ("0 0 * * mon-fri", "0 0 * * 1-5"),
        ("0 0 * * 5-7", "0 0 * * 0,5,6"),
        ("  0   0 * * * ", "0 0 * * *"),
        ("1-9/4 0 * * *", "1,5,9 0 * * *"),
        ("50/5 0 * * *", "50,55 0 * * *"),
        ("0 0 1 1 1", "0 0 0 1 1 1"),
    ],
)
def test_there_are_several_ways_to_say_the_same(expression: str, same: str) -> None:
    assert parse(expression) == parse(same)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * 0 *",
        "* * * * 8",
        "*/0 * * * *",
        "*/ * * * *",
        "*/-1 * * * *",
        "5-1 * * * *",
        "1- * * * *",
        "-1 * * * *",
        ", * * * *",
        "1, * * * *",
        "1.5 * * * *",
        "١ * * * *",
        "mon * * * *",
        "* * * monday *",
        "@reboot",
        "@",
        "a b c d e",
        "0 0 L * *",
        "0 0 * * 5#2",
        "? ? ? ? ?",
    ],
)
def test_what_debian_does_not_know_is_refused(expression: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(expression)
    assert refused.value.code == "bad_cron"
    assert refused.value.fields[0][0] == "cron_expression"


def test_a_star_with_a_step_counts_as_unrestricted_as_in_debian() -> None:
    both = parse("0 0 */2 * 1")
    assert both.falls_on(date(2026, 1, 5))
    assert not both.falls_on(date(2026, 1, 7))


@pytest.mark.parametrize(
    ("hour", "elapsed"), [("*", True), ("*/6", True), ("8-18/2", True), ("1,*/6", True), ("6", False), ("0-23", False)]
)
def test_an_hour_of_star_or_a_step_follows_elapsed_time(hour: str, elapsed: bool) -> None:
    assert parse(f"0 {hour} * * *").elapsed is elapsed


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda ends: f"{min(ends)}-{max(ends)}")
    step = st.integers(1, high)
    # The other reader takes `5-5/2` for `5/2`.
    wide = st.tuples(st.integers(low, high - 1), number).map(lambda ends: f"{ends[0]}-{max(ends[0] + 1, ends[1])}")
    stepped = st.tuples(st.one_of(st.just("*"), wide, number.map(str)), step).map(lambda both: f"{both[0]}/{both[1]}")
    term = st.one_of(number.map(str), span, stepped)
    return st.one_of(st.just("*"), st.lists(term, min_size=1, max_size=3).map(",".join))


EXPRESSIONS = st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 7)).map(" ".join)


@given(EXPRESSIONS)
def test_matches_are_those_of_another_reader_of_cron(expression: str) -> None:
    # In UTC there are no changes of the clock, so all that counts is what matches.
    other = [one.replace(tzinfo=None) for one in islice(CronSim(expression, BEGIN.replace(tzinfo=UTC)), 30)]
    assert list(islice(parse(expression).matches(BEGIN, END), 30)) == other


@given(EXPRESSIONS, st.integers(0, 10_000), st.integers(0, 4_000_000))
def test_counting_is_going_through(expression: str, before: int, seconds: int) -> None:
    cron, begin = parse(expression), BEGIN + timedelta(seconds=before)
    end = begin + timedelta(seconds=seconds)
    assert cron.match_count(begin, end) == sum(1 for _ in cron.matches(begin, end))
