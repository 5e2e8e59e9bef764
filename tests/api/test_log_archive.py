"""Log lines that moved to the object store: every way of reading shows what it showed before, while they move, after a
crash in between, and until they expire. On a real database, a folder, and buckets over HTTP."""

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import s3_servers
from api.keeping import LONG_AGO, SECRET, House, Printed, house, sha256
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from rgrid.client.answers import Ended, LogLine
from rgrid.client.grid import Client
from rgrid.executions.log_archive import BLOCK_BYTES_MAX, BLOCKS_MAX
from rgrid.executions.log_reader import Wanted

HOURS = timedelta(hours=2)
LONG: list[Printed] = [
    # Numbers 4, 9, 14 … are left out, as after a repair that skipped some.
    (number, 1 if number < 7_000 else 2, "stderr" if number % 7 == 0 else "stdout", f"line {number} – {'x' * 40}")
    for number in range(11_000)
    if number % 5 != 4
]

# A block never mixes attempts, so a short log of three has three blocks, too.
SHORT: list[Printed] = [
    (number, number // 100 + 1, "stderr" if number % 7 == 0 else "stdout", f"line {number}") for number in range(300)
]


@contextmanager
def store(kind: str) -> Iterator[dict[str, Any]]:
    """The settings of a store for objects of its own."""
    if kind == "folder":
        yield {}
        return
    with s3_servers.moto() if kind == "moto" else s3_servers.swift() as url:
        yield {
            "objects_url": f"s3://{s3_servers.BUCKET}/logs",
            "objects_endpoint": url,
            "objects_access_key": s3_servers.ACCESS_KEY,
            "objects_secret_key": s3_servers.SECRET_KEY,
        }


def moment_of(line: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(line["timestamp"])


async def rows_of(here: House, execution_id: str) -> int:
    sql = "select count(*) from rgrid.execution_logs where execution_id = $1"
    count: int = await here.grid.pool.fetchval(sql, execution_id)
    return count


async def moved(here: House, execution_id: str) -> list[dict[str, Any]]:
    """Moves the lines, deletes the rows, and answers the events that say so."""
    await here.retention.purge()
    assert not await rows_of(here, execution_id)
    events = (await here.get(f"/executions/{execution_id}/events?limit=1000"))["data"]
    return [one["data"] for one in events if one["type"].startswith("execution.logs_archived")]


async def over_http(here: House, execution_id: str) -> list[Any]:
    """What pages, cursors, filters, text and the execution itself show."""
    path = f"/executions/{execution_id}/logs"
    seen: list[Any] = []
    for filters in ("", "&stream=stderr", "&attempt=2", "&stream=stdout&attempt=1", "&after=3998", "&attempt=3"):
        cursor, lines = "", []
        while True:
            page = await here.get(f"{path}?limit=1000{filters}{cursor}")
            lines += page["data"]
            if not page["pagination"]["has_more"]:
                break
            cursor = f"&cursor={page['pagination']['next_cursor']}"
        assert page["pagination"]["total"] == len(lines)
        seen.append(lines)
    for query in ("limit=7&offset=4010", "limit=3&offset=2&after=4990&stream=stderr", "offset=99999", "after=99999"):
        seen.append(await here.get(f"{path}?{query}"))
    for query in ("tail=9", "tail=1000&stream=stderr", "tail=5&attempt=1", "tail=5&attempt=1&offset=3"):
        seen.append((await here.get(f"{path}?{query}"))["data"])
    for query in ("", "&stream=stderr", "&after=8000", "&attempt=1"):
        seen.append((await here.http.get(f"{path}?format=text{query}")).text)
    shown = await here.get(f"/executions/{execution_id}")
    seen.append([shown["stdout"], shown["stderr"], shown["output_truncated"]])
    return seen


def over_client(address: str, execution_id: str) -> list[Any]:
    """What the client and the command line show, and what followers get from several places on."""
    with Client(address, SECRET) as grid:
        seen: list[Any] = [list(grid.logs(execution_id)), grid.log_tail(execution_id, 11, "stderr")]
        for cursor in (-1, 3_998, 6_999, 10_990, 20_000):
            followed = list(grid.follow(execution_id, cursor))
            assert isinstance(followed[-1], Ended)
            assert followed[-1].last_sequence_number == LONG[-1][0]
            lines = [one.sequence_number for one in followed if isinstance(one, LogLine)]
            assert lines == [number for number, *_ in LONG if number > cursor]
            seen.append(followed)
    for options in (["--tail", "3", "--json"], ["--stderr-only"], ["-f", "--timestamps"]):
        command = [sys.executable, "-m", "rgrid", "logs", *options, execution_id]
        environment = {"RGRID_API_URL": address, "RGRID_API_KEY": SECRET, "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        seen.append((done.stdout, done.stderr))
    return seen


@pytest.mark.parametrize("kind", ["folder", "moto", "swift"])
def test_what_has_moved_is_read_as_before(database: str, tmp_path: Path, kind: str) -> None:
    async def scenario(**changes: Any) -> None:
        async with house(database, tmp_path, **changes) as here:
            printed = LONG if kind == "folder" else SHORT
            one = await here.ran(HOURS, {}, {}, printed=printed)
            before = await over_http(here, one)
            before_there = await asyncio.to_thread(over_client, here.address, one) if kind == "folder" else None
            (event,) = await moved(here, one)
            assert (event["lines"], event["is_whole"]) == (len(printed), True)
            ranges = [(block["first"], block["last"]) for block in event["blocks"]]
            long_ones = [(0, 4_998), (5_000, 6_998), (7_000, 10_998)]
            assert ranges == (long_ones if kind == "folder" else [(0, 99), (100, 199), (200, 299)])
            for block in event["blocks"]:
                content = await here.grid.objects.read_bytes(block["sha256"], 1 << 20)
                assert (sha256(content), len(content)) == (block["sha256"], block["size_bytes"])
            assert await over_http(here, one) == before
            if before_there is not None:
                assert await asyncio.to_thread(over_client, here.address, one) == before_there

    with store(kind) as changes:
        asyncio.run(scenario(**changes))


def test_any_page_of_the_archive_is_that_page_of_the_log(database: str, tmp_path: Path) -> None:
    wanted = st.tuples(
        st.integers(-1, 11_005), st.sampled_from([None, "stdout", "stderr"]), st.sampled_from([None, 1, 2])
    )
    with asyncio.Runner() as runner:
        open_house = house(database, tmp_path)
        here = runner.run(open_house.__aenter__())
        one = runner.run(here.ran(HOURS, {}, {}, printed=LONG))
        runner.run(moved(here, one))
        reader = here.grid.log_reader

        @settings(max_examples=150, deadline=None)
        @for_all(wanted, st.integers(1, 1_001), st.integers(0, 9_000), st.lists(st.integers(0, 12_000), max_size=5))
        def check(filters: tuple[int, Any, Any], limit: int, offset: int, numbers: list[int]) -> None:
            after, stream, attempt = filters
            lines = [
                number
                for number, its_attempt, its_stream, _ in LONG
                if number > after and stream in (None, its_stream) and attempt in (None, its_attempt)
            ]
            query = Wanted(one, after, stream, attempt)
            page = runner.run(reader.page(query, limit, offset))
            assert [row.sequence_number for row in page] == lines[offset : offset + limit]
            assert runner.run(reader.total(query)) == len(lines)
            assert [row.sequence_number for row in runner.run(reader.tail(query, limit))] == lines[-limit:]
            stored = {number for number, *_ in LONG}
            assert runner.run(reader.numbers_stored(one, numbers)) == stored.intersection(numbers)

        try:
            check()
        finally:
            runner.run(open_house.__aexit__(None, None, None))


def test_a_page_in_the_middle_needs_one_block(database: str, tmp_path: Path) -> None:
    long_lines: list[Printed] = [(number, 1, "stdout", "x" * 60_000) for number in range(60)]

    async def scenario() -> None:
        async with house(database, tmp_path) as here:
            one = await here.ran(HOURS, {}, {}, printed=long_lines)
            (event,) = await moved(here, one)
            assert all(block["stdout_bytes"] <= BLOCK_BYTES_MAX for block in event["blocks"])
            assert len(event["blocks"]) > 3
            middle = event["blocks"][2]
            for block in event["blocks"]:
                if block != middle:
                    await here.grid.objects.delete(block["sha256"], 0)
            page = await here.get(f"/executions/{one}/logs?offset={middle['first']}&limit=5")
            assert [line["sequence_number"] for line in page["data"]] == [middle["first"] + n for n in range(5)]
            assert page["pagination"]["total"] == 60
            # A block that is missing is said to be, and no empty page stands for it.
            answer = await here.http.get(f"/executions/{one}/logs")
            assert (answer.status_code, answer.json()["code"]) == (503, "log_damaged")

    asyncio.run(scenario())


def test_readers_see_no_hole_and_no_double_while_lines_move(database: str, tmp_path: Path) -> None:
    attempts = 2 * BLOCKS_MAX + 10
    lines: list[Printed] = [(number, number // 20 + 1, "stdout", f"{number}") for number in range(attempts * 20)]

    async def scenario() -> None:
        async with house(database, tmp_path) as here:
            one = await here.ran(HOURS, {}, {}, printed=lines)
            reads = 0
            is_over = asyncio.Event()

            async def read(draw: random.Random) -> None:
                nonlocal reads
                while not is_over.is_set():
                    after, limit = draw.randrange(-1, len(lines)), draw.randrange(1, 400)
                    page = await here.grid.log_reader.page(Wanted(one, after), limit)
                    numbers = [row.sequence_number for row in page]
                    assert numbers == list(range(after + 1, min(after + 1 + limit, len(lines))))
                    assert await here.grid.log_reader.total(Wanted(one)) == len(lines)
                    assert await here.grid.log_reader.last_sequence(one) == len(lines) - 1
                    tail = await here.grid.log_reader.tail(Wanted(one), limit)
                    assert [row.sequence_number for row in tail] == list(range(len(lines) - limit, len(lines)))
                    reads += 1

            readers = [asyncio.create_task(read(random.Random(seed))) for seed in range(4)]
            while not reads:
                await asyncio.sleep(0.01)
            events = await moved(here, one)
            after_move = reads + 8
            while reads < after_move and not any(task.done() for task in readers):
                await asyncio.sleep(0.01)
            is_over.set()
            await asyncio.gather(*readers)
            assert [event["is_whole"] for event in events] == [False, False, True]
            assert [len(event["blocks"]) for event in events] == [BLOCKS_MAX, BLOCKS_MAX, 10]

    asyncio.run(scenario())


@pytest.mark.parametrize("moment", ["blocks stored", "event recorded"])
def test_a_process_that_is_killed_on_the_way_loses_and_doubles_nothing(
    database: str, tmp_path: Path, moment: str
) -> None:
    async def scenario() -> None:
        async with house(database, tmp_path) as here:
            one = await here.ran(HOURS, {}, {}, printed=SHORT)
            before = await over_http(here, one)
            program = str(Path(__file__).with_name("archiving_process.py"))
            command = [sys.executable, program, database, str(tmp_path), moment]
            environment = {"PYTHONPATH": ":".join(sys.path)}
            done = await asyncio.to_thread(subprocess.run, command, env=environment, timeout=60, capture_output=True)
            assert done.returncode == -signal.SIGKILL, done.stderr
            blocks = await here.grid.pool.fetchval("select count(*) from log_blocks where execution_id = $1", one)
            assert (blocks, await rows_of(here, one)) == (0 if moment == "blocks stored" else 3, len(SHORT))
            assert len([name async for name in here.grid.objects.hashes()]) == 4  # three blocks and the script
            assert await over_http(here, one) == before
            # Some rows are gone already when the next one is killed.
            await here.reached_head()
            await here.retention.archive_logs()
            sql = "delete from rgrid.execution_logs where execution_id = $1 and sequence_number < 100"
            await here.grid.pool.execute(sql, one)
            assert await over_http(here, one) == before
            assert len(await moved(here, one)) == 1
            assert len([name async for name in here.grid.objects.hashes()]) == 4
            assert await over_http(here, one) == before

    asyncio.run(scenario())


def test_archived_lines_expire_like_others_and_let_go_of_their_objects(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(database, tmp_path) as here:
            old = await here.ran(LONG_AGO, {}, {}, printed=LONG)
            before = await here.get(f"/executions/{old}")
            assert len(before["stdout"].encode()) > 100_000
            assert before["output_truncated"]
            position = await here.grid.store.head()
            assert await here.retention.archive_logs() == 3
            assert await here.retention.delete_lines() == len(LONG)
            await here.reached_head()
            blocks = await here.grid.pool.fetch("select sha256 from log_blocks where execution_id = $1", old)
            here.put_long_ago()
            done = await here.retention.purge()
            assert (done.executions_without_lines, done.log_blocks, done.objects) == (1, 0, 3)
            for row in blocks:
                assert not await here.grid.objects.exists(row["sha256"])
            page = await here.get(f"/executions/{old}/logs")
            assert (page["data"], page["pagination"]["total"]) == ([], 0)
            for path in (f"/executions/{old}", f"/executions/{old}?as_of={position}"):
                after = await here.get(path)
                assert [after[name] for name in ("stdout", "stderr", "output_truncated")] == [
                    before[name] for name in ("stdout", "stderr", "output_truncated")
                ]
            assert (await here.retention.purge()).log_blocks == 0

    asyncio.run(scenario())


def test_only_what_ended_long_enough_ago_moves(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(database, tmp_path, logs_archive_after_s=600) as here:
            runs = await here.ran(LONG_AGO, {}, {}, ends=False)
            young = await here.ran(timedelta(minutes=9), {}, {})
            old = await here.ran(timedelta(minutes=11), {}, {})
            assert (await here.retention.purge()).log_blocks == 1
            assert [await rows_of(here, one) for one in (runs, young, old)] == [3, 3, 0]
            again = await here.retention.purge()
            assert again.log_blocks == 0

    asyncio.run(scenario())


def test_a_late_line_is_refused_and_one_that_is_there_is_counted(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(database, tmp_path) as here:
            one = await here.ran(HOURS, {}, {}, printed=LONG)
            await moved(here, one)
            path = f"/executions/{one}/logs/stream"

            def body(*numbers: int) -> str:
                return json.dumps(
                    {"lines": [{"sequence_number": n, "stream": "stdout", "message": "?"} for n in numbers]}
                )

            headers = {"content-type": "application/json"}
            answer = await here.http.post(path, content=body(0, 5_003, LONG[-1][0]), headers=headers)
            assert answer.status_code == 200, answer.text
            said = answer.json()
            assert (said["accepted"], said["duplicates"], said["last_sequence_number"]) == (0, 3, LONG[-1][0])
            for number in (4, 11_000):  # one that was left out, and one behind the last
                answer = await here.http.post(path, content=body(0, number), headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (409, "execution_finished")
            single = {"sequence_number": "8", "stream": "stdout", "message": "?"}
            answer = await here.http.post(path, params=single)
            (line,) = (await here.get(f"/executions/{one}/logs?after=7&limit=1"))["data"]
            assert answer.json()["log_id"] == line["log_id"]
            assert line["message"].startswith("line 8 ")

    asyncio.run(scenario())


def test_lines_behind_the_archive_are_read_with_it(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(database, tmp_path) as here:
            one = await here.ran(HOURS, {}, {}, printed=SHORT)
            whole = await over_http(here, one)
            await moved(here, one)
            # As while a very long log is on its way: the first blocks have moved, the rest are still rows.
            last = SHORT[-1][0]
            sql = "delete from log_blocks where execution_id = $1 and last_sequence = $2"
            await here.grid.pool.execute(sql, one, last)
            async with here.grid.pool.acquire() as connection:
                rows = [
                    (
                        one,
                        line["sequence_number"],
                        line["attempt"],
                        1 + (line["stream"] == "stderr"),
                        moment_of(line),
                        line["message"],
                    )
                    for line in whole[0]
                    if line["sequence_number"] >= 200
                ]
                columns = ["execution_id", "sequence_number", "attempt", "fd", "logged_at", "message"]
                await connection.copy_records_to_table(
                    "execution_logs", schema_name="rgrid", columns=columns, records=rows
                )
            assert await rows_of(here, one) == 100
            assert await over_http(here, one) == whole

    asyncio.run(scenario())
