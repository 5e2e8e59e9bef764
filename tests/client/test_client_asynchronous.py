"""The client for asyncio against a real service, and through a network that breaks: the same calls, the same rules."""

import asyncio
import hashlib
import inspect
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from cutting_proxy import CuttingProxy, Fault
from running_grid import Grid
from test_client_grid import SLOW, WAIT_S, first_times
from test_transport import NO_WAITS, OK, answering

from rgrid.client.answers import Ended, LogLine
from rgrid.client.asynchronous import AsyncClient
from rgrid.client.batches import Batches, BlockingBatches, Item
from rgrid.client.calls import Calls
from rgrid.client.grid import Client, Submission
from rgrid.client.problems import BadTransfer, GridError, Refused, Unreachable
from rgrid.client.schedules import BlockingSchedules, Schedules
from rgrid.client.workflows import BlockingWorkflows, Workflows


@asynccontextmanager
async def through(grid: Grid, fault: Fault, cut_after: int = 2000) -> AsyncIterator[AsyncClient]:
    proxy = CuttingProxy(grid.url, fault, cut_after)
    async with AsyncClient(proxy.url, grid.key, waits_s=(0.0, 0.05, 0.1, 0.2, 0.5)) as client:
        yield client
    proxy.close()


def public(kind: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}


def test_both_clients_can_do_the_same() -> None:
    assert public(Calls) == public(AsyncClient) == public(Client)
    assert public(Batches) == public(BlockingBatches)
    assert public(Workflows) == public(BlockingWorkflows)
    assert public(Schedules) == public(BlockingSchedules)


def test_a_script_runs_with_its_inputs_and_its_files_come_back(grid: Grid, tmp_path: Path) -> None:
    files = {}
    for number in range(6):
        files[f"in/{number}.bin"] = tmp_path / f"{number}.bin"
        files[f"in/{number}.bin"].write_bytes(bytes([number]) * (number * 200_000))
    script = "for n in range(6):\n    open(f'out{n}.bin', 'wb').write(open(f'in/{n}.bin', 'rb').read())\n"
    progress: list[int] = []

    async def go() -> None:
        async with AsyncClient(grid.url, grid.key) as client:
            made = await client.submit(Submission(script_content=script, name="async"), files, progress.append)
            over = await client.wait(made.execution_id, WAIT_S)
            assert (over.status, over.exit_code) == ("completed", 0), over.stderr
            assert sum(progress) == 3_000_000
            artifacts = [artifact async for artifact in client.artifacts(made.execution_id, "output")]
            await asyncio.gather(*(client.download(artifact, tmp_path / "back") for artifact in artifacts))
            rows = [row.execution_id async for row in client.executions(name="async")]
            assert rows == [made.execution_id]

    asyncio.run(go())
    for number in range(6):
        came = (tmp_path / "back" / f"out{number}.bin").read_bytes()
        assert hashlib.sha256(came).digest() == hashlib.sha256(files[f"in/{number}.bin"].read_bytes()).digest()


def test_files_that_the_service_holds_are_not_sent_again(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("held by the service")
    files = {"in.txt": tmp_path / "in.txt"}
    submission = Submission(script_content="print(open('in.txt').read())")

    async def go() -> None:
        async with AsyncClient(grid.url, grid.key) as client:
            states = []
            for use_cache in (True, True, False):
                made = await client.submit(submission, files, use_cache=use_cache)
                over = await client.wait(made.execution_id, WAIT_S)
                assert over.stdout == "held by the service\n"
                states += [one.state for one in over.inputs]
            assert states == ["verified", "cached", "verified"]

    asyncio.run(go())


def test_a_batch_runs_with_the_inputs_of_its_items(grid: Grid, tmp_path: Path) -> None:
    items = []
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text(str(number))
        items.append(Item(args=[f"{number}.txt"], files={f"{number}.txt": tmp_path / f"{number}.txt"}))
    submission = Submission(script_content="import sys; print(open(sys.argv[1]).read())", name="async-batch")
    progress: list[int] = []

    async def go() -> None:
        async with AsyncClient(grid.url, grid.key) as client:
            made = await client.batches.create(submission, items, max_parallel=3, progress=progress.append)
            seen = [batch async for batch in client.batches.watch(made.batch_id)]
            assert (seen[-1].status, seen[-1].counts.completed, sum(progress)) == ("completed", 9, 9)
            rows = [row.execution_id async for row in client.batches.executions(made.batch_id)]
            over = await asyncio.gather(*(client.get(execution_id) for execution_id in rows))
            assert [one.stdout for one in over] == [f"{number}\n" for number in range(9)]
            assert made.batch_id in [row.batch_id async for row in client.batches.list()]
            assert len(await client.batches.retry(made.batch_id, failed_only=False)) == 9
            await client.batches.wait(made.batch_id, WAIT_S)

    asyncio.run(go())


def test_waiting_for_a_batch_ends_with_its_time_also_when_nothing_changes(grid: Grid) -> None:
    async def go() -> None:
        async with AsyncClient(grid.url, grid.key) as client:
            submission = Submission(script_content="import time\ntime.sleep(60)\n")
            made = await client.batches.create(submission, [Item()])
            with pytest.raises(GridError, match="is not over"):
                await client.batches.wait(made.batch_id, 0.5)
            await client.batches.cancel(made.batch_id, "enough")
            assert (await client.batches.wait(made.batch_id, WAIT_S)).status == "cancelled"

    asyncio.run(go())


def test_what_was_spent_and_may_be_is_asked_and_set(grid: Grid) -> None:
    async def go() -> None:
        async with AsyncClient(grid.url, grid.key) as client:
            spent = await client.cost(group_by="runtime")
            assert spent.total_cost_micros == sum(day.cost_micros for day in spent.by_date)
            assert (await client.estimate(files=7)).estimated_executions == 7
            await client.set_cost_limit(900_000_000, 70)
            limit = await client.cost_limit()
            assert (limit.monthly_limit_micros, limit.alert_threshold_percent) == (900_000_000, 70)
            await client.remove_cost_limit()
            assert not (await client.cost_limit()).has_limit

    asyncio.run(go())


def test_a_submission_whose_answer_was_lost_makes_one_execution(grid: Grid) -> None:
    async def go() -> None:
        async with through(grid, first_times(2, "swallow", b"POST /api/v1/executions")) as client:
            made = await client.submit(Submission(script_content="print(1)", name="async-answer-lost"))
            found = [row.execution_id async for row in client.executions(name="async-answer-lost")]
            assert found == [made.execution_id]

    asyncio.run(go())


@pytest.mark.parametrize("fault", ["cut", "refuse"])
def test_a_follower_hears_every_line_once(grid: Grid, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rgrid.client.following.RECONNECT_FIRST_S", 0.01)
    monkeypatch.setattr("rgrid.client.following.POLL_EVERY_S", 0.05)

    async def go() -> None:
        async with through(grid, first_times(6, fault, b"GET /ws/"), cut_after=3000) as client:
            made = await client.submit(Submission(script_content=SLOW))
            items = [item async for item in client.follow(made.execution_id)]
            lines = [item.message for item in items if isinstance(item, LogLine)]
            assert lines == [f"line {number}" for number in range(40)]
            assert isinstance(items[-1], Ended)
            assert items[-1].status == "completed"

    asyncio.run(go())


def test_many_are_followed_at_once_and_one_may_leave_early(grid: Grid) -> None:
    async def go() -> None:
        async with AsyncClient(grid.url, grid.key) as client:
            made = await client.submit(Submission(script_content=SLOW))

            async def heard() -> int:
                items = [item async for item in client.follow(made.execution_id)]
                return sum(isinstance(item, LogLine) for item in items)

            async def left() -> int:
                async with aclosing(client.follow(made.execution_id)) as items:
                    async for item in items:
                        if isinstance(item, LogLine):
                            return 1
                return 0

            counts = await asyncio.gather(left(), *(heard() for _ in range(20)))
            assert counts == [1, *[40] * 20]

    asyncio.run(go())


def test_who_is_not_let_in_is_told_why(grid: Grid) -> None:
    async def go() -> None:
        async with AsyncClient(grid.url, "sk_live_wrong") as client:
            with pytest.raises(Refused) as refused:
                await client.me()
            assert (refused.value.status, refused.value.code) == (401, "credentials_invalid")

    asyncio.run(go())


def test_a_cancelled_task_ends_its_waiting(grid: Grid) -> None:
    async def go() -> None:
        async with AsyncClient(grid.url, grid.key) as client:
            made = await client.submit(Submission(script_content="import time\ntime.sleep(60)\n"))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.wait(made.execution_id), 0.2)
            await client.cancel(made.execution_id)

    asyncio.run(go())


@pytest.mark.parametrize("first", [(503, {"Retry-After": "0"}, b""), (429, {}, b""), None])
def test_a_post_is_repeated_with_the_same_idempotency_key(first: tuple[int, dict[str, str], bytes] | None) -> None:
    async def go(url: str) -> None:
        async with AsyncClient(url, "key", waits_s=NO_WAITS) as client:
            await client.document("POST", "/x", body={"a": 1})

    with answering(first, first, OK) as (server, transport, _):
        asyncio.run(go(transport.url))
        assert [body for _, _, body in server.asked] == [b'{"a":1}'] * 3
        assert len({key for _, key, _ in server.asked} - {None}) == 1


def test_where_nothing_listens_reading_fails_at_once() -> None:
    async def go() -> None:
        async with AsyncClient("http://127.0.0.1:1") as client:
            with pytest.raises(Unreachable, match="connection refused"):
                await client.me()

    asyncio.run(go())


def test_a_file_that_changes_while_it_is_sent_is_not_sent_again(grid: Grid, tmp_path: Path) -> None:
    path = tmp_path / "in.bin"
    path.write_bytes(b"x" * 3_000_000)

    async def go() -> None:
        async with AsyncClient(grid.url, grid.key) as client:
            with pytest.raises(BadTransfer, match="changed while it was being sent"):
                await client.submit(
                    Submission(script_content="print(1)"), {"in.bin": path}, on_created=lambda _: path.write_bytes(b"x")
                )

    asyncio.run(go())
