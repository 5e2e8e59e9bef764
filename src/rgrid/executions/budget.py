"""The budget aggregate: what a calendar month may cost, and who has been told how near that is. Stream
`budget-monthly`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from rgrid.executions.budget_events import BudgetBlocked, BudgetEvent, BudgetLimitRemoved, BudgetLimitSet, BudgetWarned
from rgrid.executions.commands import BudgetCommand, NoteUsage, RemoveLimit, SetLimit
from rgrid.kernel.decider import Decider

ENTITY_ID: Final = "monthly"
THRESHOLD_PERCENT: Final = 80


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """The limit, and the months for which its two notices were given since it was set."""

    limit_micros: int | None = None
    threshold_percent: int = THRESHOLD_PERCENT
    warned_month: str = ""
    blocked_month: str = ""


INITIAL: Final = Budget()


def used_percent(used_micros: int, limit_micros: int) -> int:
    """How much of the limit is used, rounded down: 39,999,999 of 50,000,000 are 79 %."""
    return used_micros * 100 // limit_micros


def decide(command: BudgetCommand, state: Budget, now: datetime) -> Sequence[BudgetEvent]:
    """The events that follow, `[]` when it is so already."""
    match command:
        case SetLimit(limit_micros=limit, threshold_percent=threshold, set_by=set_by):
            if (limit, threshold) == (state.limit_micros, state.threshold_percent):
                return []
            return [BudgetLimitSet(limit_micros=limit, threshold_percent=threshold, set_by=set_by, set_at=now)]
        case RemoveLimit(removed_by=removed_by):
            return [] if state.limit_micros is None else [BudgetLimitRemoved(removed_by=removed_by, removed_at=now)]
        case NoteUsage():
            return _notices(command, state, now)


def _notices(command: NoteUsage, state: Budget, now: datetime) -> Sequence[BudgetEvent]:
    if state.limit_micros is None:
        return []
    percent = used_percent(command.used_micros, state.limit_micros)
    notices: list[BudgetEvent] = []
    if percent >= state.threshold_percent and state.warned_month != command.month:
        notices.append(
            BudgetWarned(
                month=command.month,
                used_micros=command.used_micros,
                limit_micros=state.limit_micros,
                threshold_percent=state.threshold_percent,
                warned_at=now,
            )
        )
    if percent >= 100 and state.blocked_month != command.month:
        notices.append(
            BudgetBlocked(
                month=command.month,
                used_micros=command.used_micros,
                limit_micros=state.limit_micros,
                blocked_at=now,
            )
        )
    return notices


def evolve(state: Budget, event: BudgetEvent) -> Budget:
    """The state after a recorded event."""
    match event:
        case BudgetLimitSet(limit_micros=limit, threshold_percent=threshold):
            return Budget(limit_micros=limit, threshold_percent=threshold)
        case BudgetLimitRemoved():
            return Budget()
        case BudgetWarned(month=month):
            return msgspec.structs.replace(state, warned_month=month)
        case BudgetBlocked(month=month):
            return msgspec.structs.replace(state, blocked_month=month)


DECIDER: Final = Decider[BudgetCommand, Budget, BudgetEvent](
    noun="budget", initial=INITIAL, decide=decide, evolve=evolve
)  # fmt: skip
