"""Facts about schedules and their runs. Public: projections and higher slices may import this.

Stream `schedule-{id}`: the schedule, the decision about every due time, and the runs that came of them.
"""

from datetime import datetime
from typing import Final, Literal

import msgspec

from rgrid.kernel.ids import derived_id
from rgrid.kernel.messages import Event

TargetType = Literal["EXECUTION", "WORKFLOW", "SOURCE"]
ScheduleType = Literal["cron", "interval", "date"]
OverlapPolicy = Literal["SKIP", "BUFFER_ONE", "QUEUE", "CANCEL_OTHER", "TERMINATE_OTHER", "ALLOW"]
MisfirePolicy = Literal["SKIP", "FIRE_ONCE", "CATCH_UP"]
DstGap = Literal["SHIFT", "SKIP"]
DstFold = Literal["FIRST", "LAST", "BOTH"]
RunTrigger = Literal["SCHEDULE", "MANUAL", "BACKFILL"]
RunEnd = Literal["COMPLETED", "PARTIAL", "FAILED", "CANCELLED"]
Decision = Literal["fired", "buffered"]
NotFired = Literal["overlap", "queue_full"]


def run_id_of(schedule_id: str, due_at: datetime, backfill_id: str = "") -> str:
    """The id of the schedule run of a due time, the same in every process. Each backfill has runs of its own."""
    return derived_id("srun", int(due_at.timestamp() * 1000), schedule_id, backfill_id)


class Exclusion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Local dates, both inclusive, on which nothing fires: a holiday, a freeze."""

    first: str
    last: str
    reason: str | None = None


class Timing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When it is due. Exactly one of `cron`, `interval_s`, `run_at`; the anchor of an interval is `start_at`, else
    when the interval was set."""

    cron: str | None = None
    interval_s: int | None = None
    run_at: datetime | None = None
    timezone: str = "UTC"
    dst_gap: DstGap = "SHIFT"
    dst_fold: DstFold = "FIRST"
    start_at: datetime | None = None
    end_at: datetime | None = None
    exclusions: list[Exclusion] = []


class Rules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What holds when a due time comes. With `pause_after_failures` so many failures in a row disable it."""

    max_instances: int = 1
    overlap_policy: OverlapPolicy = "SKIP"
    misfire_policy: MisfirePolicy = "FIRE_ONCE"
    misfire_grace_s: int = 60
    catch_up_limit: int = 10
    jitter_s: int = 0
    pause_after_failures: int | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What it starts. The params of an EXECUTION are its template, which may hold a script of some length: they lie in
    the object store under `params_sha256`, as canonical JSON."""

    type: TargetType
    name: str
    params_sha256: str | None = None
    params_size_bytes: int = 0


class ScheduleCreated(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A schedule exists. `next_due_at` is None while it is disabled or has nothing to come."""

    schedule_id: str
    name: str
    target: Target
    timing: Timing
    rules: Rules
    enabled: bool
    description: str | None = None
    tags: list[str] = []
    created_by: str
    created_at: datetime
    next_due_at: datetime | None = None


class ScheduleRevised(Event, frozen=True, kw_only=True, omit_defaults=True):
    """It holds these values from now on. When its timing was touched, due times begin anew from here."""

    target: Target
    timing: Timing
    rules: Rules
    description: str | None = None
    tags: list[str] = []
    retimed: bool
    revised_by: str
    revised_at: datetime
    next_due_at: datetime | None = None


class ScheduleEnabled(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Due times count again, from here."""

    enabled_by: str
    enabled_at: datetime
    next_due_at: datetime | None = None


class ScheduleDisabled(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Nothing is due any more, and `dropped` schedule runs that waited will not start. `note` says why."""

    disabled_by: str
    note: str | None = None
    dropped: list[str] = []
    disabled_at: datetime


class ScheduleDeleted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The name is free; what it did stays readable."""

    deleted_by: str
    dropped: list[str] = []
    deleted_at: datetime


class DueFired(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A schedule run exists for this time: to start at `start_at`, which jitter may put off, or, `buffered`, when
    ScheduleRunReleased says so. A manual one has no due time in the schedule's sense: `due_at` is when it was asked
    for. `cancels` are schedule runs that make way for it: their targets are to be stopped. `params_sha256` overlays the
    target's params. `next_due_at` is the schedule's, whatever the trigger."""

    schedule_run_id: str
    due_at: datetime
    trigger: RunTrigger
    decision: Decision
    start_at: datetime
    cancels: list[str] = []
    terminates: bool = False
    params_sha256: str | None = None
    requested_by: str | None = None
    backfill_id: str | None = None
    decided_at: datetime
    next_due_at: datetime | None = None


class DueSkipped(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The time came and nothing starts, for this reason."""

    schedule_run_id: str
    due_at: datetime
    reason: NotFired
    decided_at: datetime
    next_due_at: datetime | None = None


class DueTimesMissed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """These times were found too late. `more` are older ones without a record of their own, at most one of which, the
    first, stands for them."""

    due_at: list[datetime]
    more: int = 0
    decided_at: datetime
    next_due_at: datetime | None = None


class ScheduleRunReleased(Event, frozen=True, kw_only=True, omit_defaults=True):
    """What was buffered is to start at this moment."""

    schedule_run_id: str
    start_at: datetime
    released_at: datetime


class ScheduleRunStarted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Its target began, in the same append: `target_id` is `run_…`, `exec_…` or `fetch_…`."""

    schedule_run_id: str
    target_id: str
    started_at: datetime


class ScheduleRunEnded(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Its target ended so, or, without ScheduleRunStarted before, it could not begin or made way for another one."""

    schedule_run_id: str
    status: RunEnd
    error: str | None = None
    ended_at: datetime


class BackfillRequested(Event, frozen=True, kw_only=True, omit_defaults=True):
    """These times are to run, oldest first, no more than `max_parallel` at once. DueFired follows for each of them, in
    the same append."""

    backfill_id: str
    due_at: list[datetime]
    max_parallel: int
    requested_by: str
    requested_at: datetime


ScheduleEvent = (
    ScheduleCreated
    | ScheduleRevised
    | ScheduleEnabled
    | ScheduleDisabled
    | ScheduleDeleted
    | DueFired
    | DueSkipped
    | DueTimesMissed
    | ScheduleRunReleased
    | ScheduleRunStarted
    | ScheduleRunEnded
    | BackfillRequested
)

TOPICS: Final[dict[str, type[Event]]] = {
    "schedule.created.v1": ScheduleCreated,
    "schedule.revised.v1": ScheduleRevised,
    "schedule.enabled.v1": ScheduleEnabled,
    "schedule.disabled.v1": ScheduleDisabled,
    "schedule.deleted.v1": ScheduleDeleted,
    "schedule.due_fired.v1": DueFired,
    "schedule.due_skipped.v1": DueSkipped,
    "schedule.due_times_missed.v1": DueTimesMissed,
    "schedule.run_released.v1": ScheduleRunReleased,
    "schedule.run_started.v1": ScheduleRunStarted,
    "schedule.run_ended.v1": ScheduleRunEnded,
    "schedule.backfill_requested.v1": BackfillRequested,
}
