"""A million log lines on their way to the object store: what the database holds before and after, and how long a page
takes from either."""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from rgrid.catalogue import TOPICS
from rgrid.eventstore.codec import Codec
from rgrid.executions import events as facts
from rgrid.kernel import clock
from rgrid.kernel.ids import new_id
from rgrid.kernel.messages import Event
from rgrid.postgres.embedded import dsn_of_running
from tests.benchmarks.bench_grid import SOURCES, BenchGrid
from tests.benchmarks.lists import CAUSE, copy
from tests.benchmarks.report import Figure, compared, percentile

EXECUTIONS: Final = 5
MIB: Final = 1024 * 1024
_SIZE: Final = "select pg_total_relation_size('rgrid.execution_logs')"
_LINE_COLUMNS: Final = ("execution_id", "sequence_number", "attempt", "fd", "logged_at", "message")


def run(smoke: bool) -> list[Figure]:
    lines, rounds = (4_000, 5) if smoke else (200_000, 200)
    with BenchGrid(slots=0) as grid:
        dsn = dsn_of_running(grid.folder / "data")
        assert dsn is not None
        names = asyncio.run(_fill(dsn, lines))
        asyncio.run(_sql(dsn, "vacuum analyze rgrid.execution_logs"))
        size_before: int = asyncio.run(_sql(dsn, _SIZE))
        before = {what: _taken(grid, names, query, lines, rounds) for what, query in READS.items()}
        cpu_s, wall_s = _purged(grid)
        asyncio.run(_sql(dsn, "vacuum analyze rgrid.execution_logs"))
        size_after: int = asyncio.run(_sql(dsn, _SIZE))
        blocks, stored = asyncio.run(_row(dsn, "select count(*), sum(size_bytes)::bigint from rm.log_blocks"))
        after = {what: _taken(grid, names, query, lines, rounds) for what, query in READS.items()}
    count = lines * EXECUTIONS
    figures = [
        compared("archive", f"{count:,} lines, table and index", "MiB", size_after / MIB, "before", size_before / MIB,
                 "near 0"),
        compared("archive", f"{blocks} blocks in the object store", "MiB", stored / MIB, "the table",
                 size_before / MIB, ""),
        Figure("archive", "lines moved a second", count / wall_s, "/s"),
        Figure("archive", "CPU for 1,000 lines, service left out", cpu_s / count * 1e6, "ms"),
    ]  # fmt: skip
    for what in READS:
        for share in (0.5, 0.99):
            ours, peer = percentile(after[what], share), percentile(before[what], share)
            name = f"{what}, p{round(share * 100)}"
            figures.append(compared("archive", name, "ms", ours, "the table", peer, "< 50 ms"))
    return figures


READS: Final = {
    "page of 100 in the middle": "limit=100&after={middle}",
    "page of 1,000 in the middle": "limit=1000&after={middle}",
    "page of 100 by offset": "limit=100&offset={middle}",
    "page of 100 of stderr": "limit=100&stream=stderr&after={middle}",
    "last 1,000": "tail=1000",
}


def _taken(grid: BenchGrid, names: list[str], query: str, lines: int, rounds: int) -> list[float]:
    """Each read at another place, so that nothing is read twice in a row."""
    chance = random.Random(7)
    taken = []
    for number in range(rounds):
        path = f"/api/v1/executions/{names[number % len(names)]}/logs?"
        path += query.format(middle=chance.randrange(lines // 10, lines * 9 // 10))
        began = time.perf_counter()
        assert grid.call("GET", path)["data"]
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def _purged(grid: BenchGrid) -> tuple[float, float]:
    """Moves everything that is due, in a process of its own; its CPU and wall time."""
    environment = {**os.environ, "PYTHONPATH": f"{SOURCES / 'src'}:{SOURCES}"}
    before, began = os.times(), time.monotonic()
    words = [sys.executable, "-m", "rgrid", "purge", "--data-dir", str(grid.folder / "data"), "--json"]
    subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL)
    wall_s, after = time.monotonic() - began, os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return cpu_s, wall_s


async def _sql(dsn: str, sql: str) -> Any:
    return (await _row(dsn, sql) or (None,))[0]


async def _row(dsn: str, sql: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchrow(sql)
    finally:
        await connection.close()


async def _fill(dsn: str, lines: int) -> list[str]:
    """Executions that ended two hours ago, each with so many lines."""
    ended = clock.now() - timedelta(hours=2)
    connection = await asyncpg.connect(dsn)
    try:
        names = [new_id("exec") for _ in range(EXECUTIONS)]
        for name in names:
            await connection.copy_records_to_table(
                "execution_logs", schema_name="rgrid", columns=_LINE_COLUMNS, records=_lines(name, ended, lines)
            )
        head = await connection.fetchval("select coalesce(max(notification_id), 0) from rgrid.stored_events")
        stamp = await connection.fetchval("select coalesce(max(recorded_at), now()) from rgrid.stored_events")
        codec = Codec(TOPICS)
        rows = []
        for name in names:
            for version, event in enumerate(_life(name, ended, lines), 1):
                head += 1
                stored = (codec.topic(event), codec.encode(event))
                rows.append((f"execution-{name}", version, *stored, head, stamp, CAUSE))
        await copy(connection, rows)
        query = "select position from rgrid.checkpoints where subscriber = 'retention' and ready"
        while (await connection.fetchval(query) or 0) < head:
            await asyncio.sleep(0.1)
        return names
    finally:
        await connection.close()


def _lines(name: str, ended: datetime, count: int) -> Iterator[tuple[str, int, int, int, datetime, str]]:
    chance = random.Random(name)
    for number in range(count):
        at = ended - timedelta(milliseconds=count - number)
        item, customer, took = chance.randrange(1_000_000), chance.randrange(9_000), chance.random() * 90
        message = f"{at:%Y-%m-%d %H:%M:%S,%f} INFO load.step: item {item} of customer {customer} done in {took:.1f} ms"
        yield name, number, 1, 2 if chance.random() < 0.02 else 1, at, message


def _life(name: str, ended: datetime, lines: int) -> Iterator[Event]:
    yield facts.ExecutionSubmitted(
        script_sha256="ab" * 32, script_size_bytes=8, runtime="python:3.11", timeout_s=300, cpu=1.0, memory_mb=512,
        max_retries=1, root_execution_id=name, created_by="key:bench", submitted_at=ended,
    )  # fmt: skip
    yield facts.ExecutionClaimed(
        attempt=1, fencing_token=1, worker_id="wrk_1", worker_hostname="host", runner_kind="sandbox",
        sandbox_level="bubblewrap", hourly_micros=8_000, claimed_at=ended,
    )  # fmt: skip
    yield facts.AttemptEnded(
        attempt=1, status="completed", started_at=ended, ended_at=ended, duration_ms=lines, cost_micros=1,
        stdout_size_bytes=lines,
    )  # fmt: skip
    yield facts.ExecutionCompleted(finalized_cost_micros=1, completed_at=ended)
