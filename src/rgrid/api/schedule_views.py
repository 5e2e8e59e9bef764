"""How schedules and their runs look to a client."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from rgrid.api.schedule_requests import ScheduleRunStatus
from rgrid.schedules.events import (
    DstFold,
    DstGap,
    Exclusion,
    MisfirePolicy,
    OverlapPolicy,
    RunTrigger,
    ScheduleType,
    TargetType,
    Timing,
)
from rgrid.schedules.timing import Occurrence
from rgrid.web.operation import ActionResponse


class ScheduleResponse(msgspec.Struct, kw_only=True):
    """A schedule: what it starts, when, by which rules, and how that went."""

    id: str
    name: str
    description: str | None
    target_type: TargetType
    target_name: str
    target_params: dict[str, Any] | None
    schedule_type: ScheduleType
    cron_expression: str | None
    interval_seconds: int | None
    run_at: datetime | None
    timezone: str
    enabled: bool
    max_instances: int
    overlap_policy: OverlapPolicy
    misfire_policy: MisfirePolicy
    dst_gap: DstGap
    dst_fold: DstFold
    jitter_seconds: int
    misfire_grace_seconds: int
    catch_up_limit: int
    start_at: datetime | None
    end_at: datetime | None
    exclusions: list[Exclusion]
    pause_after_failures: int | None
    tags: list[str]
    note: str | None
    last_run_at: datetime | None
    next_run_at: datetime | None
    last_run_status: ScheduleRunStatus | None
    run_count: int
    success_count: int
    failure_count: int
    consecutive_failures: int
    created_at: datetime
    updated_at: datetime
    created_by: str | None
    version: int


class ScheduleRunSummary(msgspec.Struct, kw_only=True):
    """What became of one due time, or of a run that somebody asked for."""

    id: str
    schedule_id: str
    schedule_name: str
    scheduled_at: datetime
    trigger: RunTrigger
    status: ScheduleRunStatus
    started_at: datetime | None
    completed_at: datetime | None
    duration_seconds: float | None
    target_type: TargetType
    run_id: str | None
    execution_id: str | None
    fetch_id: str | None
    error: str | None
    skip_reason: str | None


class NextRunPreview(msgspec.Struct, kw_only=True):
    """A due time. `dst` marks one that a change of the clock puts off (`gap`) or lets come twice (`fold`);
    `expected_cost_micros` is what the last runs came to on average."""

    schedule_id: str | None
    schedule_name: str | None
    next_run_at: datetime
    local_time: str
    timezone: str
    cron_expression: str | None
    interval_seconds: int | None
    dst: Literal["gap", "fold"] | None = None
    expected_cost_micros: int | None = None


class TriggeredRun(ActionResponse, kw_only=True):
    """What was started: `run_id` is its id, `schedule_run_id` that of the schedule's record of it."""

    run_id: str
    schedule_run_id: str


class BackfillResponse(ActionResponse, kw_only=True):
    """The due times that run, or would; `skipped` were left out because they ran already, or are about to."""

    count: int
    skipped: int
    occurrences: list[datetime]
    schedule_run_ids: list[str]


def timing_in(row: Mapping[str, Any]) -> Timing:
    return Timing(
        **{name: row[name] for name in ("cron", "interval_s", "run_at", "timezone", "dst_gap", "dst_fold")},
        start_at=row["start_at"],
        end_at=row["end_at"],
        exclusions=msgspec.json.decode(row["exclusions"], type=list[Exclusion]),
    )


def schedule(row: Mapping[str, Any], params: dict[str, Any] | None) -> ScheduleResponse:
    same = {name: row[name] for name in ScheduleResponse.__struct_fields__ if name in row}
    return ScheduleResponse(
        **{
            **same,
            "id": row["schedule_id"],
            "target_params": params,
            "schedule_type": "cron" if row["cron"] else "interval" if row["interval_s"] else "date",
            "cron_expression": row["cron"],
            "interval_seconds": row["interval_s"],
            "jitter_seconds": row["jitter_s"],
            "misfire_grace_seconds": row["misfire_grace_s"],
            "exclusions": msgspec.json.decode(row["exclusions"], type=list[Exclusion]),
        }
    )


def run(row: Mapping[str, Any]) -> ScheduleRunSummary:
    started_at, completed_at, target = row["started_at"], row["completed_at"], row["target_id"] or ""
    both = started_at is not None and completed_at is not None
    return ScheduleRunSummary(
        id=row["schedule_run_id"],
        schedule_id=row["schedule_id"],
        schedule_name=row["schedule_name"],
        scheduled_at=row["scheduled_at"],
        trigger=row["trigger"],
        status=row["status"],
        started_at=started_at,
        completed_at=completed_at,
        duration_seconds=(completed_at - started_at).total_seconds() if both else None,
        target_type=row["target_type"],
        run_id=target if target.startswith("run_") else None,
        execution_id=target if target.startswith("exec_") else None,
        fetch_id=target if target.startswith("fetch_") else None,
        error=row["error"],
        skip_reason=row["skip_reason"],
    )


def preview(
    timing: Timing, one: Occurrence, row: Mapping[str, Any] | None = None, cost_micros: int | None = None
) -> NextRunPreview:
    return NextRunPreview(
        schedule_id=row["schedule_id"] if row else None,
        schedule_name=row["name"] if row else None,
        next_run_at=one.at,
        local_time=one.local_time,
        timezone=timing.timezone,
        cron_expression=timing.cron,
        interval_seconds=timing.interval_s,
        dst=one.dst,
        expected_cost_micros=cost_micros,
    )
