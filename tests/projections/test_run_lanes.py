"""Lanes of the run queue: limits, held lanes, and turns, whatever the size of the pages."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from asyncpg import CheckViolationError
from projected import BEGAN_AT, projected, read_model

from projections import run_queue
from projections.run_queue import PROJECTION
from rgrid.executions.batch_events import BatchCancelRequested, BatchCreated, BatchRetried, RetriedItem
from rgrid.executions.events import (
    ExecutionCancelled,
    ExecutionClaimed,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionQueued,
)
from rgrid.kernel.messages import Event

BATCH = "batch-b1"
Given = list[tuple[str, Event]]
LANES = "select lane, running, is_held from run_queue_lanes order by lane"


def created(**limits: Any) -> tuple[str, Event]:
    return (BATCH, BatchCreated(total=3, created_by="key:1", created_at=BEGAN_AT, **limits))


def queued(name: str, batch_id: str | None = "b1", attempt: int = 1) -> tuple[str, Event]:
    return (
        f"execution-{name}",
        ExecutionQueued(attempt=attempt, runtime="bash", cpu=1, memory_mb=64, batch_id=batch_id,
                        not_before=BEGAN_AT - timedelta(days=1), queued_at=BEGAN_AT),
    )  # fmt: skip


def claimed(name: str, attempt: int = 1) -> tuple[str, Event]:
    return (
        f"execution-{name}",
        ExecutionClaimed(attempt=attempt, fencing_token=attempt, worker_id="w", worker_hostname="h",
                         runner_kind="sandbox", sandbox_level="full", hourly_micros=1, claimed_at=BEGAN_AT),
    )  # fmt: skip


def completed(name: str) -> tuple[str, Event]:
    return (f"execution-{name}", ExecutionCompleted(finalized_cost_micros=0, completed_at=BEGAN_AT))


def failed(name: str) -> tuple[str, Event]:
    event = ExecutionFailed(failure_reason="exit_code", finalized_cost_micros=0, completed_at=BEGAN_AT)
    return (f"execution-{name}", event)


def cancelled(name: str) -> tuple[str, Event]:
    event = ExecutionCancelled(cancelled_by="key:1", finalized_cost_micros=0, completed_at=BEGAN_AT)
    return (f"execution-{name}", event)


CANCELLED = (BATCH, BatchCancelRequested(requested_by="key:1", requested_at=BEGAN_AT))
RETRIED = (
    BATCH,
    BatchRetried(
        items=[RetriedItem(original_execution_id="a", execution_id="d")], requested_by="k", retried_at=BEGAN_AT
    ),
)
THREE = [queued("a"), queued("b"), queued("c")]


def offered(database: str, given: Sequence[tuple[str, Event]], slots: int = 8) -> list[str]:
    async def ask() -> list[str]:
        async with read_model(database, PROJECTION, given) as connection:
            waiting = await run_queue.candidates(connection, slots, ["bash"], 1024, 4)
            return [one.execution_id for one in waiting]

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("given", "running", "is_held"),
    [
        ([], 0, False),
        ([claimed("a")], 1, False),
        ([claimed("a"), claimed("b")], 2, False),
        ([claimed("a"), completed("a")], 0, False),
        ([claimed("a"), failed("a"), claimed("b")], 1, False),
        ([claimed("a"), queued("a", attempt=2)], 0, False),
        ([claimed("a"), queued("a", attempt=2), claimed("a", 2)], 1, False),
        ([claimed("a"), cancelled("a"), cancelled("b")], 0, False),
        ([claimed("a"), CANCELLED, cancelled("a")], 0, True),
        ([claimed("a"), CANCELLED, cancelled("a"), RETRIED], 0, False),
    ],
)
def test_what_runs_of_a_limited_batch_is_counted(database: str, given: Given, running: int, is_held: bool) -> None:
    rows = projected(database, PROJECTION, [created(max_parallel=2), *THREE, *given], LANES)
    assert rows == [{"lane": "b1", "running": running, "is_held": is_held}]


@pytest.mark.parametrize(
    ("given", "is_held"),
    [
        ([claimed("a")], False),
        ([claimed("a"), completed("a")], False),
        ([claimed("a"), failed("a")], True),
        ([claimed("a"), failed("a"), RETRIED], False),
        ([failed("b")], True),
    ],
)
def test_the_first_failure_holds_the_lane_of_a_batch_that_fails_fast(
    database: str, given: Given, is_held: bool
) -> None:
    (row,) = projected(database, PROJECTION, [created(fail_fast=True), *THREE, *given], LANES)
    assert row["is_held"] is is_held


def test_nobody_is_offered_more_than_the_limit_leaves(database: str) -> None:
    assert offered(database, [created(max_parallel=2), *THREE]) == ["a", "b"]
    assert offered(database, [created(max_parallel=2), *THREE, claimed("a")]) == ["b"]
    assert offered(database, [created(max_parallel=2), *THREE, claimed("a"), claimed("b")]) == []
    assert offered(database, [created(), *THREE], slots=2) == ["a", "b"]
    assert offered(database, [created(), *THREE, CANCELLED]) == []


def test_a_full_lane_holds_up_no_other(database: str) -> None:
    given = [created(max_parallel=1), *THREE, claimed("a"), queued("single", None), queued("other", "b2")]
    assert offered(database, given) == ["single", "other"]


def test_a_claim_that_would_overshoot_the_limit_fails(database: str) -> None:
    with pytest.raises(CheckViolationError, match="lane_is_full"):
        offered(database, [created(max_parallel=2), *THREE, claimed("a"), claimed("b"), claimed("c")])
