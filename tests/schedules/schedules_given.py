"""Schedules as the tests of decisions want them."""

from datetime import UTC, datetime
from typing import Any

from given import Given, given

from rgrid.schedules.commands import (
    CreateSchedule,
    DecideDue,
    DeleteSchedule,
    DisableSchedule,
    EnableSchedule,
    EndScheduleRun,
    ReviseSchedule,
    StartScheduleRun,
)
from rgrid.schedules.events import (
    DueFired,
    DueSkipped,
    DueTimesMissed,
    Rules,
    ScheduleEvent,
    ScheduleRunStarted,
    Target,
    Timing,
    run_id_of,
)
from rgrid.schedules.schedule import DECIDER

ID = "sched_01JB2Z4M7K8P9Q0R1S2T3V4W5X"
DISABLE = DisableSchedule(disabled_by="key:k")
ENABLE = EnableSchedule(enabled_by="key:k")
DELETE = DeleteSchedule(deleted_by="key:k")


def at(text: str) -> datetime:
    """`10:07` on 5 January 2026, or a whole `2026-03-02T11:00`, in UTC."""
    return datetime.fromisoformat(text if "T" in text else f"2026-01-05T{text}").replace(tzinfo=UTC)


def create(timing: Timing, *, enabled: bool = True, **rules: Any) -> CreateSchedule:
    return CreateSchedule(
        schedule_id=ID,
        name="sales.weekly",
        target=Target(type="WORKFLOW", name="sales.weekly_refresh"),
        timing=timing,
        rules=Rules(**rules),
        enabled=enabled,
        description=None,
        tags=[],
        created_by="key:k",
    )


def schedule(timing: Timing | None = None, *, made: str = "10:00", enabled: bool = True, **rules: Any) -> Given:
    """A schedule with these rules, due every minute unless said otherwise, made at 10:00."""
    command = create(timing or Timing(interval_s=60), enabled=enabled, **rules)
    return given(DECIDER).when(command, at(made)).after


def run_id(time: str) -> str:
    return run_id_of(ID, at(time))


def revise(timing: Timing, **rules: object) -> ReviseSchedule:
    return ReviseSchedule(
        target=Target(type="WORKFLOW", name="sales.weekly_refresh"),
        timing=timing,
        rules=Rules(**rules),  # type: ignore[arg-type]
        description=None,
        tags=[],
        revised_by="key:k",
    )


def decided(past: Given, moment: str) -> list[tuple[str, str]]:
    """What became of each due time at this moment."""
    return [one for event in past.when(DecideDue(), at(moment)).events for one in told(event)]


def told(event: ScheduleEvent) -> list[tuple[str, str]]:
    match event:
        case DueFired():
            return [(f"{event.due_at:%H:%M}", event.decision)]
        case DueSkipped():
            return [(f"{event.due_at:%H:%M}", event.reason)]
        case DueTimesMissed():
            return [(f"{due_at:%H:%M}", "missed") for due_at in event.due_at]
    return []


def started(past: Given, time: str) -> Given:
    command = StartScheduleRun(schedule_run_id=run_id(time), target_id=f"run_{time}")
    return past.when(command, at(time)).then(ScheduleRunStarted)


def ended(past: Given, time: str, moment: str, status: str = "COMPLETED") -> list[ScheduleEvent]:
    command = EndScheduleRun(schedule_run_id=run_id(time), status=status)  # type: ignore[arg-type]
    return list(past.when(command, at(moment)).events)
