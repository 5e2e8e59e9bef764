"""Totals and pages of the list of runs are what counting and sorting everything by hand would say."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lives import at
from projected import projected, read_model, recorded
from run_lives import cancel_asked, completed, failed, over, skipped, started, stopped, triggered

from projections import workflow_runs
from projections.workflow_runs import PROJECTION, Filter
from rgrid.kernel.messages import Event
from rgrid.postgres.paging import Window
from rgrid.postgres.pool import Connection
from rgrid.workflows.events import Parent, RunTimedOut

DAY_S = 86_400
NAMES = ("refresh", "load")
DOMAINS = (None, "sales", "sales.eu")
TRIGGERS = ("API", "SCHEDULE", "RETRY")
ACTORS = ("key:k", "system")
PARENTS = (None, None, "run_a")
SCHEDULES = (None, "sched_a")
RUNS = "select * from workflow_runs order by run_id"
COUNTS = "select * from workflow_runs_counts order by facet, hours, bucket, status, trigger"
SEEN = "status, completed_steps, failed_steps, skipped_steps, started_at, completed_at, duration_ms, error"
# A few moments that meet the boundaries of hours and days, and many that don't.
seconds = st.sampled_from((0, 3_600, 43_200, DAY_S, 2 * DAY_S + 1)) | st.integers(0, 4 * DAY_S)
ends = ("pending", "running", "cancelling", "COMPLETED", "PARTIAL", "FAILED", "CANCELLED", "never ran")
a_life = st.tuples(
    seconds,
    st.sampled_from(NAMES),
    st.sampled_from(DOMAINS),
    st.sampled_from(TRIGGERS),
    st.sampled_from(ACTORS),
    st.sampled_from(PARENTS),
    st.sampled_from(SCHEDULES),
    st.sampled_from(ends),
)
a_filter = st.builds(
    Filter,
    status=st.sampled_from((None, None, "PENDING", "RUNNING", "CANCELLING", "COMPLETED", "FAILED")),
    workflow_name=st.sampled_from((None, None, *NAMES)),
    domain=st.sampled_from((None, None, *DOMAINS)),
    trigger=st.sampled_from((None, None, *TRIGGERS)),
    triggered_by=st.sampled_from((None, None, *ACTORS)),
    parent_run_id=st.sampled_from(PARENTS),
    schedule_id=st.sampled_from((None, *SCHEDULES)),
    since=st.none() | st.builds(at, seconds),
    until=st.none() | st.builds(at, seconds),
)


def life(number: int, given: tuple[Any, ...]) -> list[tuple[str, Event]]:
    moment, name, domain, trigger, actor, parent, schedule, end = given
    above = None if parent is None else Parent(run_id=parent, step="m", attempt=1, index=number)
    events: list[Event] = [
        triggered(moment, name, domain=domain, trigger=trigger, triggered_by=actor, parent=above, schedule_id=schedule)
    ]
    if end == "never ran":
        events += [cancel_asked(moment + 1), over("CANCELLED", moment + 1)]
    elif end != "pending":
        events += [started("a", moment + 1), failed("a", moment + 2, again=moment + 3), started("a", moment + 3, 2)]
        if end in ("cancelling", "CANCELLED"):
            events.append(cancel_asked(moment + 4))
        if end == "FAILED" and moment % 2:
            # It gives up while a next try is waited for.
            events += [failed("a", moment + 4, 2, again=moment + 90), skipped("b"), skipped("c")]
            return [(f"run-r{number}", event) for event in [*events, over(end, moment + 5)]]
        if end != "running":
            events += [completed("a", moment + 5, 2), started("b", moment + 5)]
    if end in ("COMPLETED", "PARTIAL", "FAILED", "CANCELLED"):
        events += [failed("b", moment + 6), skipped("c", moment + 6), over(end, moment + 7 + int(moment) % 5)]
    return [(f"run-r{number}", event) for event in events]


def mixed(lives: Sequence[tuple[Any, ...]], draw: Any) -> list[tuple[str, Event]]:
    """The events of all in one log, each run's in their order."""
    left = [life(number, one) for number, one in enumerate(lives)]
    log: list[tuple[str, Event]] = []
    while left:
        one = left[draw.randrange(len(left))]
        log.append(one.pop(0))
        left = [rest for rest in left if rest]
    return log


def matches(row: dict[str, Any], wanted: Filter) -> bool:
    columns = ("status", "workflow_name", "domain", "trigger", "triggered_by", "parent_run_id", "schedule_id")
    return (
        all(getattr(wanted, column) in (None, row[column]) for column in columns)
        and (wanted.since is None or row["created_at"] >= wanted.since)
        and (wanted.until is None or row["created_at"] < wanted.until)
    )


def in_order(rows: list[dict[str, Any]], sort: str, descending: bool) -> list[str]:
    known = sorted(
        (row for row in rows if row[sort] is not None), key=lambda row: (row[sort], row["run_id"]), reverse=descending
    )
    nulls = sorted((row for row in rows if row[sort] is None), key=lambda row: row["run_id"], reverse=descending)
    return [row["run_id"] for row in known + nulls]


async def by_cursor(connection: Connection, wanted: Filter, sort: str, descending: bool) -> list[str]:
    """All pages of two, one after the other, as a client would."""
    keys = (workflow_runs.KEYS[sort], workflow_runs.KEYS["run_id"])
    seen: list[str] = []
    after: tuple[Any, ...] | None = None
    while True:
        window = Window(keys=keys, descending=descending, limit=2, after=after)
        found = (await workflow_runs.page(connection, wanted, window)).rows
        seen += [row["run_id"] for row in found[:2]]
        if len(found) <= 2:
            return seen
        last = [found[1][key.name] for key in keys]
        after = tuple(value.isoformat() if isinstance(value, datetime) else value for value in last)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lives=st.lists(a_life, min_size=1, max_size=12),
    filters=st.lists(a_filter, min_size=1, max_size=8),
    sort=st.sampled_from(("created_at", "started_at", "completed_at", "duration_ms", "workflow_name")),
    descending=st.booleans(),
    gathered=st.booleans(),
    page=st.integers(1, 40),
    draw=st.randoms(use_true_random=False),
)
def test_totals_and_pages_are_those_counted_by_hand(
    database: str,
    lives: list[tuple[Any, ...]],
    filters: list[Filter],
    sort: str,
    descending: bool,
    gathered: bool,
    page: int,
    draw: Any,
) -> None:
    log = mixed(lives, draw)

    async def run() -> None:
        async with read_model(database, PROJECTION, log, page=page) as connection:
            rows = [dict(row) for row in await connection.fetch(RUNS)]
            for wanted in (Filter(), *filters):
                here = [row for row in rows if matches(row, wanted)]
                order = in_order(here, sort, descending)
                keys = (workflow_runs.KEYS[sort], workflow_runs.KEYS["run_id"])
                for offset in (0, 2, len(order)):
                    window = Window(keys=keys, descending=descending, limit=3, offset=offset)
                    found = await workflow_runs.page(connection, wanted, window)
                    assert found.total == len(here), wanted
                    assert [row["run_id"] for row in found.rows] == order[offset : offset + 4]
                assert await by_cursor(connection, wanted, sort, descending) == order
            counted = [tuple(row) for row in await connection.fetch(COUNTS)]
            assert all(row[-1] > 0 for row in counted)
            by_status = await workflow_runs.by_status(connection)
            assert sum(by_status.values()) == len(lives)
        async with read_model(database, PROJECTION, log, page=1_000) as connection:
            assert counted == [tuple(row) for row in await connection.fetch(COUNTS)], "the page's size shows"
            assert rows == [dict(row) for row in await connection.fetch(RUNS)], "the page's size shows"

    limit, workflow_runs.GATHERED_MAX = workflow_runs.GATHERED_MAX, workflow_runs.GATHERED_MAX if gathered else 0  # type: ignore[misc]
    try:
        asyncio.run(run())
    finally:
        workflow_runs.GATHERED_MAX = limit  # type: ignore[misc]


def shown(database: str, *events: Event) -> dict[str, Any]:
    (row,) = projected(
        database, PROJECTION, [("run-r1", event) for event in events], f"select {SEEN} from workflow_runs"
    )
    return row


def test_a_run_is_pending_until_a_step_has_begun(database: str) -> None:
    assert shown(database, triggered())["status"] == "PENDING"
    assert shown(database, triggered(), started())["status"] == "RUNNING"
    assert shown(database, triggered(), skipped("a"))["status"] == "PENDING"


def test_a_step_counts_once_by_its_last_attempt(database: str) -> None:
    tries = [started("a", 1), failed("a", 2, again=3), started("a", 3, 2), failed("a", 4, 2, again=6)]
    row = shown(database, triggered(), *tries)
    assert (row["failed_steps"], row["completed_steps"]) == (0, 0)
    row = shown(database, triggered(), *tries, started("a", 6, 3), completed("a", 7, 3))
    assert (row["failed_steps"], row["completed_steps"]) == (0, 1)
    row = shown(database, triggered(), started(), failed(), skipped("b"), skipped("c"), over("FAILED", error="no"))
    assert (row["failed_steps"], row["skipped_steps"], row["status"], row["error"]) == (1, 2, "FAILED", "no")


def test_a_step_that_waits_for_another_try_at_the_end_has_failed(database: str) -> None:
    tries = [started("a", 1), failed("a", 2, again=3), started("a", 3, 2), failed("a", 4, 2, again=6)]
    row = shown(database, triggered(), *tries, skipped("b"), skipped("c"), over("FAILED"))
    assert (row["failed_steps"], row["completed_steps"], row["skipped_steps"]) == (1, 0, 2)
    row = shown(database, triggered(), *tries, stopped("a", 5, 3), over("CANCELLED"))
    assert row["failed_steps"] == 0


def test_a_run_that_has_run_out_of_time_is_not_being_cancelled(database: str) -> None:
    late = RunTimedOut(timed_out_at=at(3))
    row = shown(database, triggered(), started("a"), late, cancel_asked())
    assert row["status"] == "RUNNING"


def test_what_happens_while_a_run_is_being_cancelled_does_not_make_it_run_again(database: str) -> None:
    row = shown(database, triggered(), started("a"), started("b"), cancel_asked(), completed("a"), stopped("b"))
    assert row["status"] == "CANCELLING"


def test_a_choice_that_comes_first_starts_the_run(database: str) -> None:
    row = shown(database, triggered(), completed("a", 2), over("COMPLETED", 5))
    assert (row["started_at"], row["completed_at"], row["duration_ms"]) == (at(2), at(5), 3_000)


@pytest.mark.parametrize("limit", [1, 5])
def test_matches_for_bulk_come_oldest_first_with_their_number(database: str, limit: int) -> None:
    log = [(f"run-r{n}", triggered(n, NAMES[n % 2])) for n in range(6)] + [("run-r0", over("FAILED"))]

    async def found() -> tuple[list[tuple[str, str]], int]:
        async with read_model(database, PROJECTION, recorded(log)) as connection:
            return await workflow_runs.oldest(
                connection, Filter(workflow_name="refresh"), ("PENDING", "RUNNING"), limit
            )

    assert asyncio.run(found()) == ([("r2", "PENDING"), ("r4", "PENDING")][:limit], 2)
