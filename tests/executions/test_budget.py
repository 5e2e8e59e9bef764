"""What a month may cost: the limit, and who is told when."""

import pytest
from given import NOW, Given, given

from rgrid.executions.budget import DECIDER, used_percent
from rgrid.executions.budget_events import BudgetBlocked, BudgetLimitRemoved, BudgetLimitSet, BudgetWarned
from rgrid.executions.commands import NoteUsage, RemoveLimit, SetLimit


def limit(micros: int = 50_000_000, threshold: int = 80) -> SetLimit:
    return SetLimit(limit_micros=micros, threshold_percent=threshold, set_by="key:key_1")


def limited(micros: int = 50_000_000) -> Given:
    return (
        given(DECIDER)
        .when(limit(micros))
        .then(BudgetLimitSet(limit_micros=micros, threshold_percent=80, set_by="key:key_1", set_at=NOW))
    )


def used(micros: int, month: str = "2026-01") -> NoteUsage:
    return NoteUsage(month=month, used_micros=micros)


@pytest.mark.parametrize(("micros", "percent"), [(39_999_999, 79), (40_000_000, 80), (50_000_000, 100)])
def test_the_percentage_is_rounded_down(micros: int, percent: int) -> None:
    assert used_percent(micros, 50_000_000) == percent


def test_setting_the_same_limit_again_changes_nothing() -> None:
    limited().when(limit()).then_nothing()


def test_removing_a_limit_that_is_not_there_changes_nothing() -> None:
    given(DECIDER).when(RemoveLimit(removed_by="key:key_1")).then_nothing()
    gone = limited().when(RemoveLimit(removed_by="key:key_1")).then(BudgetLimitRemoved)
    gone.when(RemoveLimit(removed_by="key:key_1")).then_nothing()


def test_a_warning_comes_at_the_threshold_once_a_month() -> None:
    budget = limited()
    budget.when(used(39_999_999)).then_nothing()
    warned = budget.when(used(40_000_000)).then(BudgetWarned)
    warned.when(used(41_000_000)).then_nothing()
    warned.when(used(41_000_000, "2026-02")).then(BudgetWarned)


def test_the_end_of_the_budget_is_said_once_a_month_and_after_the_warning() -> None:
    blocked = limited().when(used(50_000_000)).then(BudgetWarned, BudgetBlocked)
    blocked.when(used(60_000_000)).then_nothing()


def test_a_changed_limit_is_watched_afresh() -> None:
    warned = limited().when(used(45_000_000)).then(BudgetWarned)
    raised = warned.when(limit(100_000_000)).then(BudgetLimitSet)
    raised.when(used(45_000_000)).then_nothing()
    raised.when(limit(50_000_000)).then(BudgetLimitSet).when(used(45_000_000)).then(BudgetWarned)


def test_without_a_limit_nobody_is_told_anything() -> None:
    given(DECIDER).when(used(10**12)).then_nothing()
