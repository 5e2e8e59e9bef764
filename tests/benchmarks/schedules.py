"""Schedules that are all due at the same moment: every one fires, and how late. A delay runs from the due time to the
commit of the decision, which is the commit of the target's beginning, too, as the log has it."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import asyncpg

from rgrid.postgres.embedded import dsn_of_running
from tests.benchmarks.bench_grid import BenchGrid
from tests.benchmarks.report import Figure, percentile

SCHEDULES = 10_000
CLIENTS = 8
MAKE_S = 4
MADE_PER_S = 150
FIRE_MAX_S = 120
LATEST = """
    select count(*) as events, count(distinct e.originator_id) as schedules,
           array_agg(extract(epoch from e.recorded_at - $1::timestamptz)::float8) as delays_s
    from rgrid.stored_events e where e.topic = $2 and e.recorded_at >= $1
"""


def run(smoke: bool) -> list[Figure]:
    wanted = 50 if smoke else SCHEDULES
    with BenchGrid(slots=0) as grid:
        # One moment for all, so late that by then each of them is in the lists.
        due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=MAKE_S + wanted / MADE_PER_S)
        _make(grid, wanted, due_at)
        assert datetime.now(UTC) < due_at, "the schedules were not made in time"
        dsn = dsn_of_running(grid.folder / "data")
        assert dsn is not None
        fired, began_s = asyncio.run(_fired(dsn, due_at, wanted))
    what = f"{wanted:,} schedules due at one moment"
    return [
        Figure("schedules", f"{what}, decisions", len(fired), "", aim=f"{wanted:,}"),
        Figure("schedules", f"{what}, from due to decided, p50", percentile(fired, 0.5) * 1e3, "ms"),
        Figure("schedules", f"{what}, from due to decided, p95", percentile(fired, 0.95) * 1e3, "ms"),
        Figure("schedules", f"{what}, from due to decided, p99", percentile(fired, 0.99) * 1e3, "ms", aim="< 2,000"),
        Figure("schedules", f"{what}, from due to begun, p50", percentile(began_s, 0.5) * 1e3, "ms"),
        Figure("schedules", f"{what}, from due to begun, p99", percentile(began_s, 0.99) * 1e3, "ms"),
    ]


def _make(grid: BenchGrid, wanted: int, due_at: datetime) -> None:
    def one(index: int) -> None:
        body = {"name": f"bench-{index}", "target_type": "EXECUTION", "target_name": "bench",
                "run_at": due_at.isoformat(), "target_params": {"script_content": "print(1)"}}  # fmt: skip
        grid.call("POST", "/api/v1/schedules", body)

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(one, range(wanted)))


async def _fired(dsn: str, due_at: datetime, wanted: int) -> tuple[list[float], list[float]]:
    """Once all have begun: the delays of the decisions and of the beginnings."""
    connection = await asyncpg.connect(dsn)
    try:
        give_up = time.monotonic() + FIRE_MAX_S + (due_at - datetime.now(UTC)).total_seconds()
        while True:
            began = await connection.fetchrow(LATEST, due_at, "schedule.run_started.v1")
            assert began is not None
            if began["schedules"] >= wanted:
                break
            assert time.monotonic() < give_up, f"only {began['schedules']} have begun"
            await asyncio.sleep(0.5)
        fired = await connection.fetchrow(LATEST, due_at, "schedule.due_fired.v1")
        assert fired is not None
        assert fired["events"] == fired["schedules"] == wanted, "a due time was decided about twice, or not at all"
        return list(fired["delays_s"]), list(began["delays_s"])
    finally:
        await connection.close()
