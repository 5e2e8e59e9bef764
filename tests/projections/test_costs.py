"""What the read model of costs tells: the same as the log, to the micro, whatever the question."""

import asyncio
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import given as for_all
from hypothesis import strategies as st
from projected import projected, read_model, recorded

from projections import costs
from rgrid.executions.events import AttemptEnded, ExecutionCompleted, ExecutionFailed, ExecutionSubmitted
from rgrid.kernel.messages import Event

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
JANUARY, FEBRUARY = date(2026, 1, 31), date(2026, 2, 1)


def submitted(**changes: object) -> ExecutionSubmitted:
    asked: dict[str, object] = {
        "script_sha256": "a" * 64,
        "script_size_bytes": 1,
        "runtime": "python:3.11",
        "timeout_s": 300,
        "cpu": 1.0,
        "memory_mb": 512,
        "max_retries": 2,
        "root_execution_id": "exec_1",
        "created_by": "key:key_1",
        "submitted_at": NOON,
        "reserved_micros": 667,
    }
    return ExecutionSubmitted(**(asked | changes))  # type: ignore[arg-type]


def ended(cost: int, attempt: int = 1, at: datetime = NOON, duration_ms: int = 1_000) -> AttemptEnded:
    return AttemptEnded(
        attempt=attempt, status="completed", started_at=at, ended_at=at, duration_ms=duration_ms, cost_micros=cost
    )


def completed(at: datetime = NOON) -> ExecutionCompleted:
    return ExecutionCompleted(finalized_cost_micros=0, completed_at=at)


FAILED = ExecutionFailed(failure_reason="exit_code", finalized_cost_micros=0, completed_at=NOON)


def test_cost_belongs_to_the_utc_day_in_which_the_attempt_ended(database: str) -> None:
    last = datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    given: list[tuple[str, Event]] = [
        ("execution-e1", submitted()),
        ("execution-e1", ended(5, 1, last)),
        ("execution-e1", ended(7, 2, last + timedelta(microseconds=1))),
    ]

    async def run() -> None:
        async with read_model(database, costs.PROJECTION, given) as connection:
            days = await costs.by_day(connection, JANUARY, FEBRUARY)
            assert [(day.day, day.cost_micros, day.executions) for day in days] == [(FEBRUARY, 7, 1), (JANUARY, 5, 1)]
            assert await costs.executions_in(connection, JANUARY, FEBRUARY) == 1
            assert await costs.used_since(connection, FEBRUARY) == 7

    asyncio.run(run())


def test_what_is_kept_aside_is_free_again_when_the_execution_ends(database: str) -> None:
    given: list[tuple[str, Event]] = [("execution-e1", submitted()), ("execution-e2", submitted())]
    total = "select sum(reserved_micros)::int as kept from cost_executions where not ended"
    assert projected(database, costs.PROJECTION, given, total) == [{"kept": 1334}]
    assert projected(database, costs.PROJECTION, [*given, ("execution-e1", FAILED)], total) == [{"kept": 667}]


def test_only_completed_executions_are_samples_and_the_last_attempt_tells_how_long(database: str) -> None:
    given: list[tuple[str, Event]] = [
        ("execution-e1", submitted()),
        ("execution-e1", ended(1, 1, duration_ms=99_000)),
        ("execution-e1", ended(1, 2, duration_ms=13_000)),
        ("execution-e1", completed()),
        ("execution-e2", submitted()),
        ("execution-e2", ended(1, duration_ms=10_000)),
        ("execution-e2", completed()),
        ("execution-e3", submitted()),
        ("execution-e3", ended(1, duration_ms=1)),
        ("execution-e3", FAILED),
    ]

    async def run() -> None:
        async with read_model(database, costs.PROJECTION, given) as connection:
            since = NOON - timedelta(days=30)
            assert await costs.samples(connection, since, script_sha256="a" * 64) == [10_000, 13_000]
            assert await costs.samples(connection, since, runtime="python:3.11") == [10_000, 13_000]
            assert await costs.samples(connection, since, runtime="node:22") == []
            assert await costs.samples(connection, NOON + timedelta(days=1), runtime="python:3.11") == []

    asyncio.run(run())


ATTEMPTS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 10**12), st.integers(0, 5)), min_size=1, max_size=25
)  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@for_all(ATTEMPTS)
def test_the_parts_sum_to_the_total_of_the_log_by_whatever_they_are_grouped(
    database: str, attempts: list[tuple[int, int, int]]
) -> None:
    given: list[tuple[str, Event]] = [
        (
            f"execution-e{n}",
            submitted(
                created_by=f"key:{n % 2}",
                batch_id=None if n % 3 else "batch_1",
                user_metadata={"a.b": str(n % 2)} if n else None,
            ),
        )
        for n in range(6)
    ]
    tries: dict[int, int] = defaultdict(int)
    for number, cost, day in attempts:
        tries[number] += 1
        given.append((f"execution-e{number}", ended(cost, tries[number], NOON + timedelta(days=day))))
    total = sum(cost for _, cost, _ in attempts)

    async def run() -> None:
        async with read_model(database, costs.PROJECTION, recorded(given)) as connection:
            first, last = JANUARY, JANUARY + timedelta(days=9)
            days = await costs.by_day(connection, first, last)
            assert sum(day.cost_micros for day in days) == total
            by_log: dict[date, int] = defaultdict(int)
            for _, cost, day in attempts:
                by_log[JANUARY + timedelta(days=day)] += cost
            assert {day.day: day.cost_micros for day in days} == by_log
            for by in ("key", "batch", "script", "runtime", "metadata"):
                groups = await costs.by(connection, by, "a.b", first, last)  # type: ignore[arg-type]
                assert sum(group.cost_micros for group in groups) == total, by
            assert await costs.used_since(connection, first) == total

    asyncio.run(run())
