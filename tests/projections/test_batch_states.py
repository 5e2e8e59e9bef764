"""States and counts of batches, from every history that executions can have."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from projected import BEGAN_AT, projected, read_model, recorded

from projections import batches
from projections.batches import PROJECTION, STATUSES, TERMINAL, state_of
from rgrid.executions.batch_events import BatchCancelRequested, BatchCreated, BatchEnded, BatchRetried, RetriedItem
from rgrid.executions.events import (
    AttemptEnded,
    DeclaredInput,
    ExecutionCancelled,
    ExecutionClaimed,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionQueued,
    ExecutionSubmitted,
    ExecutionTimedOut,
)
from rgrid.kernel.messages import Event

# The worked examples of the contract: latest executions by index, whether a cancel was asked for, the state.
TABLE = [
    (["queued", "queued"], False, "pending"),
    (["completed", "running"], False, "running"),
    (["completed", "running"], True, "cancelling"),
    (["completed", "completed"], False, "completed"),
    (["completed", "completed"], True, "completed"),
    (["completed", "failed"], False, "partial"),
    (["completed", "cancelled"], False, "partial"),
    (["completed", "cancelled"], True, "cancelled"),
    (["failed", "timed_out"], False, "failed"),
    (["failed", "cancelled"], False, "failed"),
    (["cancelled", "cancelled"], False, "cancelled"),
]
BEGUN = ("running", "completed", "failed", "timed_out")
Story = list[tuple[str, Event]]
WHOLE = "select status, total, begun, total_cost_micros, timed, timed_ms, completed_at, position, " + ", ".join(
    STATUSES
)


def state(statuses: list[str], cancel_asked: bool) -> str:
    counts = {status: statuses.count(status) for status in STATUSES}
    begun = sum(counts[status] for status in BEGUN)
    return state_of(counts, len(statuses), begun, cancel_asked=cancel_asked)


@pytest.mark.parametrize(("statuses", "cancel_asked", "expected"), TABLE)
def test_the_worked_examples_hold(statuses: list[str], cancel_asked: bool, expected: str) -> None:
    assert state(statuses, cancel_asked) == expected


@settings(max_examples=500, deadline=None)
@for_all(st.lists(st.sampled_from(STATUSES), min_size=1, max_size=8), st.booleans())
def test_every_combination_has_the_state_that_the_rules_give_it(statuses: list[str], cancel_asked: bool) -> None:
    found = state(statuses, cancel_asked)
    are_over = all(status in TERMINAL for status in statuses)
    assert (found in ("completed", "partial", "failed", "cancelled")) is are_over
    assert found == state(list(reversed(statuses)), cancel_asked), "the order of the indexes doesn't matter"
    if are_over:
        assert (found == "completed") is (set(statuses) == {"completed"})
        assert (found == "partial") <= ("completed" in statuses)
        assert (found == "failed") <= ("completed" not in statuses)
        assert (found == "cancelled") is ((cancel_asked and found != "completed") or set(statuses) == {"cancelled"})
    else:
        assert (found == "cancelling") is cancel_asked
        assert (found == "pending") <= (not set(statuses) & set(BEGUN))


def submitted(index: int | None, retry_of: str | None = None, **more: Any) -> ExecutionSubmitted:
    return ExecutionSubmitted(
        script_sha256="0" * 64, script_size_bytes=1, runtime="bash", timeout_s=1, cpu=1, memory_mb=64, max_retries=0,
        batch_id="b1", batch_index=index, retry_of=retry_of, root_execution_id="x", created_by="key:1",
        submitted_at=BEGAN_AT, **more,
    )  # fmt: skip


def story(name: str, end: str, cost: int = 5, **more: Any) -> Story:
    """All that happens to one execution until it stands like this."""
    stream = f"execution-{name}"
    index = more.pop("index", None)
    told: Story = [(stream, submitted(index, **more))]
    if end == "awaiting_inputs":
        return told
    queued = ExecutionQueued(attempt=1, runtime="bash", cpu=1, memory_mb=64, batch_id="b1", not_before=BEGAN_AT,
                             queued_at=BEGAN_AT)  # fmt: skip
    told.append((stream, queued))
    finals: dict[str, Event] = {
        "completed": ExecutionCompleted(finalized_cost_micros=cost, completed_at=BEGAN_AT + timedelta(seconds=cost)),
        "failed": ExecutionFailed(failure_reason="exit_code", exit_code=3, error="no", finalized_cost_micros=cost,
                                  completed_at=BEGAN_AT),
        "timed_out": ExecutionTimedOut(finalized_cost_micros=cost, completed_at=BEGAN_AT),
        "cancelled": ExecutionCancelled(cancelled_by="key:1", finalized_cost_micros=0, completed_at=BEGAN_AT),
    }  # fmt: skip
    if end in BEGUN:
        claimed = ExecutionClaimed(
            attempt=1,
            fencing_token=1,
            worker_id="w",
            worker_hostname="h",
            runner_kind="sandbox",
            sandbox_level="full",
            hourly_micros=1,
            claimed_at=BEGAN_AT,
        )
        told.append((stream, claimed))
    if end in BEGUN[1:]:
        ended = AttemptEnded(attempt=1, status=end, started_at=BEGAN_AT, ended_at=BEGAN_AT, duration_ms=1000 * cost,
                             cost_micros=cost)  # type: ignore[arg-type] # fmt: skip
        told.append((stream, ended))
    return [*told, (stream, finals[end])] if end in finals else told


def created(total: int) -> tuple[str, Event]:
    return ("batch-b1", BatchCreated(total=total, max_parallel=2, created_by="key:1", created_at=BEGAN_AT))


SAID = BatchEnded(
    status="partial", total=2, completed=1, failed=1, timed_out=0, cancelled=0, total_cost_micros=18,
    completed_at=BEGAN_AT, ended_at=BEGAN_AT,
)  # fmt: skip
CANCEL = ("batch-b1", BatchCancelRequested(requested_by="key:1", requested_at=BEGAN_AT))


@pytest.mark.parametrize(("statuses", "cancel_asked", "expected"), TABLE)
def test_the_read_model_shows_the_worked_examples(
    database: str, statuses: list[str], cancel_asked: bool, expected: str
) -> None:
    told = [created(len(statuses))]
    for index, status in enumerate(statuses):
        told += story(f"e{index}", status, index=index)
    told += [CANCEL] if cancel_asked else []
    (row,) = projected(database, PROJECTION, told, f"{WHOLE} from batches")
    assert (row["status"], row["total"]) == (expected, len(statuses))
    assert {status: row[status] for status in STATUSES} == {**dict.fromkeys(STATUSES, 0), **Counter(statuses)}
    assert (row["completed_at"] is not None) is all(status in TERMINAL for status in statuses)


def test_a_retry_takes_the_place_and_adds_to_the_cost(database: str) -> None:
    first = [created(2), *story("a", "completed", 7, index=0), *story("b", "failed", 11, index=1)]
    item = RetriedItem(original_execution_id="b", execution_id="c", index=1)
    retried = ("batch-b1", BatchRetried(items=[item], requested_by="key:1", retried_at=BEGAN_AT))
    told = [*first, CANCEL, retried, *story("c", "completed", 13, index=1, retry_of="b")]
    (row,) = projected(database, PROJECTION, told, f"{WHOLE} from batches")
    assert (row["status"], row["total"], row["completed"], row["failed"]) == ("completed", 2, 2, 0)
    assert (row["total_cost_micros"], row["timed"], row["timed_ms"]) == (31, 2, 20_000)
    items = projected(
        database, PROJECTION, told,
        "select execution_id, batch_index, is_latest, superseded_by, retry_of from batch_items order by position",
    )  # fmt: skip
    assert [tuple(item.values()) for item in items] == [
        ("a", 0, True, None, None),
        ("b", 1, False, "c", None),
        ("c", 1, True, None, "b"),
    ]
    half = [*first, CANCEL, retried, story("c", "queued", index=1, retry_of="b")[0]]
    assert projected(database, PROJECTION, half, "select status from batches") == [{"status": "running"}]


def test_an_open_batch_counts_its_indexes_itself(database: str) -> None:
    told = [*story("a", "failed"), *story("b", "completed"), *story("c", "queued", retry_of="a")]
    rows = projected(
        database, PROJECTION, told, "select execution_id, batch_index, is_latest from batch_items order by position"
    )
    assert [tuple(row.values()) for row in rows] == [("a", 0, False), ("b", 1, True), ("c", 0, True)]
    (row,) = projected(database, PROJECTION, told, "select is_open, total, status, max_parallel from batches")
    assert tuple(row.values()) == (True, 2, "running", None)


def test_an_item_is_called_after_its_first_input_or_the_first_word_with_a_dot(database: str) -> None:
    told = [
        *story("a", "queued", inputs=[DeclaredInput(name="in.txt")], args=["x.csv"]),
        *story("b", "queued", args=["--top", "x.csv"]),
        *story("c", "queued", args=["plain"]),
    ]
    rows = projected(database, PROJECTION, told, "select input_file from batch_items order by position")
    assert [row["input_file"] for row in rows] == ["in.txt", "x.csv", None]


def test_the_end_of_a_batch_is_that_of_its_last_execution(database: str) -> None:
    told = [created(2), *story("a", "completed", 9, index=0), *story("b", "completed", 4, index=1)]
    (row,) = projected(database, PROJECTION, told, "select completed_at from batches")
    assert row["completed_at"] == BEGAN_AT + timedelta(seconds=9)


def test_a_batch_whose_end_has_to_be_said_is_found_until_it_was(database: str) -> None:
    over = [created(2), *story("a", "completed", 7, index=0), *story("b", "failed", 11, index=1)]
    said = ("batch-b1", SAID)
    item = RetriedItem(original_execution_id="b", execution_id="c", index=1)
    retried = ("batch-b1", BatchRetried(items=[item], requested_by="key:1", retried_at=BEGAN_AT))
    once_more = story("c", "completed", 13, index=1, retry_of="b")
    open_one = [(stream, event) for stream, event in over if stream != "batch-b1"]

    async def found(told: Story) -> list[tuple[str, int, str]]:
        async with read_model(database, PROJECTION, told) as connection:
            rows = await batches.ended(connection)
            return [(row["batch_id"], row["submitted"], row["status"]) for row in rows]

    async def run() -> None:
        assert await found(over[:-1]) == []
        assert await found(over) == [("b1", 2, "partial")]
        assert await found([*over, said]) == []
        assert await found([*over, said, retried, once_more[0]]) == []
        assert await found([*over, said, retried, *once_more]) == [("b1", 3, "completed")]
        assert await found(open_one) == []

    asyncio.run(run())


def test_executions_outside_of_batches_leave_no_row(database: str) -> None:
    single = story("a", "completed")
    plain = ("execution-a", submitted(None))
    told = [(plain[0], ExecutionSubmitted(**{**_as_dict(plain[1]), "batch_id": None})), *single[1:]]
    assert projected(database, PROJECTION, told, "select * from batches") == []
    assert projected(database, PROJECTION, told, "select * from batch_items") == []


def _as_dict(event: ExecutionSubmitted) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


def test_what_has_not_ended_is_found_up_to_a_position(database: str) -> None:
    told = [created(3), *story("a", "running", index=0), *story("b", "completed", index=1)]
    late = story("c", "queued", index=2)

    async def ask() -> tuple[list[str], list[str]]:
        placed = recorded([*told, *late])
        async with read_model(database, PROJECTION, placed) as connection:
            return (
                await batches.unfinished(connection, "b1", len(told)),
                await batches.unfinished(connection, "b1", len(placed)),
            )

    assert asyncio.run(ask()) == (["a"], ["a", "c"])
