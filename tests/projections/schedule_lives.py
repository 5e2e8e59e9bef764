"""The life of a schedule as events, for tests of what is projected from them."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rgrid.kernel.messages import Event
from rgrid.schedules.events import (
    DueFired,
    DueSkipped,
    DueTimesMissed,
    Rules,
    RunEnd,
    ScheduleCreated,
    ScheduleRunEnded,
    ScheduleRunStarted,
    Target,
    Timing,
    run_id_of,
)

NOON: Final = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
S1: Final = "sched_1"


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def run_id(minutes: float, backfill_id: str = "", schedule_id: str = S1) -> str:
    return run_id_of(schedule_id, at(minutes), backfill_id)


def on(schedule_id: str, *events: Event) -> list[tuple[str, Event]]:
    return [(f"schedule-{schedule_id}", event) for event in events]


def created(schedule_id: str = S1, **more: Any) -> ScheduleCreated:
    given = {
        "name": f"name of {schedule_id}",
        "target": Target(type="WORKFLOW", name="load"),
        "timing": Timing(interval_s=60),
        "rules": Rules(),
        "enabled": True,
        "created_by": "key:k",
        "created_at": NOON,
        "next_due_at": at(1),
    }
    return ScheduleCreated(schedule_id=schedule_id, **{**given, **more})


def fired(minutes: float, **more: Any) -> DueFired:
    given = {
        "schedule_run_id": run_id(minutes),
        "trigger": "SCHEDULE",
        "decision": "fired",
        "start_at": at(minutes),
        "decided_at": at(minutes),
        "next_due_at": at(minutes + 1),
    }
    return DueFired(due_at=at(minutes), **{**given, **more})


def skipped(minutes: float, **more: Any) -> DueSkipped:
    given = {"reason": "overlap", "decided_at": at(minutes), "next_due_at": at(minutes + 1)}
    return DueSkipped(schedule_run_id=run_id(minutes), due_at=at(minutes), **{**given, **more})


def missed(*minutes: float, more: int = 0) -> DueTimesMissed:
    last = max(minutes)
    return DueTimesMissed(
        due_at=[at(one) for one in minutes], more=more, decided_at=at(last + 9), next_due_at=at(last + 10)
    )


def started(minutes: float, target_id: str = "run_1", run: str | None = None) -> ScheduleRunStarted:
    return ScheduleRunStarted(schedule_run_id=run or run_id(minutes), target_id=target_id, started_at=at(minutes))


def ended(minutes: float, status: RunEnd = "COMPLETED", after: float = 0.5, error: str | None = None,
          run: str | None = None) -> ScheduleRunEnded:  # fmt: skip
    return ScheduleRunEnded(
        schedule_run_id=run or run_id(minutes), status=status, error=error, ended_at=at(minutes + after)
    )
