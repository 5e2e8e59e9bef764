"""ETag, If-None-Match, If-Match, positions in headers."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from notes import OPERATIONS, Note
from serving import READER, RUNNER, client
from test_problems import check

from rgrid.kernel.errors import Invalid, StaleVersion, Unavailable
from rgrid.web.conditional import ANY_VERSION, AsOf, check_if_match, if_match_version, not_modified, parse_as_of
from rgrid.web.operation import ActionResponse, Call, Operation, Reply


def test_a_resource_that_the_client_holds_is_not_sent_again() -> None:
    async def scenario() -> None:
        async with client(*OPERATIONS, headers=READER) as http:
            fresh = await http.get("/api/v1/notes/note_1")
            assert (fresh.status_code, fresh.headers["etag"]) == (200, '"4"')
            for header in ('"4"', 'W/"4"', '"1", "4"', "*"):
                held = await http.get("/api/v1/notes/note_1", headers={"If-None-Match": header})
                assert (held.status_code, held.content, held.headers["etag"]) == (304, b"", '"4"')
            assert (await http.get("/api/v1/notes/note_1", headers={"If-None-Match": '"5"'})).status_code == 200

    asyncio.run(scenario())


def test_head_is_get_without_a_body() -> None:
    async def scenario() -> tuple[httpx.Response, httpx.Response]:
        async with client(*OPERATIONS, headers=READER) as http:
            return await http.get("/api/v1/notes/note_1"), await http.head("/api/v1/notes/note_1")

    got, head = asyncio.run(scenario())
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.content))


@pytest.mark.parametrize(("header", "version"), [(None, None), ("*", ANY_VERSION), ('"0"', 0), (' "12" ', 12)])
def test_if_match_names_a_version(header: str | None, version: int | None) -> None:
    assert if_match_version(header) == version


@pytest.mark.parametrize("header", ['"abc"', 'W/"3"', '"1", "2"', '"99999999999999999999"'])
def test_a_tag_that_no_version_has_matches_nothing(header: str) -> None:
    with pytest.raises(StaleVersion):
        if_match_version(header)


@pytest.mark.parametrize("header", ["3", "", '"3', "é"])
def test_an_if_match_that_is_no_tag_makes_no_sense(header: str) -> None:
    with pytest.raises(Invalid):
        if_match_version(header)


def test_only_the_named_version_passes() -> None:
    check_if_match(None, 3)
    check_if_match(ANY_VERSION, 3)
    check_if_match(3, 3)
    with pytest.raises(StaleVersion):
        check_if_match(2, 3)
    assert not not_modified(None, '"3"')


def test_as_of_is_a_position_or_a_time_that_has_been() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    assert parse_as_of("17", at) == AsOf(position=17)
    assert parse_as_of("2026-01-01", at) == AsOf(moment=at - timedelta(days=1))
    for text, code in (("2026-01-03", "as_of_out_of_range"), ("-1", "invalid_as_of"), ("", "invalid_as_of")):
        with pytest.raises(Invalid) as caught:
            parse_as_of(text, at)
        assert caught.value.code == code


def test_if_match_and_create_only_reach_the_handler() -> None:
    async def put(call: Call[Any, Any]) -> Reply:
        check_if_match(call.if_match, 7)
        return Reply(200, ActionResponse(id="1", status=str(call.create_only), message=""), position=9)

    async def scenario() -> None:
        operation = Operation(method="PUT", path="/api/v1/x/{name}", auth="run", handler=put,
                              ok={200: ActionResponse}, flags=frozenset({"if_match", "mutates"}))  # fmt: skip
        async with client(operation, headers=RUNNER) as http:
            written = await http.put("/api/v1/x/a", headers={"If-Match": '"7"'})
            assert (written.status_code, written.headers["rgrid-position"]) == (200, "9")
            check(await http.put("/api/v1/x/a", headers={"If-Match": '"6"'}), 412, "version_mismatch")
            check(await http.put("/api/v1/x/a", headers={"If-Match": "6"}), 400, "invalid_if_match")
            assert (await http.put("/api/v1/x/a", headers={"If-None-Match": "*"})).json()["status"] == "True"

    asyncio.run(scenario())


def test_a_get_waits_for_the_position_that_the_caller_names() -> None:
    asked: list[int] = []

    async def reached(position: int) -> None:
        asked.append(position)
        if position > 10:
            raise Unavailable("The read side is behind.", code="position_not_reached", retry_after_s=1)

    async def get(call: Call[Any, Any]) -> Reply:
        return Reply(200, Note(id="note_1", title=str(call.min_position), version=1))

    async def scenario() -> None:
        operation = Operation(method="GET", path="/api/v1/x", auth="read", handler=get, ok={200: Note})
        async with client(operation, headers=READER, reached=reached) as http:
            assert (await http.get("/api/v1/x", headers={"Rgrid-Min-Position": "10"})).json()["title"] == "10"
            late = await http.get("/api/v1/x", headers={"Rgrid-Min-Position": "11"})
            check(late, 503, "position_not_reached")
            assert late.headers["retry-after"] == "1"
            check(await http.get("/api/v1/x", headers={"Rgrid-Min-Position": "-1"}), 422, "validation_failed")

    asyncio.run(scenario())
    assert asked == [10, 11]
