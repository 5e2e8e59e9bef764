"""The application as a whole: streams, origins of browsers, one log line for each request."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from notes import OPERATIONS
from serving import READER, RUNNER, client

from rgrid.web.access_log import JsonLines
from rgrid.web.exchange import Headers
from rgrid.web.operation import Call, Operation, Reply


def streaming(pieces: Any) -> Operation:
    async def stream(call: Call[Any, Any]) -> Reply:
        return Reply(200, pieces())

    return Operation(method="GET", path="/api/v1/stream", auth="read", handler=stream, ok={200: "sse"})


def test_a_stream_is_sent_as_it_is_made() -> None:
    async def scenario() -> None:
        more = asyncio.Event()

        async def pieces() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            await more.wait()
            yield b"data: 2\n\n"

        async with client(streaming(pieces), headers=READER) as http, http.stream("GET", "/api/v1/stream") as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            arrived = answer.aiter_raw()
            assert await anext(arrived) == b"data: 1\n\n"
            more.set()
            assert await anext(arrived) == b"data: 2\n\n"

    asyncio.run(scenario())


def test_a_stream_ends_when_its_reader_leaves() -> None:
    async def scenario() -> None:
        left = asyncio.Event()

        async def pieces() -> AsyncIterator[bytes]:
            try:
                yield b"data: 1\n\n"
                await asyncio.Event().wait()
            finally:
                left.set()

        async with client(streaming(pieces), headers=READER) as http:
            async with http.stream("GET", "/api/v1/stream") as answer:
                await anext(answer.aiter_raw())
            await left.wait()

    asyncio.run(scenario())


def test_a_stream_that_breaks_is_cut_off_rather_than_ended() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        raise RuntimeError("inside")

    async def scenario() -> None:
        async with client(streaming(pieces), headers=READER) as http:
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get("/api/v1/stream")

    asyncio.run(scenario())


def test_browsers_of_listed_origins_may_call_and_others_get_no_permission() -> None:
    async def scenario() -> None:
        mine, asks = {"Origin": "https://mine.example"}, {"Access-Control-Request-Method": "POST"}
        async with client(*OPERATIONS, cors_origins=frozenset({"https://mine.example"})) as http:
            asked = await http.options(
                "/api/v1/notes", headers=mine | asks | {"Access-Control-Request-Headers": "x-api-key"}
            )
            assert asked.status_code == 204
            assert asked.headers["access-control-allow-origin"] == "https://mine.example"
            assert asked.headers["access-control-allow-headers"] == "x-api-key"
            answered = await http.get("/api/v1/notes", headers=mine | READER)
            assert answered.headers["access-control-allow-origin"] == "https://mine.example"
            assert "access-control-allow-credentials" not in answered.headers
            refused = await http.get("/api/v1/notes", headers=mine)
            assert (refused.status_code, refused.headers["vary"]) == (401, "Origin")
            other = await http.get("/api/v1/notes", headers=READER | {"Origin": "https://other.example"})
            assert "access-control-allow-origin" not in other.headers
            assert (await http.options("/api/v1/notes", headers=READER)).status_code == 405
        async with client(*OPERATIONS) as http:
            assert "access-control-allow-origin" not in (await http.get("/", headers=mine)).headers

    asyncio.run(scenario())


def test_each_request_is_one_json_line(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with client(*OPERATIONS) as http:
            await http.post("/api/v1/notes", headers=RUNNER | {"X-Request-ID": "mine"}, json={"title": "a"})
            await http.get("/api/v1/nothing")

    with caplog.at_level(logging.INFO, "rgrid.access"):
        asyncio.run(scenario())
    first, second = [json.loads(JsonLines().format(each)) for each in caplog.records if each.name == "rgrid.access"]
    assert {name: first[name] for name in ("request_id", "actor", "method", "route", "status", "client")} == {
        "request_id": "mine", "actor": "key:u", "method": "POST", "route": "/api/v1/notes", "status": 201,
        "client": "127.0.0.1",
    }  # fmt: skip
    assert isinstance(first["ms"], int)
    assert (second["actor"], second["route"], second["status"]) == (None, "unmatched", 401)


def test_a_trailing_slash_and_a_fixed_segment_lead_where_they_should() -> None:
    async def scenario() -> None:
        async with client(*OPERATIONS, headers=READER) as http:
            assert (await http.get("/api/v1/notes/fixed/")).json()["message"] == "the fixed segment"
            assert (await http.get("/api/v1/notes/note_9/")).json()["id"] == "note_9"

    asyncio.run(scenario())


def test_many_requests_at_once_each_get_their_own_answer() -> None:
    async def scenario() -> None:
        async with client(*OPERATIONS, headers=READER) as http:
            answers = await asyncio.gather(*(http.get(f"/api/v1/notes/note_{n}") for n in range(100)))
            assert [answer.json()["id"] for answer in answers] == [f"note_{n}" for n in range(100)]
            assert len({answer.headers["x-request-id"] for answer in answers}) == 100

    asyncio.run(scenario())


def test_a_header_that_comes_several_times_is_one_list() -> None:
    headers = Headers([(b"if-none-match", b'"1"'), (b"accept", b"a"), (b"if-none-match", b'"4"')])
    assert headers["if-none-match"] == '"1", "4"'
    assert (headers.get("accept"), headers.get("cookie"), len(headers)) == ("a", None, 2)
    assert "accept" in headers
    assert sorted(headers) == ["accept", "if-none-match"]
