"""What counts against a limit, counted within the append: exact, over several processes, and free without a limit."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from projected import recorded
from test_execution import claim, finish, submit, submitted

from projections import costs
from rgrid.api.cost_limit import CostLimits, CostLimitUpdate
from rgrid.api.grid import Grid
from rgrid.assembly import assembled
from rgrid.executions import spending
from rgrid.executions.budget import DECIDER as BUDGET
from rgrid.executions.budget import ENTITY_ID
from rgrid.executions.commands import CancelExecution
from rgrid.executions.events import AttemptEnded
from rgrid.executions.execution import DECIDER
from rgrid.executions.process import note_usage
from rgrid.executions.spending import Spending
from rgrid.kernel.clock import now
from rgrid.kernel.errors import SpendingLimit, StaleVersion
from rgrid.kernel.ids import new_command_id, new_id
from rgrid.kernel.messages import Cause
from rgrid.postgres.pool import connect
from rgrid.settings import Settings
from rgrid.web.operation import Call, NoQuery, Reply
from rgrid.web.principal import Principal

FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)


def cause() -> Cause:
    return Cause(actor="key:key_1", command_id=new_command_id())


@asynccontextmanager
async def processes(dsn: str, folder: Path, count: int = 1) -> AsyncIterator[list[Grid]]:
    """So many that share nothing but the database."""
    settings = Settings(data_dir=folder, encryption_key="00" * 32)
    if count == 0:
        yield []
        return
    async with assembled(settings, dsn) as parts, processes(dsn, folder, count - 1) as others:
        yield [parts.grid, *others]


def asked(body: Any = None, if_match: int | None = None) -> Call[NoQuery, Any]:
    return Call(
        actor=Principal(actor="key:key_1", actor_kind="key", scopes=("admin",)),
        path={}, query=NoQuery(), body=body, request_id="r-1", method="PUT", url_path="/api/v1/cost/limit",
        if_match=if_match,
    )  # fmt: skip


async def limit(grid: Grid, micros: int, threshold: int = 80) -> Reply:
    body = CostLimitUpdate(monthly_limit_micros=micros, alert_threshold_percent=threshold)
    return await CostLimits(grid).set(asked(body))


async def submit_one(grid: Grid, reserved: int = 667) -> str | None:
    """Its id, None when the limit refuses it."""
    execution_id = new_id("exec")
    try:
        command = submit(reserved_micros=reserved, root_execution_id=execution_id)
        await grid.handler.handle(DECIDER, execution_id, command, cause(), new=True)
    except SpendingLimit:
        return None
    return execution_id


async def run_one(grid: Grid, execution_id: str, duration_ms: int = 60_000) -> None:
    await grid.handler.handle(DECIDER, execution_id, claim(), cause())
    await grid.handler.handle(DECIDER, execution_id, finish(duration_ms=duration_ms), cause())


async def agrees(grid: Grid) -> spending.Spent:
    """The counted figures, which must be those of the read model, which come from the log alone."""
    await grid.reached(await grid.store.head(), None, 10)
    counted = await spending.spent(grid.pool, now())
    assert counted.counting
    assert counted.used_micros == await costs.used_since(grid.pool, spending.month_of(now()))
    assert counted.reserved_micros == await costs.reserved(grid.pool)
    return counted


def test_two_processes_at_once_let_one_of_two_through(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with processes(database, tmp_path, 2) as (first, second):
            await limit(first, 1_000)
            for _ in range(15):
                ids = await asyncio.gather(submit_one(first), submit_one(second), submit_one(first), submit_one(second))
                accepted = [one for one in ids if one is not None]
                assert len(accepted) == 1, "667 + 667 > 1,000"
                await first.handler.handle(DECIDER, accepted[0], CancelExecution(requested_by="x"), cause())
                assert (await agrees(second)).reserved_micros == 0

    asyncio.run(run())


def test_a_refusal_tells_the_figures_and_writes_nothing(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with processes(database, tmp_path) as (grid,):
            await limit(grid, 1_000)
            execution_id = await submit_one(grid)
            assert execution_id is not None
            await run_one(grid, execution_id)
            head = await grid.store.head()
            with pytest.raises(SpendingLimit) as refused:
                command = submit(reserved_micros=868)
                await grid.handler.handle(DECIDER, new_id("exec"), command, cause(), new=True)
            assert refused.value.extra == {
                "current_usage_micros": 133,
                "reserved_micros": 0,
                "requested_micros": 868,
                "monthly_limit_micros": 1_000,
            }
            assert await grid.store.head() == head
            assert await submit_one(grid, 867) is not None
            with pytest.raises(SpendingLimit):
                await grid.spending.allow(grid.pool, 1, now())

    asyncio.run(run())


def test_refusals_do_not_fail_what_is_written_beside_them(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with processes(database, tmp_path) as (grid,):
            await limit(grid, 667 * 10)
            ids = await asyncio.gather(*(submit_one(grid) for _ in range(40)))
            accepted = [one for one in ids if one is not None]
            assert len(accepted) == 10
            await asyncio.gather(
                *(run_one(grid, one, 1_000) for one in accepted), *(submit_one(grid) for _ in range(9))
            )
            assert (await agrees(grid)).used_micros == 10 * 2

    asyncio.run(run())


def test_a_limit_counts_what_was_there_before_it_was_set(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with processes(database, tmp_path, 2) as (first, second):
            ids = [await submit_one(second) for _ in range(3)]
            assert not (await spending.spent(first.pool, now())).counting, "nobody counts before there is a limit"
            assert ids[0] is not None
            await run_one(second, ids[0])
            setting = asyncio.create_task(limit(first, 133 + 667 * 3))
            beside = []
            while not setting.done():
                beside.append(await submit_one(second, 0))
            await setting
            counted = await agrees(first)
            assert (counted.used_micros, counted.reserved_micros) == (133, 667 * 2)
            assert [await submit_one(second), await submit_one(second)][1] is None
            assert ids[1] is not None
            await run_one(second, ids[1], 0)
            assert (await agrees(first)).reserved_micros == 667 * 2

    asyncio.run(run())


def test_removing_a_limit_lets_everything_through_and_stops_the_counting(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with processes(database, tmp_path) as (grid,):
            await limit(grid, 1)
            assert await submit_one(grid) is None
            removed = await CostLimits(grid).removed(asked())
            assert removed.position
            again = await CostLimits(grid).removed(asked())
            assert again.position == 0
            assert await submit_one(grid) is not None
            assert not (await spending.spent(grid.pool, now())).counting
            with pytest.raises(StaleVersion):
                await CostLimits(grid).set(asked(CostLimitUpdate(monthly_limit_micros=5), if_match=1))
            await limit(grid, 5)
            assert (await agrees(grid)).reserved_micros == 667

    asyncio.run(run())


def test_notices_are_recorded_once_a_level_and_again_after_a_change(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with processes(database, tmp_path, 2) as grids:
            await limit(grids[0], 1_000)
            for duration_ms, said in ((358_000, 0), (2_250, 1), (0, 1), (200_000, 2)):
                execution_id = await submit_one(grids[0], 1)
                if execution_id is not None:
                    await run_one(grids[0], execution_id, duration_ms)
                for grid in grids:
                    await note_usage(grid.pool, grid.handler)
                topics = [one.topic for one in await grids[0].store.read_stream(BUDGET.stream_id(ENTITY_ID))]
                assert topics[1:] == ["budget.warned.v1", "budget.blocked.v1"][:said], duration_ms
            await limit(grids[0], 1_100)
            await note_usage(grids[1].pool, grids[1].handler)
            topics = [one.topic for one in await grids[0].store.read_stream(BUDGET.stream_id(ENTITY_ID))]
            assert topics[3:] == ["budget.limit_set.v1", "budget.warned.v1", "budget.blocked.v1"]

    asyncio.run(run())


def test_any_course_of_executions_in_two_processes_counts_as_the_log_does(database: str, tmp_path: Path) -> None:
    async def one_course(grids: list[Grid], dice: random.Random) -> None:
        grid = dice.choice(grids)
        execution_id = await submit_one(grid, dice.randrange(1, 5_000))
        if execution_id is None:
            return
        if dice.random() < 0.3:
            await grid.handler.handle(DECIDER, execution_id, CancelExecution(requested_by="x"), cause())
        elif dice.random() < 0.7:
            await run_one(dice.choice(grids), execution_id, dice.randrange(10**6))

    async def run() -> None:
        dice = random.Random(7)
        async with processes(database, tmp_path, 2) as grids:
            await asyncio.gather(*(one_course(grids, dice) for _ in range(30)))
            await limit(grids[0], 150_000)
            await asyncio.gather(*(one_course(grids, dice) for _ in range(150)))
            await agrees(grids[1])

    asyncio.run(run())


def test_the_usage_begins_afresh_with_the_month_and_what_is_kept_aside_goes_on(database: str) -> None:
    async def run() -> None:
        connection, ledger = await connect(database, name="test"), Spending()
        await connection.execute("update rgrid.spending set announced = true, counting = true, limit_micros = 1000")
        before = FEBRUARY - timedelta(microseconds=1)

        def ended(cost: int, at: datetime) -> AttemptEnded:
            return AttemptEnded(
                attempt=1, status="completed", started_at=at, ended_at=at, duration_ms=1, cost_micros=cost
            )

        def asked_for(micros: int, at: datetime) -> Any:
            return structs.replace(submitted(reserved_micros=micros).past[0], submitted_at=at)  # type: ignore[type-var]

        async def count(*events: Any) -> tuple[date, int, int]:
            await ledger.count(connection, recorded([(f"execution-{n}", event) for n, event in enumerate(events)]))
            row = await connection.fetchrow("select month, used_micros, reserved_micros from rgrid.spending")
            assert row is not None
            return tuple(row)  # type: ignore[return-value]

        assert await count(asked_for(400, before)) == (date(2026, 1, 1), 0, 400)
        assert await count(ended(600, at=before)) == (date(2026, 1, 1), 600, 400)
        with pytest.raises(SpendingLimit):
            await count(asked_for(1, before))
        await connection.execute("update rgrid.spending set reserved_micros = 400")
        assert await count(asked_for(600, FEBRUARY)) == (date(2026, 2, 1), 0, 1_000)
        # A process whose clock is behind still ends attempts in January: they count for January, which is over.
        assert await count(ended(7, at=before), ended(5, at=FEBRUARY)) == (date(2026, 2, 1), 5, 1_000)
        assert (await spending.spent(connection, FEBRUARY + timedelta(days=40))).used_micros == 0
        await connection.close()

    asyncio.run(run())
