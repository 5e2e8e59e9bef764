"""Floods: more lines, followers and files than a script should make. Nothing is lost, and the service goes on."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from api.one_service import KEY, Live
from websockets.asyncio.client import connect

FOLLOWERS = 100
LINES = 300
FLOOD_LINES = 100_000
KEPT_FILES = 1_000
MADE_FILES = 100_000
IN_A_FOLDER = 2_000


@contextmanager
def asking(live: Live) -> Iterator[list[int]]:
    """Somebody who goes on asking the service while the block runs: the statuses of the answers."""
    over = threading.Event()
    statuses: list[int] = []

    def ask() -> None:
        while not over.wait(0.05):
            statuses.append(live.call("GET", "/api/v1/executions?limit=5", KEY).status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield statuses
    finally:
        over.set()
        thread.join(30)


def test_a_script_that_prints_as_fast_as_it_can_loses_no_line(live: Live) -> None:
    script = f"for n in range({FLOOD_LINES}): print('line', n, 'x' * 40)"
    with asking(live) as statuses:
        ended = live.run(script)
    assert ended["status"] == "completed"
    assert set(statuses) == {200}
    path = f"/api/v1/executions/{ended['execution_id']}/logs"
    assert live.page(path, limit=1)["pagination"]["total"] == FLOOD_LINES
    text = live.http.get(path, params={"format": "text"}).text.splitlines()
    assert text == [f"line {n} {'x' * 40}" for n in range(FLOOD_LINES)]


async def follow(live: Live, execution_id: str, query: str = "", reads_after_s: float = 0) -> list[dict[str, Any]]:
    """Every frame until the close."""
    address = f"ws{live.url[4:]}/ws/executions/{execution_id}/logs{query}"
    headers = {"Authorization": f"Bearer {KEY}"}
    async with connect(address, additional_headers=headers, compression=None, max_size=None) as socket:
        await asyncio.sleep(reads_after_s)
        return [msgspec.json.decode(text) async for text in socket]


def test_a_hundred_followers_see_every_line_once_and_in_order(live: Live) -> None:
    """Those who come first, late, only for one stream, or read slowly, see the same."""
    script = (
        "import sys, time\n"
        f"for n in range({LINES}):\n"
        "    print(n, file=sys.stderr if n % 3 == 0 else sys.stdout, flush=True)\n"
        "    if n % 10 == 0: time.sleep(0.1)\n"
    )
    execution_id = live.submit(script)["execution_id"]

    async def late() -> list[dict[str, Any]]:
        await asyncio.sleep(1)
        return await follow(live, execution_id, "?cursor=9")

    async def all_of_them() -> list[list[dict[str, Any]]]:
        everybody = [follow(live, execution_id) for _ in range(FOLLOWERS)]
        others = [late(), follow(live, execution_id, "?stream=stderr"), follow(live, execution_id, reads_after_s=2)]
        return list(await asyncio.gather(*everybody, *others))

    *everybody, late_one, one_stream, slow = asyncio.run(all_of_them())
    rows = live.page(f"/api/v1/executions/{execution_id}/logs", limit=1000)["data"]
    assert len(rows) == LINES
    for seen, expected in [
        *((seen, rows) for seen in [*everybody, slow]),
        (late_one, rows[10:]),
        (one_stream, [row for row in rows if row["stream"] == "stderr"]),
    ]:
        assert [frame for frame in seen if frame["type"] == "log"] == [{"type": "log", **row} for row in expected]
        assert [frame["status"] for frame in seen if frame["type"] == "status"][-1] == "running"
        assert (seen[-1]["type"], seen[-1]["last_sequence_number"]) == ("complete", LINES - 1)


def test_followers_of_a_flood_who_cannot_keep_up_still_get_every_line(live: Live) -> None:
    count = 20_000
    execution_id = live.submit(f"import time; time.sleep(0.5)\nfor n in range({count}): print(n)")["execution_id"]

    async def some() -> list[list[dict[str, Any]]]:
        return list(await asyncio.gather(*(follow(live, execution_id, reads_after_s=wait) for wait in (0, 0, 1.5))))

    for seen in asyncio.run(some()):
        numbers = [frame["sequence_number"] for frame in seen if frame["type"] == "log"]
        assert numbers == list(range(count))
        assert seen[-1]["type"] == "complete"


def test_a_script_that_leaves_a_flood_of_files_ends_with_what_the_limits_allow(live: Live) -> None:
    script = (
        "import os\n"
        f"for n in range({MADE_FILES}):\n"
        f"    folder = f'd{{n // {IN_A_FOLDER}:02d}}'\n"
        f"    if n % {IN_A_FOLDER} == 0: os.mkdir(folder)\n"
        "    file = os.open(f'{folder}/f{n:06d}', os.O_CREAT | os.O_WRONLY)\n"
        f"    if n <= {KEPT_FILES}: os.write(file, str(n).encode())\n"
        "    os.close(file)\n"
        "print('made')\n"
    )
    with asking(live) as statuses:
        ended = live.run(script)
    assert (ended["status"], ended["stdout"]) == ("completed", "made\n")
    assert set(statuses) == {200}
    listed = live.page(f"/api/v1/executions/{ended['execution_id']}/artifacts", limit=1)
    assert listed["pagination"]["total"] == KEPT_FILES
    dropped = ended["execution_metadata"]["outputs_dropped"]
    assert dropped.startswith(f"d00/f{KEPT_FILES:06d}, ")
    named = dropped.count("/f")
    assert dropped.endswith(f" and {MADE_FILES - KEPT_FILES - named} more")
    # Nothing of it is left in the way of the next one.
    assert live.run("print(2)")["stdout"] == "2\n"
