"""What a client may send about workflow runs."""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from projections.run_detail import RunStatus, StepStatus
from rgrid.kernel.errors import Invalid
from rgrid.workflows.events import RunTrigger

BULK_MAX: Final = 1_000


class WorkflowTriggerRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run to begin: its parameters over the defaults of the workflow. No two runs of one partition are active at a
    time. `idempotency_key` is that of the header, for clients that can't set one."""

    params: dict[str, Any] = {}
    partition_key: dict[str, Any] | None = None
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    dry_run: bool = False
    version: Annotated[int, Meta(ge=1)] | None = None


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Narrows the list of runs."""

    status: RunStatus | None = None
    workflow_name: str | None = None
    domain: str | None = None
    trigger: RunTrigger | None = None
    triggered_by: str | None = None
    parent_run_id: str | None = None
    schedule_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class BulkFilter(RunFilter, frozen=True, kw_only=True):
    """Which runs an action is for, oldest first, and whether it is only to be said which ones those are."""

    dry_run: bool = False
    limit: Annotated[int, Meta(ge=1, le=BULK_MAX)] = BULK_MAX


class RunQuery(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a run."""

    include_steps: bool = True


class StepFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Narrows the list of a run's steps."""

    status: StepStatus | None = None


class RunRetryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Where to start again, and whether it is only to be said what that would mean."""

    from_step: str | None = None
    plan: bool = False


class RunLogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines of a run's executions."""

    step: str | None = None
    include_children: bool = True


class RunCancelRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why, for whoever reads the log later. With `force` what runs gets no time to end by itself."""

    reason: Annotated[str, Meta(max_length=1000)] | None = None
    force: bool = False


class RunPauseRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why, for whoever wonders later."""

    note: Annotated[str, Meta(max_length=1000)] | None = None


class SignalRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the step that waits for the signal hands on."""

    payload: dict[str, Any] = {}


def partition_of(body: WorkflowTriggerRequest) -> str | None:
    """The canonical JSON of the partition key."""
    if body.partition_key is None:
        return None
    return msgspec.json.encode(body.partition_key, order="sorted").decode()


def narrowed(query: BulkFilter) -> RunFilter:
    """The filter of an action on many runs. Raises Invalid when it would mean all there are."""
    values = {name: getattr(query, name) for name in RunFilter.__struct_fields__}
    if all(value is None for value in values.values()):
        raise Invalid(
            "Say which runs are meant: at least one filter is needed.",
            code="filter_missing",
            fields=[(f"query.{name}", "One of these.") for name in values],
        )
    return RunFilter(**values)
