"""A real service runs the workflow of the documentation, and what its runs leave can be read."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api.one_service import Live, problem

PAGE = Path(__file__).resolve().parents[2] / "docs/workflow-runs.md"
RUNS = "/api/v1/workflows/runs"
ENDS_MAX_S = 60
OVER = {"COMPLETED", "PARTIAL", "FAILED", "CANCELLED"}


def post(live: Live, path: str, expected: int = 200, **more: Any) -> dict[str, Any]:
    answer = live.http.post(path, **more)
    assert answer.status_code == expected, answer.text
    body: dict[str, Any] = answer.json()
    return body


def until(live: Live, run_id: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The run as soon as this holds of it."""
    give_up = time.monotonic() + ENDS_MAX_S
    while True:
        seen = live.page(f"{RUNS}/{run_id}")
        if holds(seen):
            return seen
        assert time.monotonic() < give_up, f"still {seen['status']}: {seen['steps']}"
        time.sleep(0.05)


def ended(live: Live, run_id: str) -> dict[str, Any]:
    return until(live, run_id, lambda seen: seen["status"] in OVER)


def define(live: Live, name: str, document: dict[str, Any]) -> None:
    answer = live.http.put(f"/api/v1/workflows/definitions/{name}", json=document)
    assert answer.status_code in (200, 201), answer.text


def script(name: str, content: str, **more: Any) -> dict[str, Any]:
    params = {"script_content": content, "runtime": "python", "max_retries": 0}
    return {"name": name, "type": "EXECUTION", "params": params, **more}


@pytest.fixture(scope="module")
def documented(live: Live) -> str:
    """The workflow of the page, by its name."""
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    answer = live.http.put(
        "/api/v1/workflows/definitions/weekly_refresh", content=text, headers={"content-type": "application/yaml"}
    )
    assert answer.status_code in (200, 201), answer.text
    return "weekly_refresh"


def test_the_workflow_of_the_page_runs_as_the_page_says(live: Live, documented: str) -> None:
    body = post(live, f"/api/v1/workflows/trigger/{documented}", 202, json={"params": {"week": "2026-01-09"}})
    run_id = body["run_id"]
    waiting = until(live, run_id, lambda seen: seen["steps"][2]["status"] == "WAITING")
    assert waiting["status"] == "RUNNING"
    assert waiting["steps"][0]["outputs"]["stdout_json"] == {"rows": 20}
    assert waiting["steps"][2]["signal"] == "approved"
    post(live, f"{RUNS}/{run_id}/signals/approved", json={"payload": {"by": "Ann"}})
    run = ended(live, run_id)
    assert (run["status"], run["completed_steps"], run["error"]) == ("COMPLETED", 4, None)
    graph = live.page(f"{RUNS}/{run_id}/graph")
    assert {one["status"] for one in graph["nodes"]} == {"COMPLETED"}
    assert all(one["taken"] for one in graph["edges"])
    printed = [(one["step_name"], one["message"]) for one in live.page(f"{RUNS}/{run_id}/logs")["data"]]
    assert printed == [
        ("count", "counting EU US"),
        ("count", '{"rows": 20}'),
        ("publish", "published 2026-01-09"),
    ]
    execution = live.get(run["steps"][0]["execution_id"])
    assert (execution["workflow_run_id"], execution["schedule_id"]) == (run_id, None)


def test_the_branch_that_is_not_taken_is_left_out(live: Live, documented: str) -> None:
    params = {"week": "2026-01-09", "regions": ["EU"]}
    body = post(live, f"/api/v1/workflows/trigger/{documented}", 202, json={"params": params})
    run = ended(live, body["run_id"])
    assert [(one["status"], one["skip_reason"]) for one in run["steps"]] == [
        ("COMPLETED", None),
        ("COMPLETED", None),
        ("SKIPPED", "branch_not_taken"),
        ("COMPLETED", None),
    ]


def test_a_failed_run_is_planned_again_and_then_retried_from_its_step(live: Live) -> None:
    flag = live.folder / "mended"
    define(
        live,
        "mended_later",
        {
            "steps": [
                script("good", "print('fine')"),
                script("bad", "import sys; sys.exit(int(3))"),
                script("last", "1"),
            ]
        },
    )
    assert not flag.exists()
    run_id = post(live, "/api/v1/workflows/trigger/mended_later", 202)["run_id"]
    run = ended(live, run_id)
    assert (run["status"], run["failed_step"]) == ("FAILED", "bad")
    plan = post(live, f"{RUNS}/{run_id}/retry", params={"plan": "true"})
    assert (plan["run_again"], plan["reused"], plan["unknown"]) == (["bad", "last"], ["good"], ["bad", "last"])
    whole = post(live, f"{RUNS}/{run_id}/retry", params={"plan": "true", "from_step": "good"})
    good = whole["steps"][0]
    assert good["expected_ms"] == run["steps"][0]["duration_ms"]
    assert good["expected_cost_micros"] == live.get(run["steps"][0]["execution_id"])["cost_micros"]
    again = ended(live, post(live, f"{RUNS}/{run_id}/retry", 202)["run_id"])
    assert [(one["status"], one["skip_reason"]) for one in again["steps"]] == [
        ("SKIPPED", "restored"),
        ("FAILED", None),
        ("SKIPPED", "upstream_failed"),
    ]
    assert again["steps"][0]["outputs"] == run["steps"][0]["outputs"]


def test_a_run_is_cancelled_with_the_execution_that_it_runs(live: Live) -> None:
    define(live, "sleepy", {"steps": [script("sleep", "import time; print('up', flush=True); time.sleep(300)")]})
    run_id = post(live, "/api/v1/workflows/trigger/sleepy", 202)["run_id"]
    seen = until(live, run_id, lambda seen: seen["steps"][0]["execution_id"] is not None)
    live.until(seen["steps"][0]["execution_id"], lambda execution: bool(execution["stdout"]))
    assert post(live, f"{RUNS}/{run_id}/cancel", json={"reason": "enough"})["status"] == "cancelling"
    run = ended(live, run_id)
    assert (run["status"], run["steps"][0]["status"], run["cancel_reason"]) == ("CANCELLED", "CANCELLED", "enough")
    assert live.get(run["steps"][0]["execution_id"])["status"] == "cancelled"


def test_a_paused_run_begins_nothing_until_it_is_resumed(live: Live) -> None:
    steps = [{"name": "gate", "type": "WAIT", "signal": "go"}, script("after", "print(1)")]
    define(live, "gated", {"steps": steps})
    run_id = post(live, "/api/v1/workflows/trigger/gated", 202)["run_id"]
    until(live, run_id, lambda seen: seen["steps"][0]["status"] == "WAITING")
    post(live, f"{RUNS}/{run_id}/pause", json={"note": "a look first"})
    post(live, f"{RUNS}/{run_id}/signals/go")
    paused = live.page(f"{RUNS}/{run_id}")
    assert [one["status"] for one in paused["steps"]] == ["COMPLETED", "PENDING"]
    assert paused["pause_note"] == "a look first"
    post(live, f"{RUNS}/{run_id}/resume")
    assert ended(live, run_id)["status"] == "COMPLETED"


def test_lines_of_child_runs_are_in_the_log_of_the_run_above(live: Live) -> None:
    define(live, "one_item", {"steps": [script("say", "print('item ${params.item}')")]})
    mapped = {"name": "each", "type": "MAP", "target_name": "one_item", "items": "params.all", "max_concurrency": 1}
    define(live, "all_items", {"steps": [mapped]})
    body = post(live, "/api/v1/workflows/trigger/all_items", 202, json={"params": {"all": [1, 2]}})
    run = ended(live, body["run_id"])
    assert run["status"] == "COMPLETED", run
    children = run["steps"][0]["child_run_ids"]
    assert [one["run_id"] for one in live.page(RUNS, parent_run_id=run["run_id"], order="asc")["data"]] == children
    lines = live.page(f"{RUNS}/{run['run_id']}/logs")["data"]
    assert [(one["run_id"], one["message"]) for one in lines] == [(children[0], "item 1"), (children[1], "item 2")]
    assert live.page(f"{RUNS}/{run['run_id']}/logs", include_children="false")["data"] == []
    plan = post(live, f"{RUNS}/{run['run_id']}/retry", params={"plan": "true", "from_step": "each"})
    executions = [live.page(f"{RUNS}/{child}")["steps"][0]["execution_id"] for child in children]
    assert plan["expected_cost_micros"] == sum(live.get(one)["cost_micros"] for one in executions)
    assert plan["expected_ms"] == run["steps"][0]["duration_ms"]


def test_reading_and_acting_need_their_scopes(live: Live) -> None:
    reader = live.key("read")
    assert live.call("GET", RUNS, reader).status_code == 200
    problem(live.call("POST", "/api/v1/workflows/trigger/any", reader, json={}), 403, "scope_missing")
    problem(live.call("POST", f"{RUNS}/bulk-cancel", reader, params={"domain": "x"}), 403, "scope_missing")
    problem(live.call("GET", RUNS, None), 401, "credentials_missing")


def test_metrics_count_runs_by_status_and_the_times_they_wait_for(live: Live) -> None:
    text = live.http.get("/metrics").text
    if "rgrid_workflow_runs" not in text:
        text = live.http.get("/api/v1/metrics").text
    assert re.search(r'^rgrid_workflow_runs\{status="COMPLETED"\} [1-9]', text, re.MULTILINE)
    assert re.search(r"^rgrid_workflow_timers \d+$", text, re.MULTILINE)
    assert re.search(r"^rgrid_workflow_timer_late_seconds \d", text, re.MULTILINE)
