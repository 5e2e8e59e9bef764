"""The served interface document: every operation of executions and what belongs to them, its statuses and fields."""

from typing import Any

import pytest
from api.one_service import Live

SECURED = "401 403 429 500 503"
BODY = "400 413 415 422"
# method, path, flags, success, error statuses, query parameters
OPERATIONS = [
    ("get", "/executions", "page as_of", 200, "400 422 503",
     "status failure_reason batch_id runtime name metadata since until sort order"),
    ("post", "/executions", "idem mutates", 201, f"402 409 {BODY}", ""),
    ("get", "/executions/{execution_id}", "etag as_of", 200, "400 404 422", ""),
    ("post", "/executions/{execution_id}/cancel", "idem mutates", 200, f"404 409 {BODY}", ""),
    ("post", "/executions/{execution_id}/retry", "idem mutates", 201, "400 402 404 409 410", ""),
    ("get", "/executions/{execution_id}/inputs", "page", 200, "400 404 422 503", ""),
    ("post", "/executions/{execution_id}/inputs/complete", "idem mutates", 200, f"404 409 {BODY}", ""),
    ("get", "/executions/{execution_id}/artifacts", "page", 200, "400 404 422 503", "artifact_type"),
    ("get", "/executions/{execution_id}/logs", "page", 200, "400 404 422 503", "after stream attempt tail format"),
    ("post", "/executions/{execution_id}/logs/stream", "", 200, f"404 409 {BODY}",
     "sequence_number stream message timestamp"),
    ("get", "/executions/{execution_id}/events", "page", 200, "400 404 422 503", ""),
    ("get", "/artifacts/{artifact_id}", "etag", 200, "404", ""),
    ("post", "/artifacts/download-url", "", 200, f"404 410 {BODY}", ""),
    ("get", "/runtimes", "page", 200, "400 422 503", ""),
    ("get", "/workers", "page", 200, "400 422 503", "status sort order"),
    ("get", "/workers/{worker_id}", "etag", 200, "404", ""),
    ("post", "/workers/{worker_id}/drain", "idem mutates", 202, f"404 409 {BODY}", ""),
    ("get", "/me", "", 200, "", ""),
    ("get", "/keys", "page", 200, "400 422 503", "status sort order"),
    ("post", "/keys", "idem mutates", 201, f"409 {BODY}", ""),
    ("get", "/keys/{key_id}", "etag", 200, "404", ""),
    ("delete", "/keys/{key_id}", "if_match mutates", 200, "404 409 412", ""),
    ("post", "/keys/{key_id}/rotate", "idem mutates", 200, f"404 409 {BODY}", ""),
    ("post", "/ws-tickets", "", 201, f"404 {BODY}", ""),
    ("get", "/workflows/definitions", "page", 200, "400 422 503", "domain tag is_active sort order"),
    ("get", "/workflows/definitions/{workflow_name}", "etag", 200, "404 422", "version"),
    ("put", "/workflows/definitions/{workflow_name}", "if_match mutates", 201, f"409 412 {BODY}", ""),
    ("delete", "/workflows/definitions/{workflow_name}", "if_match mutates", 200, "404 409 412", ""),
    ("post", "/workflows/definitions/validate", "", 200, BODY, ""),
]  # fmt: skip
SUMMARY = (
    "execution_id name? status failure_reason? runtime batch_id? batch_index? exit_code? created_at queued_at?"
    " started_at? completed_at? duration_ms? duration_seconds? cost_micros retry_count retry_of? user_metadata?"
    " created_by?"
)
DEFINED = (
    "name domain? description? version step_count is_active tags parameters created_at updated_at created_by?"
    " last_run_at? last_run_status?"
)
# The fields of what is answered with; those that may be null end in a question mark.
FIELDS = {
    "ExecutionSummary": SUMMARY,
    "ExecutionResponse": SUMMARY
    + " script_content script_sha256 runtime_image? args env_vars secret_env timeout_seconds cpu memory_mb network"
    " requirements_content? stdout? stderr? output_truncated execution_error? hint? input_files inputs upload_urls?"
    " download_urls? urls_expire_at? inputs_deadline? queue_position? cancel_requested_at? cost_display"
    " finalized_cost_micros? cost_finalized_at? worker_id? worker_hostname? execution_metadata? max_retries"
    " root_execution_id schedule_id? workflow_run_id? attempts expires_at? version",
    "AttemptDetail": "attempt status worker_id? worker_hostname? started_at completed_at? duration_ms? exit_code?"
    " failure_reason? error? hourly_micros cost_micros",
    "InputFile": "name size_bytes? sha256? content_type? state upload_url? upload_expires_at?",
    "LogRow": "log_id execution_id attempt sequence_number timestamp stream message",
    "LogAppendResponse": "status log_id? accepted duplicates last_sequence_number",
    "Artifact": "artifact_id execution_id artifact_type filename file_path size_bytes content_type sha256? compressed"
    " created_at expires_at? expired",
    "DownloadUrlResponse": "download_url expires_at artifact_id filename size_bytes content_type sha256?",
    "Runtime": "name aliases language version image? default available description?",
    "EventRecord": "position stream stream_version type schema_version data occurred_at actor request_id?"
    " correlation_id? causation_position? hash? prev_hash?",
    "ActionResponse": "id status message",
    "WorkflowDefinitionSummary": DEFINED,
    "WorkflowDefinition": DEFINED + " defaults steps policy",
    "WorkflowStep": "name type description? depends_on? params target_name? condition? then_step? else_step?"
    " duration_seconds? until? items? item_name max_concurrency on_error retry? timeout_seconds? quality?",
    "DefinitionPutResponse": "id status message name version",
    "ValidationResult": "valid errors warnings graph?",
    "ValidationIssue": "code message step? field?",
    "Pagination": "offset limit total has_more next_cursor?",
    "Problem": "type title status detail instance code errors request_id",
    "Worker": "id hostname runner_kind status slots running current_executions runtimes version hourly_micros"
    " started_at last_heartbeat_at",
}
BOUNDS = {
    "script_content": {"minLength": 1, "maxLength": 1_048_576},
    "args": {"maxItems": 1000, "default": []},
    "env_vars": {"maxProperties": 200, "default": {}},
    "secret_env": {"maxProperties": 50, "default": {}},
    "timeout_seconds": {"minimum": 1, "maximum": 86_400, "default": 300},
    "cpu": {"minimum": 0.25, "maximum": 16, "default": 1},
    "memory_mb": {"minimum": 64, "maximum": 65_536, "default": 512},
    "max_retries": {"minimum": 0, "maximum": 10, "default": 2},
    "network": {"type": "boolean", "default": False},
    "runtime": {"type": "string", "default": "python:3.11"},
    "input_files": {"maxItems": 1000, "default": []},
}


@pytest.fixture(scope="module")
def document(live: Live) -> dict[str, Any]:
    answer = live.call("GET", "/schema/openapi.json", None)
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize(
    ("method", "path", "flags", "ok", "errors", "query"), OPERATIONS, ids=[f"{row[0]} {row[1]}" for row in OPERATIONS]
)
def test_an_operation_shows_its_parameters_and_every_status(
    document: dict[str, Any], method: str, path: str, flags: str, ok: int, errors: str, query: str
) -> None:
    operation = document["paths"][f"/api/v1{path}"][method]
    responses = operation["responses"]
    assert {str(ok), *SECURED.split(), *errors.split()} <= set(responses)
    for status, response in responses.items():
        if status >= "400":
            assert list(response["content"]) == ["application/problem+json"], status
    parameters = {(one["in"], one["name"]): one for one in operation.get("parameters", [])}
    wanted = {("query", name) for name in query.split()}
    headers = {
        ("header", one) for flag, one in (("idem", "Idempotency-Key"), ("if_match", "If-Match")) if flag in flags
    }
    if "page" in flags:
        wanted |= {("query", name) for name in ("offset", "limit", "cursor")} | {("header", "Rgrid-Min-Position")}
        limit = parameters["query", "limit"]["schema"]
        assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, 1000, 20)
    if "as_of" in flags:
        wanted.add(("query", "as_of"))
    assert wanted | headers <= set(parameters)
    if method == "get" and "etag" in flags:
        assert "304" in responses
        assert ("header", "If-None-Match") in parameters
    elif method != "get":
        assert "304" not in responses
    shown = set(responses[str(ok)].get("headers", {}))
    assert ("Rgrid-Position" in shown) == ("mutates" in flags)
    assert ("Idempotency-Replayed" in shown) == ("idem" in flags)
    assert "X-Request-ID" in shown


@pytest.mark.parametrize("name", FIELDS)
def test_an_answer_has_every_field_and_says_which_may_be_null(document: dict[str, Any], name: str) -> None:
    schema = document["components"]["schemas"][name]
    for field in FIELDS[name].split():
        shown = schema["properties"][field.removesuffix("?")]
        options = shown.get("anyOf", [shown])
        assert ({"type": "null"} in options) == field.endswith("?") or None in shown.get("enum", []), field
        assert field.removesuffix("?") in schema["required"]


@pytest.mark.parametrize("field", BOUNDS)
def test_a_body_shows_its_bounds_and_defaults(document: dict[str, Any], field: str) -> None:
    schema = document["components"]["schemas"]["ExecutionCreate"]
    assert BOUNDS[field].items() <= schema["properties"][field].items()
    assert schema["required"] == ["script_content"]
    assert schema["additionalProperties"] is False


def test_real_answers_have_exactly_the_fields_that_are_shown(
    live: Live, document: dict[str, Any], finished: dict[str, Any]
) -> None:
    schemas = document["components"]["schemas"]
    path = f"/api/v1/executions/{finished['execution_id']}"
    for name, answer in (
        ("ExecutionResponse", finished),
        ("ExecutionSummary", live.page("/api/v1/executions")["data"][0]),
        ("InputFile", finished["inputs"][0]),
        ("AttemptDetail", finished["attempts"][0]),
        ("Artifact", live.page(f"{path}/artifacts")["data"][0]),
        ("LogRow", live.page(f"{path}/logs")["data"][0]),
        ("EventRecord", live.page(f"{path}/events")["data"][0]),
        ("Runtime", live.page("/api/v1/runtimes")["data"][0]),
        ("Worker", live.page("/api/v1/workers")["data"][0]),
    ):
        assert set(answer) == set(schemas[name]["properties"]), name


def test_a_list_envelope_is_shown_in_full(document: dict[str, Any]) -> None:
    answer = document["paths"]["/api/v1/executions"]["get"]["responses"]["200"]["content"]["application/json"]
    schema = answer["schema"]
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    assert {"data", "pagination"} <= set(schema["properties"])


def test_health_tells_every_component_and_is_open_to_all(live: Live) -> None:
    answer = live.call("GET", "/api/v1/health", None)
    body = answer.json()
    assert answer.status_code == 200
    assert set(body["components"]) == {"database", "object_store", "event_log", "scheduler", "workers"}
    assert {one["status"] for one in body["components"].values()} <= {"ok", "degraded"}
    assert body["position"] > 0
    assert body["live_workers"] == 1
    assert live.call("GET", "/api/v1/health/live", None).json() == {"status": "ok"}
    assert live.call("GET", "/api/v1/health/ready", None).status_code == 200
    assert "ratelimit-limit" not in answer.headers
