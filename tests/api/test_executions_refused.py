"""Requests about executions that must be refused: each with a whole problem document, none with a 500."""

import json
import socket
from typing import Any

import httpx
import pytest
from api.one_service import JSON, Live, fields, problem

HUGE = "9" * 400
ODD_IDS = [
    "nonsense",
    "exec_",
    "exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X",
    "art_01JB2Z4M7K8P9Q0R1S2T3V4W5X",
    "exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X01JB2Z4M7K8P9Q0R1S2T3V4W5X",
    "EXEC_01JB2Z4M7K8P9Q0R1S2T3V4W5X",
    "exec_01jb2z4m7k8p9q0r1s2t3v4w5x",
    "%00",
    "exec_%00",
    "%F0%9F%8E%89",
    "%FF%FE",
    "..%2F..%2Fetc%2Fpasswd",
    "%2e%2e",
    "exec_" + "0" * 10_000,
    "'; drop table executions; --",
    "%0d%0aSet-Cookie:x=1",
    "null",
    "-1",
]
SUBS = [
    ("GET", ""),
    ("POST", "/cancel"),
    ("POST", "/retry"),
    ("GET", "/inputs"),
    ("POST", "/inputs/complete"),
    ("GET", "/artifacts"),
    ("GET", "/logs"),
    ("GET", "/events"),
    ("POST", "/logs/stream?sequence_number=1&stream=stdout&message=x"),
]


@pytest.mark.parametrize("odd", ODD_IDS, ids=range(len(ODD_IDS)))
def test_an_execution_that_is_not_there_is_404_on_every_path(live: Live, odd: str) -> None:
    for method, sub in SUBS:
        answer = live.http.request(method, f"/api/v1/executions/{odd}{sub}")
        assert answer.status_code in (404, 405), f"{method} {sub}: {answer.status_code}"
        body = answer.json()
        assert body["status"] == answer.status_code
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.content) < 32_768


def test_a_problem_has_every_field_and_one_sentence(live: Live) -> None:
    path = "/api/v1/executions/exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X"
    answer = live.http.get(path, headers={"x-request-id": "my.request-1"})
    assert answer.json() == {
        "type": "https://rgrid.dev/problems/not_found",
        "title": "Not Found",
        "status": 404,
        "detail": "Execution not found: exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X",
        "instance": path,
        "code": "not_found",
        "errors": [],
        "request_id": "my.request-1",
    }


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "malformed_json"),
        (b"{", "malformed_json"),
        (b'{"script_content": "1",}', "malformed_json"),
        (b"\xff\xfe", "malformed_json"),
        (b'{"script_content": NaN}', "malformed_json"),
        (b"[" * 100_000, "malformed_json"),
        (b'{"script_content": "1"} x', "malformed_json"),
        (b"null", "validation_failed"),
        (b"[]", "validation_failed"),
        (b'"text"', "validation_failed"),
    ],
    ids=range(10),
)
def test_a_body_that_is_no_json_is_400_and_one_of_another_shape_422(live: Live, raw: bytes, code: str) -> None:
    answer = live.http.post("/api/v1/executions", content=raw, headers=JSON)
    problem(answer, 400 if code == "malformed_json" else 422, code)


@pytest.mark.parametrize(
    "field_and_value",
    [
        ("script_content", ""),
        ("script_content", "a\0b"),
        ("script_content", None),
        ("script_content", 7),
        ("name", ""),
        ("name", "x" * 201),
        ("name", "nul\0"),
        ("runtime", 311),
        ("args", ["a", 1]),
        ("args", "a"),
        ("args", ["\0"]),
        ("args", ["x"] * 1001),
        ("env_vars", {"A": None}),
        ("env_vars", {f"V{n}": "" for n in range(201)}),
        ("env_vars", {"A": "nul\0"}),
        ("secret_env", []),
        ("timeout_seconds", 0),
        ("timeout_seconds", -1),
        ("timeout_seconds", 86_401),
        ("timeout_seconds", 1.5),
        ("timeout_seconds", True),
        ("timeout_seconds", "5"),
        ("cpu", 0),
        ("cpu", 0.2499),
        ("cpu", 16.5),
        ("cpu", -1),
        ("memory_mb", 63),
        ("memory_mb", 65_537),
        ("memory_mb", 2**70),
        ("network", "true"),
        ("network", 1),
        ("max_retries", 11),
        ("max_retries", -1),
        ("requirements_content", "x" * 65_537),
        ("user_metadata", {"a": 1}),
        ("user_metadata", {f"k{n}": "" for n in range(51)}),
        ("user_metadata", []),
        ("input_files", [1]),
        ("input_files", [{"size_bytes": 1}]),
        ("input_files", [{"name": "a", "size_bytes": -1}]),
        ("input_files", [{"name": "a", "sha256": "abc"}]),
        ("input_files", [{"name": "a", "mode": "0777"}]),
        ("input_files", ["x"] * 1001),
        ("cached_input_refs", {"a": 1}),
        ("batch_id", ""),
        ("batch_id", "b" * 65),
        ("unknown_field", 1),
        ("__class__", {}),
        ("execution_id", "exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X"),
    ],
    ids=str,
)
def test_a_wrong_field_is_422_and_named(live: Live, field_and_value: tuple[str, Any]) -> None:
    field, value = field_and_value
    answer = live.create(**{"script_content": "print(1)", field: value})
    problem(answer, 422, "validation_failed")
    assert all(named.startswith(field) for named in fields(answer)), answer.text


def test_every_wrong_field_is_named_not_only_the_first(live: Live) -> None:
    answer = live.create(timeout_seconds="x", cpu=99, stray=1, input_files=[{"size_bytes": -1}])
    problem(answer, 422, "validation_failed")
    assert fields(answer) >= {
        "script_content",
        "timeout_seconds",
        "cpu",
        "stray",
        "input_files[0].name",
        "input_files[0].size_bytes",
    }


@pytest.mark.parametrize("raw", [rb'"\ud800"', rb'"a\u0000b"', rb'"\udfff\ud800"'])
def test_nul_and_half_surrogates_are_422_wherever_they_stand(live: Live, raw: bytes) -> None:
    for shape in (b'{"script_content":%s}', b'{"script_content":"1","args":[%s]}', b'{"script_content":"1","name":%s}'):
        problem(live.http.post("/api/v1/executions", content=shape % raw, headers=JSON), 422, "validation_failed")


def test_numbers_beyond_every_bound_are_422(live: Live) -> None:
    for field in ("timeout_seconds", "memory_mb", "cpu", "max_retries"):
        for number in (HUGE, f"-{HUGE}", "1e999", "-1e999", "9007199254740993"):
            raw = f'{{"script_content": "1", "{field}": {number}}}'.encode()
            answer = live.http.post("/api/v1/executions", content=raw, headers=JSON)
            assert answer.status_code in (400, 422), f"{field} {number}: {answer.status_code}"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""]
)
def test_a_body_of_another_media_type_is_415(live: Live, kind: str) -> None:
    answer = live.http.post("/api/v1/executions", content=b'{"script_content": "1"}', headers={"content-type": kind})
    problem(answer, 415, "unsupported_media_type")


def test_a_body_over_the_limit_is_413_without_reading_the_rest(live: Live) -> None:
    host, port = live.url.removeprefix("http://").split(":")
    key = live.http.headers["authorization"]
    head = (
        f"POST /api/v1/executions HTTP/1.1\r\nhost: {host}\r\nauthorization: {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {17 * 1024 * 1024}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), 20) as raw:
        raw.sendall(head.encode() + b'{"script_content": "')
        answer = raw.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in answer


def test_a_whole_body_over_the_limit_is_413_too(live: Live) -> None:
    body = json.dumps({"script_content": "x" * 17 * 1024 * 1024}).encode()
    problem(live.http.post("/api/v1/executions", content=body, headers=JSON), 413, "body_too_large")


def test_another_method_is_405_and_says_which_there_are(live: Live) -> None:
    answer = live.http.request("PATCH", "/api/v1/executions")
    problem(answer, 405, "method_not_allowed")
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))
    problem(live.http.delete("/api/v1/executions/exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X"), 405, "method_not_allowed")


def test_a_trailing_slash_is_accepted_and_an_unknown_path_is_not(live: Live, finished: dict[str, Any]) -> None:
    assert live.http.get("/api/v1/executions/").status_code == 200
    assert live.http.get(f"/api/v1/executions/{finished['execution_id']}/").status_code == 200
    problem(live.http.get("/api/v1/executionsx"), 404, "not_found")
    problem(live.http.get(f"/api/v1/executions/{finished['execution_id']}/nothing"), 404, "not_found")


def test_credentials_come_before_everything_else(live: Live, finished: dict[str, Any]) -> None:
    for method, path in (("GET", "/api/v1/executions"), ("GET", "/api/v1/nowhere"), ("PATCH", "/api/v1/executions")):
        problem(live.call(method, path, None), 401, "credentials_missing")
    reader, runner = live.key("read"), live.key("run")
    for method, path in (
        ("POST", "/api/v1/executions"),
        ("POST", "/api/v1/executions/exec_nowhere/cancel"),
        ("POST", "/api/v1/executions/exec_nowhere/retry"),
        ("GET", "/api/v1/executions/exec_nowhere/inputs"),
        ("POST", "/api/v1/executions/exec_nowhere/inputs/complete"),
    ):
        problem(live.call(method, path, reader), 403, "scope_missing")
    problem(live.call("POST", "/api/v1/executions/exec_nowhere/logs/stream", runner), 403, "scope_missing")
    assert live.call("GET", f"/api/v1/executions/{finished['execution_id']}", reader).status_code == 200
    assert live.call("POST", "/api/v1/executions", runner, json={"script_content": "1"}).status_code == 201


def test_answers_carry_their_headers_also_when_they_refuse(live: Live, finished: dict[str, Any]) -> None:
    good = live.http.get(f"/api/v1/executions/{finished['execution_id']}")
    for answer in (
        good,
        live.http.get("/api/v1/executions/x"),
        live.create(cpu=1),
        live.call("GET", "/api/v1/me", None),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-request-id"]
        assert "access-control-allow-origin" not in answer.headers
    assert {"ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"} <= set(good.headers)


def test_a_request_id_that_could_break_out_is_replaced(live: Live) -> None:
    for given in ("a b", "x" * 129, "é".encode().decode("latin-1"), "<script>"):
        answer = live.http.get("/api/v1/me", headers=httpx.Headers({"x-request-id": given}, encoding="latin-1"))
        assert answer.headers["x-request-id"] != given
