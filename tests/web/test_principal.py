"""Who may do what, over a real server."""

import asyncio
from typing import Any

import httpx
import pytest
from notes import OPERATIONS
from serving import ADMIN, READER, RUNNER, client
from test_problems import check

from rgrid.web.principal import is_open
from rgrid.web.rate_limit import RateLimiter


def request(method: str, path: str, **given: Any) -> httpx.Response:
    async def scenario() -> httpx.Response:
        async with client(*OPERATIONS) as http:
            return await http.request(method, path, **given)

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer reader"}, {"authorization": "bEaReR   reader"}, {"X-API-Key": "reader"},
        {"Authorization": "Bearer reader", "X-API-Key": "reader"},
    ],
)  # fmt: skip
def test_a_key_is_taken_from_either_header(headers: dict[str, str]) -> None:
    assert request("GET", "/api/v1/notes", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "credentials_missing"),
        ({"Authorization": "Basic cmVhZGVy"}, "credentials_malformed"),
        ({"Authorization": "Bearer"}, "credentials_malformed"),
        ({"Authorization": "Bearer a b"}, "credentials_malformed"),
        ({"X-API-Key": ""}, "credentials_malformed"),
        ({"Authorization": "Bearer nobody"}, "credentials_invalid"),
    ],
)
def test_credentials_that_do_not_count_are_a_401(headers: dict[str, str], code: str) -> None:
    response = request("GET", "/api/v1/notes", headers=headers)
    check(response, 401, code)
    assert response.headers["www-authenticate"] == 'Bearer realm="rgrid"'


def test_two_different_credentials_are_a_400_and_a_key_in_the_query_does_not_count() -> None:
    both = request("GET", "/api/v1/notes", headers=READER | {"X-API-Key": "runner"})
    check(both, 400, "conflicting_credentials")
    check(request("GET", "/api/v1/notes?api_key=reader&token=reader"), 401, "credentials_missing")


def test_scopes_nest_and_are_checked_before_anything_is_looked_at() -> None:
    assert request("GET", "/api/v1/notes", headers=ADMIN).status_code == 200
    assert request("POST", "/api/v1/notes", headers=ADMIN, json={"title": "a"}).status_code == 201
    refused = check(request("POST", "/api/v1/notes", headers=READER, content=b"{"), 403, "scope_missing")
    assert "run" in refused["detail"]
    check(request("POST", "/api/v1/keys", headers=RUNNER), 403, "scope_missing")


def test_a_lease_token_opens_its_own_kind_of_operation_only() -> None:
    lease = {"Authorization": "Bearer lease"}
    assert request("POST", "/api/v1/lines", headers=lease).status_code == 200
    assert request("POST", "/api/v1/lines", headers=ADMIN).status_code == 200
    check(request("POST", "/api/v1/lines", headers=RUNNER), 403, "scope_missing")
    check(request("GET", "/api/v1/notes", headers=lease), 403, "scope_missing")


def test_an_unknown_path_or_method_asks_for_credentials_first() -> None:
    check(request("GET", "/api/v1/nothing"), 401, "credentials_missing")
    check(request("PATCH", "/api/v1/notes"), 401, "credentials_missing")
    check(request("GET", "/elsewhere"), 401, "credentials_missing")


@pytest.mark.parametrize(
    "path", ["/", "/api/v1/health", "/api/v1/health/live", "/schema/openapi.json", "/docs", "/docs/"]
)
def test_open_paths_need_no_credentials_and_ignore_bad_ones(path: str) -> None:
    assert request("GET", path).status_code == 200
    assert request("GET", path, headers={"Authorization": "nonsense"}).status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/healthz", "/docsx", "/schemas", "/x/docs", "/api/v1/health-x", "/api/v1"])
def test_open_paths_match_on_whole_segments(path: str) -> None:
    assert not is_open(path)


def test_each_caller_has_a_bucket_and_sees_what_is_left() -> None:
    async def scenario() -> None:
        limiter = RateLimiter(rate=1, burst=3, clock=lambda: 0.0)
        async with client(*OPERATIONS, limiter=limiter) as http:
            left = [(await http.get("/api/v1/notes", headers=READER)).headers["ratelimit-remaining"] for _ in range(3)]
            assert left == ["2", "1", "0"]
            refused = await http.get("/api/v1/notes", headers=READER)
            check(refused, 429, "rate_limited")
            assert refused.headers["retry-after"] == "1"
            assert refused.headers["ratelimit-limit"] == "3"
            assert refused.headers["ratelimit-reset"] == "3"
            other = await http.post("/api/v1/notes", headers=RUNNER, json={})
            assert (other.status_code, other.headers["ratelimit-remaining"]) == (422, "2")
            assert "ratelimit-limit" not in (await http.get("/api/v1/health")).headers

    asyncio.run(scenario())


def test_a_bucket_fills_again_up_to_its_burst() -> None:
    at = [0.0]
    limiter = RateLimiter(rate=10, burst=2, clock=lambda: at[0])
    assert [limiter.take("a")[1] is None for _ in range(3)] == [True, True, False]
    at[0] = 0.1
    assert [limiter.take("a")[1] is None for _ in range(2)] == [True, False]
    at[0] = 100.0
    assert [limiter.take("a")[1] is None for _ in range(3)] == [True, True, False]
