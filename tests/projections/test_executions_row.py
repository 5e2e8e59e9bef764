"""The list of executions: which row follows from which events, however the events are paged."""

import asyncio
from typing import Any

import pytest
from lives import COMPLETED, HAPPY, at, claimed, ended, queued, submitted, waiting
from projected import projected, read_model

from projections import executions
from rgrid.executions.events import ExecutionCancelled, ExecutionFailed, ExecutionTimedOut
from rgrid.kernel.messages import Event
from rgrid.postgres.paging import Window

ROW = (
    "select execution_id, status, failure_reason, exit_code, retry_count, cost_micros, duration_ms, queued_at,"
    " started_at, completed_at from executions order by execution_id"
)


def row(database: str, *events: Event) -> dict[str, Any]:
    (only,) = projected(database, executions.PROJECTION, [("execution-e1", event) for event in events], ROW)
    assert only.pop("execution_id") == "e1"
    return only


@pytest.mark.parametrize(
    ("count", "status"), [(1, "awaiting_inputs"), (2, "queued"), (3, "running"), (4, "running"), (5, "completed")]
)
def test_the_status_follows_the_events(database: str, count: int, status: str) -> None:
    assert row(database, *HAPPY[:count])["status"] == status


def test_a_completed_execution_has_all_its_figures(database: str) -> None:
    assert row(database, *HAPPY) == {
        "status": "completed",
        "failure_reason": None,
        "exit_code": 0,
        "retry_count": 0,
        "cost_micros": 2,
        "duration_ms": 1000,
        "queued_at": at(1),
        "started_at": at(2),
        "completed_at": at(3),
    }


def test_costs_of_attempts_add_up_and_the_last_attempt_is_shown(database: str) -> None:
    lost = ended(3, 1, "lost", "worker_lost", duration_ms=700, cost_micros=5)
    seen = row(database, submitted(), queued(), claimed(), lost, queued(3, 2), claimed(5, 2), ended(6, 2), COMPLETED)
    assert (seen["retry_count"], seen["cost_micros"], seen["duration_ms"]) == (1, 7, 1000)
    assert (seen["started_at"], seen["queued_at"], seen["failure_reason"]) == (at(5), at(3), None)


@pytest.mark.parametrize(
    ("final", "status", "reason", "exit_code"),
    [
        (ExecutionFailed(failure_reason="exit_code", exit_code=3, finalized_cost_micros=2, completed_at=at(3)),
         "failed", "exit_code", 3),
        (ExecutionFailed(failure_reason="input_missing", finalized_cost_micros=0, completed_at=at(3)),
         "failed", "input_missing", None),
        (ExecutionTimedOut(finalized_cost_micros=2, completed_at=at(3)), "timed_out", "timeout", None),
        (ExecutionCancelled(cancelled_by="key:k", finalized_cost_micros=0, completed_at=at(3)),
         "cancelled", "cancelled", None),
    ],
)  # fmt: skip
def test_every_other_end_has_its_reason(
    database: str, final: Event, status: str, reason: str, exit_code: int | None
) -> None:
    seen = row(database, submitted(), queued(), claimed(), final)
    assert (seen["status"], seen["failure_reason"], seen["exit_code"]) == (status, reason, exit_code)
    assert seen["completed_at"] == at(3)


def test_many_streams_in_one_page_do_not_mix(database: str) -> None:
    given = [(f"execution-e{n}", event) for event in HAPPY for n in range(1, 4)]
    given = given[:-1]
    rows = projected(database, executions.PROJECTION, given, "select execution_id, status from executions order by 1")
    assert [(one["execution_id"], one["status"]) for one in rows] == [
        ("e1", "completed"), ("e2", "completed"), ("e3", "running"),
    ]  # fmt: skip


def test_a_page_of_the_list_shows_what_was_submitted(database: str) -> None:
    asked = submitted(name="n", batch_id="b", batch_index=4, retry_of="e0", user_metadata={"k": "v", "ü": "\u2028"})
    window = Window(keys=(executions.KEYS["created_at"], executions.KEYS["execution_id"]))

    async def run() -> None:
        async with read_model(database, executions.PROJECTION, [("execution-e1", asked)]) as connection:
            found = await executions.page(connection, executions.Filter(metadata={"ü": "\u2028"}), window)
            assert found.total == 1
            (only,) = found.rows
            assert (only["name"], only["batch_id"], only["batch_index"]) == ("n", "b", 4)
            assert (only["retry_of"], only["created_by"]) == ("e0", "key:k")
            assert (await executions.page(connection, executions.Filter(metadata={"k": "w"}), window)).total == 0

    asyncio.run(run())


def test_inputs_are_overdue_at_their_deadline_and_only_while_they_are_awaited(database: str) -> None:
    given = [("execution-e1", waiting("a")), ("execution-e2", waiting("a")), ("execution-e2", queued())]

    async def run() -> None:
        async with read_model(database, executions.PROJECTION, given) as connection:
            assert await executions.overdue_inputs(connection, at(3599)) == []
            assert await executions.overdue_inputs(connection, at(3600)) == ["e1"]

    asyncio.run(run())
