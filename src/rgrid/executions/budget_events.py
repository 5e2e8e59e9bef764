"""Facts about what a calendar month may cost. Public, like `events`. Stream `budget-monthly`."""

from datetime import datetime

from rgrid.kernel.messages import Event


class BudgetLimitSet(Event, frozen=True, kw_only=True, omit_defaults=True):
    """From now on a calendar month may cost so much. At `threshold_percent` of it somebody is warned."""

    limit_micros: int
    threshold_percent: int
    set_by: str
    set_at: datetime


class BudgetLimitRemoved(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A month may cost anything again."""

    removed_by: str
    removed_at: datetime


class BudgetWarned(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The month's cost reached the threshold. Once a month, and again after the limit was changed."""

    month: str
    used_micros: int
    limit_micros: int
    threshold_percent: int
    warned_at: datetime


class BudgetBlocked(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The month's cost reached the limit: nothing new is accepted. Once a month, and again after a change."""

    month: str
    used_micros: int
    limit_micros: int
    blocked_at: datetime


BudgetEvent = BudgetLimitSet | BudgetLimitRemoved | BudgetWarned | BudgetBlocked
