"""Facts about batches. Public, like `events`. Stream `batch-{id}`."""

from datetime import datetime
from typing import Literal

import msgspec

from rgrid.kernel.messages import Event


class BatchCreated(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Its `total` executions were submitted in the same append. Never more than `max_parallel` of them run at a time;
    with the `failures_max`-th failure everything that hasn't ended is cancelled."""

    name: str | None = None
    total: int
    max_parallel: int | None = None
    fail_fast: bool = False
    failures_max: int | None = None
    user_metadata: dict[str, str] | None = None
    created_by: str
    created_at: datetime


class BatchCancelRequested(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody wants everything in it stopped that hasn't ended."""

    requested_by: str
    reason: str | None = None
    requested_at: datetime


class BatchFailureCounted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """One of its executions ended failed or timed out, and so many may."""

    execution_id: str
    counted_at: datetime


class BatchFailedFast(Event, frozen=True, kw_only=True, omit_defaults=True):
    """This failure was one too many: what hasn't ended is to be cancelled."""

    execution_id: str
    failures: int
    failed_at: datetime


class RetriedItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The execution that takes the place of one that has ended."""

    original_execution_id: str
    execution_id: str
    index: int | None = None


class BatchRetried(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Some of it runs once more, in place; the new executions were submitted in the same append."""

    items: list[RetriedItem]
    requested_by: str
    retried_at: datetime


class BatchEnded(Event, frozen=True, kw_only=True, omit_defaults=True):
    """All of it has ended, by the latest execution of each index. Said once, and once more after each retry; never of
    an open batch, to which others may still add. The cost is that of all its executions."""

    status: Literal["completed", "partial", "failed", "cancelled"]
    total: int
    completed: int
    failed: int
    timed_out: int
    cancelled: int
    total_cost_micros: int
    completed_at: datetime
    ended_at: datetime


BatchEvent = BatchCreated | BatchCancelRequested | BatchFailureCounted | BatchFailedFast | BatchRetried | BatchEnded
