"""Money: the worked examples, sums that lose nothing, prices with their validity, estimates."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from rgrid.executions.cost import attempt_micros, hourly_micros, reserve_micros
from rgrid.executions.estimate import estimate, median, p90
from rgrid.kernel.money import display, display_limit
from rgrid.kernel.rates import Rate, RateTable, check, parse
from rgrid.settings import BadSetting, load

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("duration_ms", "cpu", "hourly", "cost"),
    [
        (224, 1, 8_000, 0),
        (225, 1, 8_000, 1),
        (60_000, 1, 8_000, 133),
        (60_000, 0.25, 2_000, 33),
        (120_000, 1, 8_000, 267),
        (300_000, 1, 8_000, 667),
    ],
)
def test_an_attempt_costs_what_the_worked_examples_say(duration_ms: int, cpu: float, hourly: int, cost: int) -> None:
    assert hourly_micros(8_000, cpu) == hourly
    assert attempt_micros(duration_ms, hourly) == cost


def test_what_is_kept_aside_is_the_cost_of_the_whole_timeout() -> None:
    assert reserve_micros(300, 1, 8_000) == 667


@pytest.mark.parametrize(
    ("micros", "shown"),
    [
        (0, "€0.00"),
        (49, "<€0.0001"),
        (99, "€0.0001"),
        (133, "€0.0001"),
        (9_999, "€0.0100"),
        (10_000, "€0.01"),
        (13_333, "€0.01"),
        (1_005_000, "€1.01"),
    ],
)
def test_an_amount_is_shown_as_the_worked_examples_say(micros: int, shown: str) -> None:
    assert display(micros) == shown


def test_a_limit_is_shown_by_the_month() -> None:
    assert display_limit(50_000_000) == "€50.00/month"
    assert display_limit(None) == "No limit"


@for_all(st.integers(0, 10**12), st.integers(0, 10**9))
def test_the_cost_is_the_exact_product_rounded_half_up(duration_ms: int, hourly: int) -> None:
    exact = Fraction(duration_ms * hourly, 3_600_000)
    cost = attempt_micros(duration_ms, hourly)
    assert cost - Fraction(1, 2) <= exact < cost + Fraction(1, 2)


@for_all(st.integers(0, 10**9), st.integers(1, 64))
def test_quarters_of_cores_are_priced_as_decimals(rate: int, quarters: int) -> None:
    exact = Fraction(rate * quarters, 4)
    assert hourly_micros(rate, quarters / 4) == int(exact + Fraction(1, 2))


# --- prices


def rate(kind: str, micros: int, first: datetime, last: datetime | None = None) -> Rate:
    return Rate(runner_kind=kind, hourly_micros=micros, valid_from=first, valid_until=last)


def test_the_price_is_the_one_that_holds_at_the_moment() -> None:
    table = RateTable([rate("sandbox", 9_000, JANUARY, JUNE), rate("sandbox", 10_000, JUNE)], 8_000)
    assert table.at("sandbox", JANUARY - timedelta(microseconds=1)) == 8_000
    assert table.at("sandbox", JANUARY) == 9_000
    assert table.at("sandbox", JUNE - timedelta(microseconds=1)) == 9_000
    assert table.at("sandbox", JUNE) == 10_000
    assert table.at("container", JUNE) == 8_000


def test_in_a_gap_the_newest_price_before_it_counts() -> None:
    later = rate("sandbox", 10_000, JUNE + timedelta(days=30))
    table = RateTable([rate("sandbox", 9_000, JANUARY, JUNE), later], 8_000)
    assert table.at("sandbox", JUNE + timedelta(days=3)) == 9_000


def test_what_may_be_spent_goes_by_the_highest_price() -> None:
    assert RateTable([rate("container", 12_000, JANUARY)], 8_000).highest(JUNE) == 12_000
    assert RateTable([rate("container", 12_000, JUNE)], 8_000).highest(JANUARY) == 8_000


def test_prices_of_one_kind_may_not_overlap() -> None:
    check([rate("sandbox", 1, JANUARY, JUNE), rate("sandbox", 2, JUNE), rate("container", 3, JANUARY)])
    with pytest.raises(ValueError, match="overlaps"):
        check([rate("sandbox", 2, JUNE), rate("sandbox", 1, JANUARY)])
    with pytest.raises(ValueError, match="ends before it begins"):
        check([rate("sandbox", 2, JUNE, JANUARY)])


def test_prices_come_from_json_and_from_toml() -> None:
    json = '[{"runner_kind": "sandbox", "hourly_micros": 9000, "valid_from": "2026-01-01T01:00:00+01:00"}]'
    toml = '[[rates]]\nrunner_kind = "sandbox"\nhourly_micros = 9000\nvalid_from = 2026-01-01T00:00:00Z\n'
    assert parse(json) == parse(toml) == (rate("sandbox", 9_000, JANUARY),)
    for wrong in ("[1]", "x = 1", '[{"runner_kind": "sandbox"}]', "[{"):
        with pytest.raises(ValueError, match="rates"):
            parse(wrong)


def test_overlapping_prices_stop_the_start(tmp_path: object) -> None:
    one = '{"runner_kind": "sandbox", "hourly_micros": 1, "valid_from": "2026-01-01T00:00:00Z"}'
    with pytest.raises(BadSetting, match="RGRID_COST_RATES"):
        load(environ={"RGRID_COST_RATES": f"[{one}, {one}]"})
    assert load(environ={"RGRID_COST_RATES": f"[{one}]"}).cost_rates[0].hourly_micros == 1


def test_the_list_of_prices_has_every_kind_for_all_of_time() -> None:
    listed = RateTable([rate("sandbox", 9_000, JANUARY)], 8_000).listed()
    assert (listed[0].runner_kind, listed[0].hourly_micros) == ("sandbox", 9_000)
    assert {one.runner_kind for one in listed} == {"sandbox", "container", "process"}
    before = next(one for one in listed if one.runner_kind == "sandbox" and one.hourly_micros == 8_000)
    assert before.valid_until == JANUARY


# --- estimates


def test_an_estimate_without_history_takes_a_minute_each() -> None:
    found = estimate([], 100, 20, 8_000)
    assert (found.median_ms, found.total_ms, found.cost_micros) == (60_000, 6_000_000, 13_333)
    assert found.wall_ms == 300_000


def test_the_median_of_two_samples_is_their_mean() -> None:
    assert estimate([10_000, 13_000], 1, 1, 8_000).median_ms == 11_500


@for_all(st.lists(st.integers(0, 10**8), min_size=1, max_size=100).map(sorted))
def test_the_median_and_the_ninetieth_percentile_are_where_they_belong(samples: list[int]) -> None:
    middle, slow = median(samples), p90(samples)
    assert sum(one <= middle for one in samples) * 2 >= len(samples) <= 2 * sum(one >= middle for one in samples)
    assert slow in samples
    assert sum(one <= slow for one in samples) * 10 >= 9 * len(samples)
    assert sum(one < slow for one in samples) * 10 < 9 * len(samples)
