"""Totals and pages of the list of executions are what counting and sorting everything by hand would say."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lives import claimed, ended, queued, submitted
from projected import read_model, recorded

from projections import executions
from projections.executions import Filter
from rgrid.eventstore.codec import Codec, encode_cause
from rgrid.eventstore.store import Store
from rgrid.executions.events import TOPICS, ExecutionCancelled, ExecutionCompleted, ExecutionFailed, ExecutionTimedOut
from rgrid.kernel.messages import Event
from rgrid.postgres.paging import Window
from rgrid.postgres.periods import cut
from rgrid.postgres.pool import Connection, open_pool
from rgrid.subscriptions import rebuild
from rgrid.subscriptions.daemon import Daemon
from rgrid.subscriptions.past import past

RUNTIMES = ("python:3.11", "bash")
NAMES = (None, "load", "sum")
BATCHES = (None, "batch_a", "batch_b")
METADATA = (None, {}, {"team": "data"}, {"team": "data", "env.x[0]": "ü"}, {"env.x[0]": "ü"}, {"team": ""})
DAY_S = 86_400
EXECUTIONS = "select * from executions order by execution_id"
COUNTS = "select * from executions_counts order by facet, hours, bucket, status, failure_reason, runtime"
# A few moments that meet the boundaries of hours and days, and many that don't.
seconds = st.sampled_from((0, 3_600, 43_200, DAY_S, 2 * DAY_S + 1)) | st.integers(0, 4 * DAY_S)
a_life = st.tuples(
    seconds,
    st.sampled_from(RUNTIMES),
    st.sampled_from(NAMES),
    st.sampled_from(BATCHES),
    st.sampled_from(METADATA),
    st.lists(st.sampled_from(("worked", "lost")), max_size=2),
    st.sampled_from(("waits", "is queued", "runs", "completed", "failed", "timed_out", "cancelled", "never ran")),
)
a_filter = st.builds(
    Filter,
    status=st.sampled_from((None, None, "queued", "running", "completed", "failed", "cancelled")),
    failure_reason=st.sampled_from((None, None, None, "exit_code", "cancelled")),
    batch_id=st.sampled_from((None, None, *BATCHES)),
    runtime=st.sampled_from((None, *RUNTIMES)),
    name=st.sampled_from((None, None, *NAMES)),
    metadata=st.sampled_from((None, None, *METADATA)),
    since=st.none() | st.builds(lambda s: submitted(s).submitted_at, seconds),
    until=st.none() | st.builds(lambda s: submitted(s).submitted_at, seconds),
)


def life(number: int, given: tuple[Any, ...]) -> list[tuple[str, Event]]:
    at, runtime, name, batch, metadata, attempts, end = given
    events: list[Event] = [submitted(at, runtime=runtime, name=name, batch_id=batch, user_metadata=metadata)]
    now, attempt = float(at), 1
    if end != "waits":
        events.append(queued(now, runtime=runtime))
        for _ in attempts:
            events += [claimed(now + 1, attempt), ended(now + 2, attempt, "lost", "worker_lost", duration_ms=attempt)]
            now, attempt = now + 3, attempt + 1
            events.append(queued(now, attempt, runtime=runtime))
    over = {"finalized_cost_micros": 2, "completed_at": submitted(now + 5).submitted_at}
    if end in ("runs", "completed", "failed", "timed_out"):
        events.append(claimed(now + 1, attempt))
    if end in ("completed", "failed", "timed_out"):
        events.append(ended(now + 5, attempt, end, duration_ms=int(at) % 7))  # type: ignore[arg-type]
    match end:
        case "completed":
            events.append(ExecutionCompleted(**over))
        case "failed":
            events.append(ExecutionFailed(failure_reason="exit_code", exit_code=1, **over))
        case "timed_out":
            events.append(ExecutionTimedOut(**over))
        case "cancelled" | "never ran":
            events.append(ExecutionCancelled(cancelled_by="key:k", **over))
    return [(f"execution-e{number}", event) for event in events]


def mixed(lives: Sequence[tuple[Any, ...]], draw: Any) -> list[tuple[str, Event]]:
    """The events of all in one log, each execution's in their order."""
    left = [life(number, one) for number, one in enumerate(lives)]
    log: list[tuple[str, Event]] = []
    while left:
        one = left[draw.randrange(len(left))]
        log.append(one.pop(0))
        left = [rest for rest in left if rest]
    return log


def matches(row: dict[str, Any], wanted: Filter) -> bool:
    equal = all(
        getattr(wanted, column) in (None, row[column])
        for column in ("status", "failure_reason", "batch_id", "runtime", "name")
    )
    metadata = msgspec.json.decode(row["user_metadata"] or "{}")
    return (
        equal
        and all(metadata.get(key) == value for key, value in (wanted.metadata or {}).items())
        and (wanted.since is None or row["created_at"] >= wanted.since)
        and (wanted.until is None or row["created_at"] < wanted.until)
    )


def in_order(rows: list[dict[str, Any]], sort: str, descending: bool) -> list[str]:
    known = sorted(
        (row for row in rows if row[sort] is not None),
        key=lambda row: (row[sort], row["execution_id"]),
        reverse=descending,
    )
    nulls = sorted((row for row in rows if row[sort] is None), key=lambda row: row["execution_id"], reverse=descending)
    return [row["execution_id"] for row in known + nulls]


async def by_cursor(connection: Connection, wanted: Filter, sort: str, descending: bool, limit: int) -> list[str]:
    """All pages, one after the other, as a client would."""
    keys = (executions.KEYS[sort], executions.KEYS["execution_id"])
    seen: list[str] = []
    after: tuple[Any, ...] | None = None
    while True:
        window = Window(keys=keys, descending=descending, limit=limit, after=after)
        found = (await executions.page(connection, wanted, window)).rows
        seen += [row["execution_id"] for row in found[:limit]]
        if len(found) <= limit:
            return seen
        last = [found[limit - 1][key.name] for key in keys]
        after = tuple(value.isoformat() if isinstance(value, datetime) else value for value in last)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lives=st.lists(a_life, min_size=1, max_size=12),
    filters=st.lists(a_filter, min_size=1, max_size=8),
    sort=st.sampled_from(("created_at", "started_at", "completed_at", "duration_ms", "cost_micros")),
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
        async with read_model(database, executions.PROJECTION, log, page=page) as connection:
            rows = [dict(row) for row in await connection.fetch(EXECUTIONS)]
            for wanted in (Filter(), *filters):
                here = [row for row in rows if matches(row, wanted)]
                order = in_order(here, sort, descending)
                keys = (executions.KEYS[sort], executions.KEYS["execution_id"])
                for offset in (0, 2, len(order)):
                    window = Window(keys=keys, descending=descending, limit=3, offset=offset)
                    found = await executions.page(connection, wanted, window)
                    assert found.total == len(here), wanted
                    assert [row["execution_id"] for row in found.rows] == order[offset : offset + 4]
                assert await by_cursor(connection, wanted, sort, descending, 2) == order
            counted = [tuple(row) for row in await connection.fetch(COUNTS)]
            assert all(row[-1] > 0 for row in counted)
        async with read_model(database, executions.PROJECTION, log, page=1_000) as connection:
            assert counted == [tuple(row) for row in await connection.fetch(COUNTS)], "the page's size shows"

    limit, executions.GATHERED_MAX = executions.GATHERED_MAX, executions.GATHERED_MAX if gathered else 0  # type: ignore[misc]
    try:
        asyncio.run(run())
    finally:
        executions.GATHERED_MAX = limit  # type: ignore[misc]


moments = st.datetimes(
    submitted(-100_000).submitted_at.replace(tzinfo=None),
    submitted(300_000).submitted_at.replace(tzinfo=None),
    timezones=st.just(UTC),
)


@given(begin=st.none() | moments, end=st.none() | moments, at=moments)
def test_the_pieces_of_a_period_hold_each_of_its_moments_once(
    begin: datetime | None, end: datetime | None, at: datetime
) -> None:
    inside = (begin is None or begin <= at) and (end is None or at < end)
    pieces = cut(begin, end, (24, 1))
    held = sum(
        piece.sign
        for piece in pieces
        if (piece.begin is None or piece.begin <= at) and (piece.end is None or at < piece.end)
    )
    assert held == int(inside)
    for piece in pieces:
        for edge in (piece.begin, piece.end):
            assert edge is None or piece.hours == 0 or edge.timestamp() % (piece.hours * 3_600) == 0
        if piece.hours == 0:
            assert piece.begin is not None and piece.end is not None
            assert piece.end - piece.begin <= timedelta(minutes=30)


def test_a_period_may_reach_to_the_ends_of_time() -> None:
    begin, end = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert sum(piece.sign for piece in cut(begin, end, (24, 1)) if piece.hours == 24) == 1


def test_totals_of_the_past_and_after_a_rebuild_are_exact(database: str) -> None:
    lives = [
        (n * 5_000, RUNTIMES[n % 2], NAMES[n % 3], BATCHES[n % 3], METADATA[n % 6], ["lost"], end)
        for n, end in enumerate(("completed", "failed", "runs", "is queued", "cancelled", "waits") * 4)
    ]
    log = [entry for number, one in enumerate(lives) for entry in life(number, one)]
    filters = [
        Filter(),
        Filter(name="load"),
        Filter(metadata={"team": "data"}, status="failed"),
        Filter(status="queued"),
    ]
    window = Window(keys=(executions.KEYS["created_at"], executions.KEYS["execution_id"]))

    async def totals(connection: Any) -> list[int]:
        return [(await executions.page(connection, wanted, window)).total for wanted in filters]

    async def by_hand(upto: int) -> list[int]:
        async with read_model(database, executions.PROJECTION, recorded(log[:upto])) as connection:
            rows = [dict(row) for row in await connection.fetch(EXECUTIONS)]
        return [sum(matches(row, wanted) for row in rows) for wanted in filters]

    async def run() -> None:
        expected = {position: await by_hand(position) for position in (0, 17, 60, len(log))}
        pool = await open_pool(database)
        store = Store(pool, Codec(TOPICS))
        daemon = Daemon(pool, store, [executions.PROJECTION])
        try:
            await pool.execute(
                "insert into rgrid.stored_events select * from unnest($1::text[], $2::bigint[], $3::text[],"
                " $4::bytea[], $5::bigint[], $6::timestamptz[], $7::bytea[])",
                *columns(store.codec, log),
            )
            await daemon.start()
            await daemon.reached(len(log), timeout_s=30)
            assert await totals(pool) == expected[len(log)]
            for position in (0, 17, 60):
                async with past(pool, store, executions.PROJECTION, position) as connection:
                    assert await totals(connection) == expected[position]
            before = [tuple(row) for row in await pool.fetch(COUNTS)]
            table = await pool.fetchval("select 'rm.executions_counts'::regclass::oid")
            assert await rebuild.ask(pool, "executions")
            for _ in range(600):
                if await pool.fetchval("select to_regclass('rm.executions_counts')::oid is distinct from $1", table):
                    break
                await asyncio.sleep(0.05)
            assert table != await pool.fetchval("select 'rm.executions_counts'::regclass::oid")
            assert before == [tuple(row) for row in await pool.fetch(COUNTS)]
        finally:
            await daemon.stop()
            await pool.close()

    asyncio.run(run())


def columns(codec: Codec, log: Sequence[tuple[str, Event]]) -> list[list[Any]]:
    placed = recorded(log)
    return [
        [one.stream_id for one in placed],
        [one.version for one in placed],
        [codec.topic(one.event) for one in placed],
        [codec.encode(one.event) for one in placed],
        [one.position for one in placed],
        [one.recorded_at for one in placed],
        [encode_cause(one.cause) for one in placed],
    ]
