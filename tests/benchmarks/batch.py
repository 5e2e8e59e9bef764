"""10,000 items in one request against rows of the same size that Postgres inserts alone; then a batch run to its end,
with the grid's own share of the time."""

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable

import asyncpg

from rgrid.postgres.embedded import dsn_of_running
from tests.benchmarks.bench_grid import KEY, BenchGrid
from tests.benchmarks.report import Figure, compared, in_turn

ITEMS = 10_000
RUN_ITEMS = 400
SCRIPT_S = 0.02
POLL_S = 0.02
RUN_MAX_S = 300


def run(smoke: bool) -> list[Figure]:
    items, rounds, run_items = (500, 1, 20) if smoke else (ITEMS, 5, RUN_ITEMS)
    with BenchGrid(slots=0) as grid:
        dsn = dsn_of_running(grid.folder / "data")
        assert dsn is not None
        _made(grid, 10)
        made_s, plain_s, env_s = in_turn(
            rounds,
            lambda: _made_alone(grid, items),
            lambda: asyncio.run(_rows(dsn, items * 2)),
            lambda: _made_alone(grid, items, with_env=True),
        )
        shown_s = _shown(grid, items)
        cancelled_s = _cancelled(grid, items)
    figures = [
        compared("batch", f"{items} items in one request", "ms", made_s * 1e3, f"{items * 2} bare rows in one insert",
                 plain_s * 1e3, "< 1,000"),
        Figure("batch", f"{items} items, each with a variable", env_s * 1e3, "ms"),
        Figure("batch", f"until {items} items are in the lists", shown_s * 1e3, "ms"),
        Figure("batch", f"{items} queued items cancelled", cancelled_s * 1e3, "ms"),
    ]  # fmt: skip
    with BenchGrid(slots=2) as grid:
        _ended(grid, _made(grid, 4, seconds=SCRIPT_S))
        took_s = _timed(lambda: _ended(grid, _made(grid, run_items, seconds=SCRIPT_S)))
    slept_s = run_items * SCRIPT_S / 2
    figures += [
        compared("batch", f"{run_items} items of {SCRIPT_S * 1e3:.0f} ms on 2 slots", "s", took_s, "their sleep alone",
                 slept_s, ""),
        Figure("batch", "the grid's own time for each item", (took_s - slept_s) * 2 / run_items * 1e3, "ms"),
    ]  # fmt: skip
    return figures


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _made(grid: BenchGrid, items: int, *, seconds: float = 0.0, with_env: bool = False) -> str:
    each = [{"args": [f"{number}.csv"], **({"env_vars": {"N": str(number)}} if with_env else {})}
            for number in range(items)]  # fmt: skip
    body = json.dumps({"script_content": f"import time; time.sleep({seconds})", "items": each}).encode()
    headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
    request = urllib.request.Request(f"{grid.url}/api/v1/batches", body, headers, method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        batch_id: str = json.load(answer)["batch_id"]
    return batch_id


def _made_alone(grid: BenchGrid, items: int, *, with_env: bool = False) -> float:
    """The request alone: the read side has caught up with the batch before when it comes."""
    began = time.monotonic()
    batch_id = _made(grid, items, with_env=with_env)
    took_s = time.monotonic() - began
    _seen(grid, batch_id, items)
    return took_s


def _seen(grid: BenchGrid, batch_id: str, items: int) -> None:
    """Returns when every item is in the lists."""
    path = f"/api/v1/batches/{batch_id}/executions?limit=1"
    give_up = time.monotonic() + RUN_MAX_S
    while grid.call("GET", path)["pagination"]["total"] < items:
        assert time.monotonic() < give_up
        time.sleep(POLL_S)


def _shown(grid: BenchGrid, items: int) -> float:
    began = time.monotonic()
    _seen(grid, _made(grid, items), items)
    return time.monotonic() - began


def _cancelled(grid: BenchGrid, items: int) -> float:
    batch_id = _made(grid, items)
    _seen(grid, batch_id, items)
    began = time.monotonic()
    grid.call("POST", f"/api/v1/batches/{batch_id}/cancel")
    _ended(grid, batch_id)
    return time.monotonic() - began


def _ended(grid: BenchGrid, batch_id: str) -> None:
    give_up = time.monotonic() + RUN_MAX_S
    while grid.call("GET", f"/api/v1/batches/{batch_id}")["completed_at"] is None:
        assert time.monotonic() < give_up
        time.sleep(POLL_S)


async def _rows(dsn: str, rows: int) -> float:
    """As many rows of the same size in one insert into a bare table with two unique keys."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            'create table if not exists bench_events (stream text collate "C", version bigint, position bigint unique,'
            " state bytea, primary key (stream, version))"
        )
        await connection.execute("truncate bench_events")
        columns = [[f"execution-{n // 2:030}" for n in range(rows)], [n % 2 for n in range(rows)], list(range(rows)),
                   [b"x" * 300] * rows]  # fmt: skip
        began = time.monotonic()
        await connection.execute(
            "insert into bench_events select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bytea[])",
            *columns,
        )
        return time.monotonic() - began
    finally:
        await connection.close()
