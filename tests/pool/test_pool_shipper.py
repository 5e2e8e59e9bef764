"""Lines leave an outbox only when the service has them; one bad attempt costs only itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

from pool.grid_double import GridDouble

from rgrid.kernel.errors import Invalid
from rgrid.pool.protocol import Lease, LogLine
from rgrid.pool.shipper import REQUEST_LINES_MAX, SHARE_LINES_MAX, Outbox, Shipper

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def lease(grid: GridDouble, number: int) -> Lease:
    one = Lease(execution_id=f"exec_{number}", attempt=1, fencing_token=number)
    grid.current[one.execution_id] = one
    return one


def lines(count: int, first: int = 0) -> list[LogLine]:
    return [
        LogLine(sequence_number=n, stream="stdout", message=f"line {n}", logged_at=NOON)
        for n in range(first, first + count)
    ]


@contextlib.asynccontextmanager
async def shipping(grid: GridDouble) -> AsyncIterator[Shipper]:
    shipper = Shipper(grid, "wrk_1")
    task = asyncio.ensure_future(shipper.run())
    try:
        yield shipper
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_lines_arrive_without_anybody_asking() -> None:
    async def scenario() -> None:
        grid = GridDouble()
        async with shipping(grid) as shipper:
            outbox = shipper.open(lease(grid, 1), lambda: None)
            outbox.add(lines(3))
            while len(grid.messages("exec_1")) < 3:
                await asyncio.sleep(0.001)
            assert len(grid.appends) == 1

    asyncio.run(scenario())


def test_lines_of_several_attempts_travel_in_one_request() -> None:
    async def scenario() -> None:
        grid = GridDouble()
        async with shipping(grid) as shipper:
            outboxes = [shipper.open(lease(grid, n), lambda: None) for n in range(3)]
            for outbox in outboxes:
                outbox.add(lines(2))
            assert all([await outbox.drained() for outbox in outboxes])
            assert grid.appends == [["exec_0", "exec_1", "exec_2"]]

    asyncio.run(scenario())


def test_a_loud_attempt_gets_its_share_and_no_more() -> None:
    class Sizes(GridDouble):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: list[dict[str, int]] = []

        async def append_logs(self, batch: Sequence[tuple[Lease, Sequence[LogLine]]]) -> list[Lease]:
            self.sizes.append({one.execution_id: len(taken) for one, taken in batch})
            return await super().append_logs(batch)

    async def scenario() -> None:
        grid = Sizes()
        async with shipping(grid) as shipper:
            outboxes = [shipper.open(lease(grid, n), lambda: None) for n in range(8)]
            outboxes[0].add(lines(9000))
            for outbox in outboxes[1:]:
                outbox.add(lines(1500))
            assert all([await outbox.drained() for outbox in outboxes])
            assert max(sum(sizes.values()) for sizes in grid.sizes) <= REQUEST_LINES_MAX
            assert max(max(sizes.values()) for sizes in grid.sizes) <= SHARE_LINES_MAX
            assert sum(len(grid.logs[f"exec_{n}"]) for n in range(8)) == 9000 + 7 * 1500

    asyncio.run(scenario())


def test_lines_wait_for_the_service_and_arrive_once_it_is_back() -> None:
    async def scenario() -> None:
        grid = GridDouble()
        async with shipping(grid) as shipper:
            outbox = shipper.open(lease(grid, 1), lambda: None)
            grid.down = True
            outbox.add(lines(2))
            await asyncio.sleep(0.15)
            outbox.add(lines(2, first=2))
            grid.down = False
            assert await outbox.drained()
            assert grid.messages("exec_1") == [f"line {n}" for n in range(4)]
            assert outbox.backlog_bytes == 0

    asyncio.run(scenario())


def test_an_attempt_whose_lease_is_lost_hears_of_it_and_the_others_go_on() -> None:
    async def scenario() -> None:
        grid = GridDouble()
        lost: list[str] = []
        async with shipping(grid) as shipper:
            gone = shipper.open(lease(grid, 1), lambda: lost.append("one"))
            fine = shipper.open(lease(grid, 2), lambda: lost.append("two"))
            grid.expire("exec_1")
            gone.add(lines(2))
            fine.add(lines(2))
            assert [await gone.drained(), await fine.drained()] == [False, True]
            assert lost == ["one"]
            gone.add(lines(1))
            assert not gone.lines

    asyncio.run(scenario())


def test_lines_that_the_service_refuses_cost_only_their_attempt() -> None:
    class Picky(GridDouble):
        async def append_logs(self, batch: Any) -> Any:
            if any(one.execution_id == "exec_1" for one, _ in batch):
                raise Invalid("no such line")
            return await super().append_logs(batch)

    async def scenario() -> None:
        grid = Picky()
        lost: list[str] = []
        async with shipping(grid) as shipper:
            outboxes: list[Outbox] = [shipper.open(lease(grid, n), lambda: lost.append("lost")) for n in (1, 2, 3)]
            for outbox in outboxes:
                outbox.add(lines(2))
            assert [await outbox.drained() for outbox in outboxes] == [False, True, True]
            assert lost == []

    asyncio.run(scenario())
