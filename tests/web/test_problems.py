"""Errors over a real server: every one is a problem document with all members, whoever raised it."""

import asyncio
import logging
from typing import Any

import httpx
import pytest
from notes import OPERATIONS
from serving import ADMIN, READER, RUNNER, client

from rgrid.kernel.errors import (
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    Malformed,
    NotFound,
    RateLimited,
    Rejected,
    RgridError,
    SpendingLimit,
    StaleVersion,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from rgrid.web.operation import ActionResponse, Call, Operation, Reply, Streamed
from rgrid.web.problems import problem, status_of

MEMBERS = ["type", "title", "status", "detail", "instance", "code", "errors", "request_id"]


def check(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Whether it is a whole problem document."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert list(found)[:8] == MEMBERS
    assert found["code"] == code
    assert found["type"] == f"https://rgrid.dev/problems/{code}"
    assert found["status"] == status
    assert found["request_id"] == response.headers["x-request-id"]
    assert found["detail"]
    return found


def request(method: str, path: str, **given: Any) -> httpx.Response:
    async def scenario() -> httpx.Response:
        async with client(*OPERATIONS) as http:
            return await http.request(method, path, **given)

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Malformed("x"), 422), (Invalid("x"), 400), (Rejected("x"), 409), (NotFound("x"), 404), (Gone("x"), 410),
        (Conflict("x"), 409), (StaleVersion("x"), 412), (Unauthenticated("x"), 401), (Forbidden("x"), 403),
        (TooLarge("x"), 413), (SpendingLimit("x"), 402), (RateLimited("x", retry_after_s=2), 429),
        (Unavailable("x"), 503), (RgridError("x"), 500),
    ],
)  # fmt: skip
def test_each_kind_of_error_has_its_status(error: RgridError, status: int) -> None:
    assert status_of(error) == status


def test_every_error_of_the_kernel_has_a_status_of_its_own() -> None:
    assert [kind for kind in RgridError.__subclasses__() if status_of(kind.__new__(kind)) == 500] == []


def test_extra_members_come_last_and_hide_none_of_the_standard_ones() -> None:
    error = Rejected("No.", extra={"current_status": "completed", "status": "x"})
    answer = problem(error, "/api/v1/x", "r1")
    assert answer.body.endswith(b'"request_id":"r1","current_status":"completed"}')
    assert b'"status":409' in answer.body


def test_an_unknown_path_a_wrong_method_and_a_missing_thing_are_problems() -> None:
    found = check(request("GET", "/api/v1/nothing", headers=READER), 404, "not_found")
    assert found["instance"] == "/api/v1/nothing"
    refused = request("DELETE", "/api/v1/notes", headers=READER)
    check(refused, 405, "method_not_allowed")
    assert refused.headers["allow"] == "GET, HEAD, POST"
    assert check(request("GET", "/api/v1/notes/x", headers=READER), 404, "not_found")["detail"] == "Note not found: x"
    check(request("GET", "/docs/nothing"), 404, "not_found")
    check(request("GET", "/api/v1/notes/note_%00", headers=READER), 404, "not_found")


def test_an_unforeseen_exception_says_nothing_about_the_inside(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "rgrid.web"):
        response = request("GET", "/api/v1/broken", headers=READER)
    check(response, 500, "internal")
    assert "secret" not in response.text
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.fields["request_id"] == response.headers["x-request-id"]  # type: ignore[attr-defined]


def test_a_database_that_is_away_is_a_503() -> None:
    async def gone(call: Call[Any, Any]) -> Reply:
        raise ConnectionRefusedError("socket /secret/place")

    async def scenario() -> httpx.Response:
        operation = Operation(method="GET", path="/x", auth="read", handler=gone, ok={200: ActionResponse})
        async with client(operation, headers=READER) as http:
            return await http.get("/x")

    response = asyncio.run(scenario())
    check(response, 503, "database_unavailable")
    assert response.headers["retry-after"] == "1"
    assert "secret" not in response.text


def test_wrong_bodies_are_told_apart() -> None:
    json = {"content-type": "application/json"}
    check(request("POST", "/api/v1/notes", headers=RUNNER | json, content=b"{"), 400, "malformed_json")
    check(request("POST", "/api/v1/notes", headers=RUNNER, content=b"{}"), 415, "unsupported_media_type")
    check(request("POST", "/api/v1/notes", headers=RUNNER), 422, "validation_failed")
    found = check(request("POST", "/api/v1/notes", headers=RUNNER, json={"stars": 9, "x": 1}), 422, "validation_failed")
    assert [error["field"] for error in found["errors"]] == ["title", "stars", "x"]


def test_wrong_parameters_and_a_wrong_body_are_listed_together() -> None:
    found = check(request("POST", "/api/v1/notes?x=1", headers=RUNNER, json={"stars": 9}), 422, "unknown_parameter")
    assert [error["field"] for error in found["errors"]] == ["query.x", "title", "stars"]


def test_a_body_over_the_limit_is_refused_with_and_without_a_declared_length() -> None:
    async def pieces() -> Any:
        for _ in range(40):
            yield b"x" * 1024

    async def scenario() -> None:
        async with client(*OPERATIONS, headers=RUNNER, body_max_bytes=10_000) as http:
            declared = await http.post("/api/v1/notes", content=b"x" * 20_000)
            check(declared, 413, "body_too_large")
            assert declared.headers["connection"] == "close"
            check(await http.post("/api/v1/notes", content=pieces()), 413, "body_too_large")
            fits = await http.post("/api/v1/notes", json={"title": "a", "params": {"x": "y" * 9000}})
            assert fits.status_code == 201

    asyncio.run(scenario())


def test_a_large_upload_that_is_refused_still_reads_its_answer() -> None:
    async def scenario() -> None:
        async with client(*OPERATIONS, headers=RUNNER) as http:
            check(await http.post("/api/v1/notes", content=b"x" * (20 << 20)), 413, "body_too_large")

    asyncio.run(scenario())


def test_an_upload_is_streamed_and_bounded() -> None:
    async def take(call: Call[Any, Any]) -> Reply:
        assert call.receive_stream is not None
        size = 0
        async for piece in call.receive_stream():
            size += len(piece)
        return Reply(200, ActionResponse(id="1", status="ok", message=str(size)))

    async def scenario() -> None:
        operation = Operation(
            method="PUT", path="/objects/{name}", auth="open", handler=take, body=Streamed, body_max_bytes=3 << 20,
            ok={200: ActionResponse},
        )  # fmt: skip
        async with client(operation) as http:
            taken = await http.put("/objects/a", content=b"x" * (2 << 20))
            assert taken.json()["message"] == str(2 << 20)
            check(await http.put("/objects/a", content=b"x" * (4 << 20)), 413, "body_too_large")

    asyncio.run(scenario())


def test_the_request_id_of_the_caller_is_kept_when_it_is_one() -> None:
    mine = request("GET", "/", headers={"X-Request-ID": "a.b-C_9"})
    assert mine.headers["x-request-id"] == "a.b-C_9"
    for bad in ("a b", "x" * 129, "é"):
        made = request("GET", "/", headers={"X-Request-ID": bad.encode()})  # type: ignore[dict-item]
        assert len(made.headers["x-request-id"]) == 26


def test_every_answer_forbids_sniffing_and_storing() -> None:
    for response in (request("GET", "/"), request("GET", "/api/v1/x"), request("GET", "/api/v1/me", headers=ADMIN)):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
