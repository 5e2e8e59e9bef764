"""What a client may send about schedules, and the checks that a schema can't say."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from rgrid.kernel.errors import Invalid, Malformed
from rgrid.kernel.names import NAME_HELP, RESERVED, is_name
from rgrid.schedules.events import (
    DstFold,
    DstGap,
    Exclusion,
    MisfirePolicy,
    OverlapPolicy,
    Rules,
    RunTrigger,
    ScheduleType,
    TargetType,
    Timing,
)

ScheduleRunStatus = Literal[
    "PENDING", "RUNNING", "COMPLETED", "PARTIAL", "FAILED", "SKIPPED", "MISSED", "CANCELLED"
]  # fmt: skip
ALIASES: Final[Mapping[str, TargetType]] = {
    "EXECUTION": "EXECUTION",
    "COMMAND": "EXECUTION",
    "WORKFLOW": "WORKFLOW",
    "PIPELINE": "WORKFLOW",
    "OPERATION": "WORKFLOW",
    "SOURCE": "SOURCE",
}
_KINDS: Final[Mapping[str, ScheduleType]] = {
    "cron_expression": "cron",
    "interval_seconds": "interval",
    "run_at": "date",
}

Moment = Annotated[datetime, Meta(tz=True)]
Cron = Annotated[str, Meta(min_length=1, max_length=200)]
IntervalS = Annotated[int, Meta(ge=1, le=31_536_000)]
Zone = Annotated[str, Meta(min_length=1, max_length=64)]
TargetTypeText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=20,
        description="In any case. PIPELINE and OPERATION mean WORKFLOW, COMMAND means EXECUTION.",
        extra_json_schema={"enum": ["EXECUTION", "WORKFLOW", "SOURCE"]},
    ),
]
Tags = Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=50)]
Description = Annotated[str, Meta(max_length=2000)]
Note = Annotated[str, Meta(max_length=1000)]


class ExclusionSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Local dates, both inclusive, on which nothing fires."""

    first: Annotated[str, Meta(min_length=10, max_length=10, description="Such as 2026-12-24.")]
    last: Annotated[str, Meta(min_length=10, max_length=10)] | None = None
    reason: Annotated[str, Meta(max_length=200)] | None = None


Exclusions = Annotated[list[ExclusionSpec], Meta(max_length=1000)]


class ScheduleCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to start when. Exactly one of `cron_expression`, `interval_seconds`, `run_at`."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    target_type: TargetTypeText
    target_name: Annotated[str, Meta(min_length=1, max_length=200)]
    target_params: dict[str, Any] | None = None
    params: Annotated[dict[str, Any] | None, Meta(description="The same as target_params.")] = None
    schedule_type: ScheduleType | None = None
    cron_expression: Cron | None = None
    interval_seconds: IntervalS | None = None
    run_at: Moment | None = None
    timezone: Zone = "UTC"
    enabled: bool = True
    max_instances: Annotated[int, Meta(ge=1, le=100)] = 1
    overlap_policy: OverlapPolicy = "SKIP"
    misfire_policy: MisfirePolicy = "FIRE_ONCE"
    dst_gap: DstGap = "SHIFT"
    dst_fold: DstFold = "FIRST"
    jitter_seconds: Annotated[int, Meta(ge=0, le=3600)] = 0
    misfire_grace_seconds: Annotated[int, Meta(ge=0, le=604_800)] = 60
    catch_up_limit: Annotated[int, Meta(ge=1, le=1000)] = 10
    start_at: Moment | None = None
    end_at: Moment | None = None
    description: Description | None = None
    tags: Tags = []
    exclusions: Exclusions = []
    pause_after_failures: Annotated[int, Meta(ge=1, le=1000)] | None = None


class ScheduleUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different. What is left out stays; null clears what may be empty."""

    description: Description | UnsetType | None = UNSET
    target_params: dict[str, Any] | UnsetType | None = UNSET
    params: dict[str, Any] | UnsetType | None = UNSET
    cron_expression: Cron | UnsetType | None = UNSET
    interval_seconds: IntervalS | UnsetType | None = UNSET
    run_at: Moment | UnsetType | None = UNSET
    timezone: Zone | UnsetType | None = UNSET
    enabled: bool | UnsetType | None = UNSET
    max_instances: Annotated[int, Meta(ge=1, le=100)] | UnsetType | None = UNSET
    overlap_policy: OverlapPolicy | UnsetType | None = UNSET
    misfire_policy: MisfirePolicy | UnsetType | None = UNSET
    dst_gap: DstGap | UnsetType | None = UNSET
    dst_fold: DstFold | UnsetType | None = UNSET
    jitter_seconds: Annotated[int, Meta(ge=0, le=3600)] | UnsetType | None = UNSET
    misfire_grace_seconds: Annotated[int, Meta(ge=0, le=604_800)] | UnsetType | None = UNSET
    catch_up_limit: Annotated[int, Meta(ge=1, le=1000)] | UnsetType | None = UNSET
    start_at: Moment | UnsetType | None = UNSET
    end_at: Moment | UnsetType | None = UNSET
    tags: Tags | UnsetType | None = UNSET
    exclusions: Exclusions | UnsetType | None = UNSET
    pause_after_failures: Annotated[int, Meta(ge=1, le=1000)] | UnsetType | None = UNSET


class NoteRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why, for whoever looks at it later."""

    note: Note | None = None


class RunNowRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters for this run; they overlay the stored ones at the top level."""

    target_params: dict[str, Any] | None = None
    params: dict[str, Any] | None = None


class BackfillRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A range of due times in the past: `start` is inclusive, `end` exclusive."""

    start: Moment
    end: Moment
    max_parallel: Annotated[int, Meta(ge=1, le=100)] = 1
    force: bool = False
    dry_run: bool = False


class SchedulePreviewRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When would this be due?"""

    schedule_type: ScheduleType | None = None
    cron_expression: Cron | None = None
    interval_seconds: IntervalS | None = None
    run_at: Moment | None = None
    timezone: Zone = "UTC"
    after: Moment | None = None
    count: Annotated[int, Meta(ge=1, le=100)] = 5
    dst_gap: DstGap = "SHIFT"
    dst_fold: DstFold = "FIRST"
    start_at: Moment | None = None
    end_at: Moment | None = None
    exclusions: Exclusions = []


class ScheduleFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Narrows the list of schedules."""

    name: str | None = None
    enabled: bool | None = None
    target_type: TargetTypeText | None = None
    target_name: str | None = None
    tag: str | None = None


class ScheduleRunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Narrows the list of the runs of one schedule."""

    status: ScheduleRunStatus | None = None
    trigger: RunTrigger | None = None
    since: datetime | None = None
    until: datetime | None = None


class AllRunsFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Narrows the list of the runs of all schedules."""

    schedule_id: str | None = None
    status: ScheduleRunStatus | None = None
    since: datetime | None = None
    until: datetime | None = None


class CountQuery(msgspec.Struct, frozen=True, kw_only=True):
    """How many due times to show."""

    count: Annotated[int, Meta(ge=1, le=100)] = 5


class NextQuery(msgspec.Struct, frozen=True, kw_only=True):
    """How many due times to show, and of which schedule."""

    count: Annotated[int, Meta(ge=1, le=100)] = 5
    schedule_id: str | None = None


def target_type_of(text: str, field: str = "target_type") -> TargetType:
    """The kind of target that is meant. Raises Malformed."""
    kind = ALIASES.get(text.upper())
    if kind is None:
        raise Malformed(
            "There is no such type of target.", [(field, f"Expected one of EXECUTION, WORKFLOW, SOURCE; got '{text}'.")]
        )
    return kind


def check_name(name: str) -> None:
    """Raises Malformed for what is no name, Invalid for a word that is a path of its own."""
    if not is_name(name):
        raise Malformed("The name can't be used.", [("name", NAME_HELP)])
    if name in RESERVED:
        raise Invalid(f"{name} is a word of the interface.", code="reserved_name", fields=[("name", "Reserved.")])


def params_of(body: ScheduleCreate | ScheduleUpdate | RunNowRequest) -> dict[str, Any] | UnsetType | None:
    """The parameters under either of their names. Raises Invalid when both are given and differ."""
    first, second = body.target_params, body.params
    absent = UNSET if isinstance(body, ScheduleUpdate) else None
    if first is not absent and second is not absent and first != second:
        raise Invalid(
            "target_params and params are the same thing, and differ.",
            code="conflicting_params",
            fields=[("params", "Differs from target_params.")],
        )
    return second if first is absent else first


def timing_of(body: ScheduleCreate | SchedulePreviewRequest) -> Timing:
    """Raises Invalid when the named type isn't that of what is given; the rest is the schedule's to check."""
    given = [kind for field, kind in _KINDS.items() if getattr(body, field) is not None]
    if body.schedule_type is not None and given != [body.schedule_type]:
        wanted = next(field for field, kind in _KINDS.items() if kind == body.schedule_type)
        raise Invalid(
            f"A schedule of the type {body.schedule_type} has {wanted} and neither of the others.",
            code="bad_timing",
            fields=[("schedule_type", f"Give {wanted}, and only that.")],
        )
    return Timing(
        cron=body.cron_expression,
        interval_s=body.interval_seconds,
        run_at=utc(body.run_at),
        timezone=body.timezone,
        dst_gap=body.dst_gap,
        dst_fold=body.dst_fold,
        start_at=utc(body.start_at),
        end_at=utc(body.end_at),
        exclusions=exclusions_of(body.exclusions),
    )


def exclusions_of(specs: list[ExclusionSpec]) -> list[Exclusion]:
    return [Exclusion(first=one.first, last=one.last or one.first, reason=one.reason) for one in specs]


def rules_of(body: ScheduleCreate) -> Rules:
    return Rules(
        max_instances=body.max_instances,
        overlap_policy=body.overlap_policy,
        misfire_policy=body.misfire_policy,
        misfire_grace_s=body.misfire_grace_seconds,
        catch_up_limit=body.catch_up_limit,
        jitter_s=body.jitter_seconds,
        pause_after_failures=body.pause_after_failures,
    )


def utc(moment: datetime | None) -> datetime | None:
    """The same moment as the log has it. Raises Malformed for one that no calendar of ours reaches."""
    if moment is None:
        return None
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise Malformed("A time is out of range.", [("body", "A time is out of range.")]) from None


_CLEARED: Final = frozenset({
    "description", "target_params", "params", "cron_expression", "interval_seconds", "run_at", "start_at", "end_at",
    "pause_after_failures",
})  # fmt: skip
_TIMING: Final = {
    "cron_expression": "cron", "interval_seconds": "interval_s", "run_at": "run_at", "timezone": "timezone",
    "dst_gap": "dst_gap", "dst_fold": "dst_fold", "start_at": "start_at", "end_at": "end_at",
}  # fmt: skip
_RULES: Final = {
    "max_instances": "max_instances", "overlap_policy": "overlap_policy", "misfire_policy": "misfire_policy",
    "misfire_grace_seconds": "misfire_grace_s", "catch_up_limit": "catch_up_limit", "jitter_seconds": "jitter_s",
    "pause_after_failures": "pause_after_failures",
}  # fmt: skip


def check_nulls(body: ScheduleUpdate) -> None:
    """Raises Malformed for each field that can't be empty and is null."""
    wrong = [
        (field, "It can't be null.")
        for field in body.__struct_fields__
        if getattr(body, field) is None and field not in _CLEARED
    ]
    if wrong:
        raise Malformed("Some fields can't be null.", wrong)


def retimed(body: ScheduleUpdate, timing: Timing) -> Timing:
    """The timing with what the request says of it."""
    changes = {name: getattr(body, field) for field, name in _TIMING.items() if getattr(body, field) is not UNSET}
    changes |= {name: utc(value) for name, value in changes.items() if isinstance(value, datetime)}
    if not isinstance(body.exclusions, UnsetType):
        changes["exclusions"] = exclusions_of(body.exclusions or [])
    return msgspec.structs.replace(timing, **changes)


def reruled(body: ScheduleUpdate, rules: Rules) -> Rules:
    """The rules with what the request says of them."""
    changes = {name: getattr(body, field) for field, name in _RULES.items() if getattr(body, field) is not UNSET}
    return msgspec.structs.replace(rules, **changes)
