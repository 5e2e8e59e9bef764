"""WebSocket sessions with a real client: frames, heartbeats, close codes, a reader that doesn't read."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
import websockets
from serving import KEYS, known, running, site
from websockets.asyncio.client import ClientConnection, connect

from rgrid.kernel.errors import Forbidden, Malformed, NotFound, RgridError
from rgrid.web.decoding import QueryDecoder, split_query
from rgrid.web.live import Bounds, Sockets, Talk, caller_of, converse
from rgrid.web.principal import Principal, check_scope
from rgrid.web.server import build


class Line(msgspec.Struct, tag_field="type", tag="log"):
    number: int
    message: str = ""


class Beat(msgspec.Struct, tag_field="type", tag="heartbeat"):
    last: int


class Fault(msgspec.Struct, tag_field="type", tag="error"):
    code: str


class Where(msgspec.Struct, frozen=True):
    cursor: int = -1
    token: str | None = None


QUERY = QueryDecoder(Where)
Frames = Callable[[int], AsyncIterator[Any]]
READER = {"Authorization": "Bearer reader"}


async def redeem(ticket: str) -> Principal | None:
    return KEYS["reader"] if ticket == "ticket-1" else None


@asynccontextmanager
async def talking(
    frames: Frames, bounds: Bounds | None = None, valid: Callable[[], Awaitable[bool]] | None = None
) -> AsyncIterator[tuple[str, Sockets]]:
    """The address of a WebSocket that talks `frames`."""
    sockets = Sockets()

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        async def open_talk() -> Talk:
            (where,) = QUERY.decode(split_query(scope["query_string"]))
            check_scope(await caller_of(scope, known, redeem, where.token), "read")
            if scope["path_params"]["name"] == "nothing":
                raise NotFound("No such thing.")
            return Talk(frames(where.cursor), lambda: Beat(last=7), valid)

        await converse(receive, send, open_talk, lambda error: Fault(code=error.code), sockets, bounds or Bounds())

    async with running(build([], site(), {"/ws/things/{name}/lines": serve})) as address:
        yield address.replace("http", "ws") + "/ws/things/a/lines", sockets


async def until_closed(client: ClientConnection) -> tuple[list[dict[str, Any]], int]:
    """Every frame, and the close code."""
    frames: list[dict[str, Any]] = []
    try:
        while True:
            frames.append(msgspec.json.decode(await client.recv()))
    except websockets.ConnectionClosed as closed:
        assert closed.rcvd is not None
        return frames, closed.rcvd.code


async def ten(cursor: int) -> AsyncIterator[Line]:
    for number in range(cursor + 1, 10):
        yield Line(number)


async def for_ever(cursor: int) -> AsyncIterator[Line]:
    await asyncio.Event().wait()
    yield Line(0)


def test_frames_come_in_order_and_the_end_closes_with_1000() -> None:
    async def scenario() -> None:
        async with talking(ten) as (address, sockets):
            async with connect(address + "?cursor=6", additional_headers=READER) as client:
                frames, code = await until_closed(client)
            assert [frame["number"] for frame in frames] == [7, 8, 9]
            assert code == 1000
            async with connect(address + "/?token=ticket-1") as client:
                assert (await until_closed(client))[1] == 1000
            assert len(sockets) == 0

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "headers", "code", "why"),
    [
        ("", {}, 4401, "credentials_missing"),
        ("", {"Authorization": "Bearer nobody"}, 4401, "credentials_invalid"),
        ("?token=used", {}, 4401, "credentials_invalid"),
        ("?token=reader", {}, 4401, "credentials_invalid"),
        ("", {"Authorization": "Bearer lease"}, 4403, "scope_missing"),
        ("?cursor=x", READER, 4400, "validation_failed"),
        ("?colour=red", READER, 4400, "unknown_parameter"),
    ],
)
def test_a_refusal_is_accepted_then_said_then_closed(path: str, headers: dict[str, str], code: int, why: str) -> None:
    async def scenario() -> None:
        async with talking(ten) as (address, _), connect(address + path, additional_headers=headers) as client:
            assert await until_closed(client) == ([{"type": "error", "code": why}], code)

    asyncio.run(scenario())


def test_what_is_not_there_closes_with_4404() -> None:
    async def scenario() -> None:
        async with talking(ten) as (address, _):
            async with connect(address.replace("/a/", "/nothing/"), additional_headers=READER) as client:
                assert (await until_closed(client))[1] == 4404
            async with connect(address + "/beyond") as client:
                assert await until_closed(client) == ([], 4404)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "code"),
    [(NotFound("gone"), 4404), (Forbidden("no"), 4403), (Malformed("x"), 4400), (RuntimeError(), 1011)],
)
def test_an_error_in_the_middle_closes_with_its_code(error: Exception, code: int) -> None:
    async def failing(cursor: int) -> AsyncIterator[Line]:
        yield Line(0)
        await asyncio.sleep(0.05)
        raise error

    async def scenario() -> None:
        async with talking(failing) as (address, _), connect(address, additional_headers=READER) as client:
            frames, closed = await until_closed(client)
            assert closed == code
            assert frames[0] == {"type": "log", "number": 0, "message": ""}
            assert frames[1:] == ([{"type": "error", "code": error.code}] if isinstance(error, RgridError) else [])

    asyncio.run(scenario())


def test_silence_is_broken_by_heartbeats() -> None:
    async def scenario() -> None:
        bounds = Bounds(heartbeat_s=0.05)
        async with talking(for_ever, bounds) as (address, _), connect(address, additional_headers=READER) as client:
            for _ in range(3):
                assert msgspec.json.decode(await client.recv()) == {"type": "heartbeat", "last": 7}

    asyncio.run(scenario())


def test_what_the_client_says_is_ignored_unless_it_is_large() -> None:
    async def scenario() -> None:
        async with talking(for_ever) as (address, _), connect(address, additional_headers=READER) as client:
            await client.send("x" * 4096)
            await client.send(b"y" * 4096)
            await client.send("z" * 4097)
            assert await until_closed(client) == ([], 1009)

    asyncio.run(scenario())


def test_a_client_that_does_not_read_is_closed_with_1013_and_costs_little() -> None:
    made = 0
    given_up = asyncio.Event()

    async def endless(cursor: int) -> AsyncIterator[Line]:
        nonlocal made
        try:
            while True:
                made += 1
                yield Line(made, "x" * 100_000)
        finally:
            given_up.set()

    async def scenario() -> None:
        bounds = Bounds(stalled_s=0.5, frames_max=20)
        async with talking(endless, bounds) as (address, _):
            async with connect(address, additional_headers=READER, max_queue=1, compression=None) as client:
                await given_up.wait()
                assert made < 1000
                frames, code = await until_closed(client)
            assert code == 1013
            assert [frame["number"] for frame in frames] == list(range(1, len(frames) + 1))

    asyncio.run(scenario())


def test_a_reader_that_is_slow_but_reads_is_not_closed() -> None:
    async def many(cursor: int) -> AsyncIterator[Line]:
        for number in range(400):
            yield Line(number, "x" * 20_000)

    async def scenario() -> None:
        bounds = Bounds(stalled_s=5, frames_max=5)
        async with talking(many, bounds) as (address, _):
            async with connect(address, additional_headers=READER, max_queue=1, compression=None) as client:
                numbers = []
                for _ in range(400):
                    numbers.append(msgspec.json.decode(await client.recv())["number"])
                    await asyncio.sleep(0.002)
                assert await until_closed(client) == ([], 1000)
            assert numbers == list(range(400))

    asyncio.run(scenario())


def test_a_caller_whose_key_was_revoked_is_closed_with_4401() -> None:
    answers = [True, False]

    async def valid() -> bool:
        return answers.pop(0)

    async def scenario() -> None:
        bounds = Bounds(recheck_s=0.05)
        async with (
            talking(for_ever, bounds, valid) as (address, _),
            connect(address, additional_headers=READER) as client,
        ):
            assert await until_closed(client) == ([{"type": "error", "code": "credentials_invalid"}], 4401)

    asyncio.run(scenario())


def test_a_stopping_service_closes_every_session_with_1001() -> None:
    async def scenario() -> None:
        async with (
            talking(for_ever) as (address, sockets),
            connect(address, additional_headers=READER) as one,
            connect(address, additional_headers=READER) as two,
        ):
            while len(sockets) < 2:
                await asyncio.sleep(0.01)
            await sockets.close_all()
            assert [await until_closed(each) for each in (one, two)] == [([], 1001)] * 2

    asyncio.run(scenario())


def test_the_source_is_closed_when_the_client_leaves() -> None:
    left = asyncio.Event()

    async def watched(cursor: int) -> AsyncIterator[Line]:
        try:
            yield Line(0)
            await asyncio.Event().wait()
        finally:
            left.set()

    async def scenario() -> None:
        async with talking(watched) as (address, _):
            async with connect(address, additional_headers=READER) as client:
                await client.recv()
            await left.wait()

    asyncio.run(scenario())


def test_plain_http_on_a_websocket_path_is_a_problem() -> None:
    async def scenario() -> None:
        async with talking(ten) as (address, _), httpx.AsyncClient() as http:
            plain = address.replace("ws:", "http:")
            assert (await http.get(plain)).status_code == 401
            assert (await http.get(plain, headers=READER)).json()["code"] == "not_found"

    asyncio.run(scenario())
