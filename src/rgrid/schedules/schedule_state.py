"""What decisions about a schedule need, and how its events lead there. Bounded: nothing is kept of what has ended."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from rgrid.schedules import events as on
from rgrid.schedules.active_runs import ActiveRun, without

Status = Literal["absent", "enabled", "disabled", "deleted"]
FAILED: Final = frozenset({"FAILED", "PARTIAL"})
"""The ends that count as failures."""

_ORIGIN: Final = datetime(1970, 1, 1, tzinfo=UTC)
_replace = msgspec.structs.replace


class Schedule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What decisions need. `interval_anchor` is when the interval was set; `backfills` has the parallelism of those
    under way; `failures` counts those in a row since the last success or enable."""

    status: Status = "absent"
    schedule_id: str = ""
    name: str = ""
    target: on.Target = on.Target(type="EXECUTION", name="")
    timing: on.Timing = on.Timing()
    rules: on.Rules = on.Rules()
    description: str | None = None
    tags: list[str] = []
    interval_anchor: datetime = _ORIGIN
    cursor: datetime = _ORIGIN
    next_due_at: datetime | None = None
    runs: dict[str, ActiveRun] = {}
    backfills: dict[str, int] = {}
    failures: int = 0

    @property
    def exists(self) -> bool:
        return self.status in ("enabled", "disabled")


INITIAL: Final = Schedule()


def anchor_of(state: Schedule, timing: on.Timing, now: datetime) -> datetime:
    """From when an interval counts once this timing holds."""
    return state.interval_anchor if timing.interval_s == state.timing.interval_s else now


def evolve(state: Schedule, event: on.ScheduleEvent) -> Schedule:
    """The state after a recorded event."""
    match event:
        case on.ScheduleCreated():
            return Schedule(
                status="enabled" if event.enabled else "disabled",
                schedule_id=event.schedule_id,
                name=event.name,
                target=event.target,
                timing=event.timing,
                rules=event.rules,
                description=event.description,
                tags=event.tags,
                interval_anchor=event.created_at,
                cursor=event.created_at,
                next_due_at=event.next_due_at,
            )
        case on.ScheduleRevised():
            return _revised(state, event)
        case on.ScheduleEnabled():
            cursor = max(state.cursor, event.enabled_at)
            return _replace(state, status="enabled", cursor=cursor, next_due_at=event.next_due_at, failures=0)
        case on.ScheduleDisabled():
            return _replace(_gone(state, event.dropped), status="disabled", next_due_at=None)
        case on.ScheduleDeleted():
            return _replace(_gone(state, event.dropped), status="deleted", next_due_at=None)
        case on.DueFired():
            return _fired(state, event)
        case on.DueSkipped():
            return _replace(state, cursor=event.due_at, next_due_at=event.next_due_at)
        case on.DueTimesMissed():
            return _replace(state, cursor=event.due_at[-1], next_due_at=event.next_due_at)
        case on.BackfillRequested():
            return _replace(state, backfills=state.backfills | {event.backfill_id: event.max_parallel})
        case on.ScheduleRunReleased():
            return _run(state, event.schedule_run_id, stage="pending", start_at=event.start_at)
        case on.ScheduleRunStarted():
            return _run(state, event.schedule_run_id, stage="running", target_id=event.target_id)
        case on.ScheduleRunEnded():
            failures = 0 if event.status == "COMPLETED" else state.failures + (event.status in FAILED)
            return _replace(_gone(state, [event.schedule_run_id]), failures=failures)


def _revised(state: Schedule, event: on.ScheduleRevised) -> Schedule:
    return _replace(
        state,
        target=event.target,
        timing=event.timing,
        rules=event.rules,
        description=event.description,
        tags=event.tags,
        interval_anchor=anchor_of(state, event.timing, event.revised_at),
        cursor=max(state.cursor, event.revised_at) if event.retimed else state.cursor,
        next_due_at=event.next_due_at,
    )


def _fired(state: Schedule, event: on.DueFired) -> Schedule:
    runs = dict(state.runs)
    for gone in event.cancels:
        runs[gone] = _replace(runs[gone], stopping=True, terminated=event.terminates)
    runs[event.schedule_run_id] = ActiveRun(
        schedule_run_id=event.schedule_run_id,
        due_at=event.due_at,
        trigger=event.trigger,
        stage="pending" if event.decision == "fired" else "waiting",
        start_at=event.start_at,
        params_sha256=event.params_sha256,
        requested_by=event.requested_by,
        backfill_id=event.backfill_id,
    )
    cursor = event.due_at if event.trigger == "SCHEDULE" else state.cursor
    return _replace(state, runs=runs, cursor=cursor, next_due_at=event.next_due_at)


def _run(state: Schedule, run_id: str, **changes: object) -> Schedule:
    changed: ActiveRun = _replace(state.runs[run_id], **changes)
    return _replace(state, runs=state.runs | {run_id: changed})


def _gone(state: Schedule, gone: Iterable[str]) -> Schedule:
    runs = without(state.runs, gone)
    busy = {run.backfill_id for run in runs.values()}
    return _replace(state, runs=runs, backfills={key: many for key, many in state.backfills.items() if key in busy})
