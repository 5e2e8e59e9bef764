"""Lists of one million executions over HTTP: the first page, page 1,000 by cursor, every documented filter and sort,
against the same read written for one statement each with a plain count(*), sent to Postgres directly."""

import asyncio
import random
import time
import urllib.parse
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from rgrid.catalogue import TOPICS
from rgrid.eventstore.codec import Codec, encode_cause
from rgrid.executions import events as facts
from rgrid.kernel import clock
from rgrid.kernel.ids import encode_ulid
from rgrid.kernel.messages import Cause, Event
from rgrid.postgres.embedded import dsn_of_running
from tests.benchmarks.bench_grid import BenchGrid
from tests.benchmarks.report import Figure, compared, percentile

DAYS: Final = 90
PROJECT_MAX_S: Final = 3_600
COPY_EVENTS: Final = 50_000
NAMES: Final = [f"job-{number}" for number in range(200)]
CAUSE: Final = encode_cause(Cause(actor="key:bench", command_id=UUID(int=1), correlation_id="bench"))
COLUMNS: Final = (
    "originator_id", "originator_version", "topic", "state", "notification_id", "recorded_at", "cause",
)  # fmt: skip


def run(smoke: bool) -> list[Figure]:
    count, rounds, page = (3_000, 5, 50) if smoke else (1_000_000, 100, 1_000)
    with BenchGrid(slots=0) as grid:
        dsn = dsn_of_running(grid.folder / "data")
        assert dsn is not None
        began, (first, last) = time.monotonic(), asyncio.run(_fill(dsn, count))
        written_s = time.monotonic() - began
        asyncio.run(_projected(dsn, last))
        projected_s = time.monotonic() - began
        print(f"lists: {last - first} events written in {written_s:.0f} s, projected after {projected_s:.0f} s")
        figures = [
            compared("lists", f"events of {count:,} executions projected", "/s", (last - first) / projected_s,
                     "COPY of the same into the log", (last - first) / written_s, ""),
        ]  # fmt: skip
        asyncio.run(_settle(dsn))
        newest = clock.now()
        for what, path in _reads(newest):
            figures += _measured(grid, dsn, what, path, rounds)
        figures += _deep(grid, dsn, page, rounds)
    return figures


def _reads(newest: datetime) -> list[tuple[str, dict[str, str]]]:
    def ago(days: float) -> str:
        return (newest - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")

    filters = [
        {"status": "completed"}, {"status": "failed"}, {"status": "running"}, {"failure_reason": "out_of_memory"},
        {"runtime": "python:3.11"}, {"runtime": "bash"}, {"batch_id": f"batch_{7:026d}"}, {"name": NAMES[0]},
        {"name": NAMES[150]}, {"metadata[team]": "team-0"}, {"metadata[order]": "77"}, {"metadata[release]": "r3"},
        {"since": ago(7.3)}, {"until": ago(7.3)}, {"since": ago(60.7), "until": ago(10.2)},
        {"metadata[team]": "team-1", "since": ago(40.6), "until": ago(2.4)},
        {"name": NAMES[0], "status": "failed", "since": ago(30.4)},
        {"name": NAMES[3], "metadata[team]": "team-1"},
        {"metadata[team]": "team-0", "metadata[env]": "prod"},
    ]  # fmt: skip
    sorts = ["created_at", "started_at", "completed_at", "duration_ms", "cost_micros"]
    reads: list[tuple[str, dict[str, str]]] = [("first page", {})]
    reads += [("first page, " + _said(one), one) for one in filters]
    reads += [(f"sort {sort} {order}", {"sort": sort, "order": order}) for sort in sorts for order in ("desc", "asc")]
    for narrowed in ({"status": "failed"}, {"name": NAMES[0]}, {"metadata[team]": "team-0"}):
        reads += [(f"sort {sort}, {_said(narrowed)}", {"sort": sort, **narrowed}) for sort in sorts[1:]]
    return reads


def _said(query: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in query.items())


def _measured(grid: BenchGrid, dsn: str, what: str, query: dict[str, str], rounds: int) -> list[Figure]:
    path = "/api/v1/executions?" + urllib.parse.urlencode(query)
    total = grid.call("GET", path)["pagination"]["total"]
    taken = [_timed(lambda: grid.call("GET", path)) for _ in range(rounds)]
    condition, args, order = _plain(query)
    peer, counted = asyncio.run(_direct(dsn, condition, args, order, 3))
    assert counted == total, f"{what}: the list says {total}, the table {counted}"
    return _figures(f"{what} ({total:,})", taken, peer)


def _figures(what: str, taken: list[float], peer: float) -> list[Figure]:
    against = "count(*) and page, SQL"
    return [
        compared("lists", f"{what} p50", "ms", percentile(taken, 0.5), against, peer, ""),
        compared("lists", f"{what} p99", "ms", percentile(taken, 0.99), against, peer, "< 20 ms"),
    ]


def _timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def _deep(grid: BenchGrid, dsn: str, pages: int, rounds: int) -> list[Figure]:
    """Twenty rows a page; the page before the last one gives the cursor."""
    figures: list[Figure] = []
    for query in ({}, {"sort": "duration_ms"}, {"status": "completed"}, {"metadata[team]": "team-0"}):
        text = urllib.parse.urlencode(query)
        cursor, taken = "", [0.0]
        for number in range(pages + rounds):
            began = time.perf_counter()
            answer = grid.call("GET", f"/api/v1/executions?{text}{cursor}")
            if number >= pages:
                taken.append((time.perf_counter() - began) * 1000)
            if answer["pagination"]["next_cursor"] is None:
                break
            cursor = "&cursor=" + answer["pagination"]["next_cursor"]
        condition, args, order = _plain(query)
        peer, _ = asyncio.run(_direct(dsn, condition, args, order, 3, offset=pages * 20))
        figures += _figures(f"page {pages:,} by cursor, {_said(query) or 'all'}", taken[1:] or taken, peer)
    return figures


def _plain(query: dict[str, str]) -> tuple[str, list[Any], str]:
    """The condition and the order as one would write them by hand."""
    conditions, args = ["true"], []
    for key, value in query.items():
        if key in ("sort", "order"):
            continue
        if key.startswith("metadata"):
            args += [key[9:-1], value]
            conditions.append(f"user_metadata ->> ${len(args) - 1} = ${len(args)}")
        elif key in ("since", "until"):
            args.append(datetime.fromisoformat(value))
            conditions.append(f"created_at {'>=' if key == 'since' else '<'} ${len(args)}")
        else:
            args.append(value)
            conditions.append(f"{key} = ${len(args)}")
    direction = query.get("order", "desc")
    order = f"{query.get('sort', 'created_at')} {direction} nulls last, execution_id {direction}"
    return " and ".join(conditions), args, order


async def _direct(
    dsn: str, condition: str, args: list[Any], order: str, rounds: int, offset: int = 0
) -> tuple[float, int]:
    connection = await asyncpg.connect(dsn)
    taken = []
    try:
        for _ in range(rounds):
            began = time.perf_counter()
            total = await connection.fetchval(f"select count(*) from rm.executions where {condition}", *args)
            await connection.fetch(
                f"select * from rm.executions where {condition} order by {order} limit 21 offset {offset}", *args
            )
            taken.append((time.perf_counter() - began) * 1000)
    finally:
        await connection.close()
    return percentile(taken, 0.5), total


async def _fill(dsn: str, count: int) -> tuple[int, int]:
    """Writes the log of `count` executions behind what is there; (head before, head after)."""
    connection = await asyncpg.connect(dsn)
    try:
        codec = Codec(TOPICS)
        first = head = await connection.fetchval("select coalesce(max(notification_id), 0) from rgrid.stored_events")
        stamp = await connection.fetchval("select coalesce(max(recorded_at), now()) from rgrid.stored_events")
        rows: list[tuple[Any, ...]] = []
        for stream, version, event in _lives(count):
            head += 1
            rows.append((stream, version, codec.topic(event), codec.encode(event), head, stamp, CAUSE))
            if len(rows) == COPY_EVENTS:
                await copy(connection, rows)
        await copy(connection, rows)
        return first, head
    finally:
        await connection.close()


async def copy(connection: Any, rows: list[tuple[Any, ...]]) -> None:
    """Events go straight into the log, and everybody hears of them."""
    await connection.copy_records_to_table("stored_events", schema_name="rgrid", records=rows, columns=COLUMNS)
    await connection.execute("select pg_notify('rgrid_events', $1::text)", str(rows[-1][4])) if rows else None
    rows.clear()


def _lives(count: int) -> Iterator[tuple[str, int, Event]]:
    """Spread over DAYS, with the daily jobs, batches, labels and accidents of a small company; the newest still run."""
    chance = random.Random(20260105)
    began = clock.now() - timedelta(days=DAYS)
    step = timedelta(days=DAYS) / count
    names = chance.choices(NAMES, [1 / (rank + 1) for rank in range(len(NAMES))], k=count)
    for number in range(count):
        at = began + step * number
        runtime = chance.choices(("python:3.11", "python:3.12", "node", "bash"), (70, 20, 9, 1))[0]
        batch = f"batch_{number // 1_000:026d}" if number % 5_000 < 1_000 else None
        labels = {"team": f"team-{min(7, int(chance.expovariate(0.6)))}", "env": chance.choice(("prod", "test"))}
        labels["release"] = f"r{number * 30 // count}"
        if number % 5 == 0:
            labels["order"] = str(number // 5)
        stream = "execution-exec_" + encode_ulid((int(at.timestamp() * 1000) << 80) | number)
        lived = _life(chance, at, runtime, batch, names[number], labels, count - number)
        for version, event in enumerate(lived, 1):
            yield stream, version, event


def _life(
    chance: random.Random, at: datetime, runtime: str, batch: str | None, name: str, labels: dict[str, str], age: int
) -> Iterator[Event]:
    yield facts.ExecutionSubmitted(
        name=name, script_sha256="ab" * 32, script_size_bytes=8, runtime=runtime, timeout_s=300, cpu=1.0,
        memory_mb=512, max_retries=1, user_metadata=labels, batch_id=batch, batch_index=0 if batch else None,
        root_execution_id="exec_0", created_by="key:bench", submitted_at=at,
    )  # fmt: skip
    yield facts.ExecutionQueued(
        attempt=1, runtime=runtime, cpu=1.0, memory_mb=512, batch_id=batch, not_before=at, queued_at=at
    )
    if age < 200:
        return
    outcome = chance.random()
    ran_ms = int(chance.lognormvariate(8, 1.5))
    end = at + timedelta(seconds=2, milliseconds=ran_ms)
    if outcome < 0.02:
        yield facts.ExecutionCancelled(cancelled_by="key:bench", finalized_cost_micros=0, completed_at=end)
        return
    yield facts.ExecutionClaimed(
        attempt=1, fencing_token=1, worker_id="wrk_1", worker_hostname="host", runner_kind="sandbox",
        sandbox_level="bubblewrap", hourly_micros=8_000, claimed_at=at + timedelta(seconds=2),
    )  # fmt: skip
    if age < 250:
        return
    cost = ran_ms // 450
    over = {"finalized_cost_micros": cost, "completed_at": end}
    status, reason = "completed", None
    if outcome < 0.07:
        status, reason = "failed", chance.choices(("exit_code", "out_of_memory", "internal"), (80, 18, 2))[0]
    elif outcome < 0.08:
        status, reason = "timed_out", "timeout"
    yield facts.AttemptEnded(
        attempt=1, status=status, failure_reason=reason, started_at=at, ended_at=end, duration_ms=ran_ms,
        cost_micros=cost,
    )  # type: ignore[arg-type] # fmt: skip
    match status:
        case "completed":
            yield facts.ExecutionCompleted(**over)
        case "failed":
            yield facts.ExecutionFailed(failure_reason=reason, **over)  # type: ignore[arg-type]
        case _:
            yield facts.ExecutionTimedOut(**over)


async def _projected(dsn: str, position: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        began = time.monotonic()
        query = "select position from rgrid.checkpoints where subscriber = 'executions' and ready"
        while await connection.fetchval(query) < position:
            assert time.monotonic() - began < PROJECT_MAX_S, "the projection does not get there"
            await asyncio.sleep(0.2)
    finally:
        await connection.close()


async def _settle(dsn: str) -> None:
    """What autovacuum would have done by itself at this pace of a normal day."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("vacuum (analyze) rm.executions")
        await connection.execute("vacuum (analyze) rm.executions_counts")
    finally:
        await connection.close()
