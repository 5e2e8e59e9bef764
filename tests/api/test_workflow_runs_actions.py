"""What may be done with workflow runs: begin, cancel, retry, pause, resume, and tell them of events."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from api.one_desk import RUNS, Desk, desk
from api.one_service import fields, problem

from rgrid.workflows.document import Outline, Policy

MISSING = "run_01ARZ3NDEKTSV4RRFFQ69G5FAV"
DATED = [
    {"name": "week", "type": "date", "required": True},
    {"name": "region", "type": "string", "default": "US"},
    {"name": "top", "type": "integer"},
]


@pytest.fixture(scope="module")
def at(postgres_dsn: str, template_database: str) -> Iterator[Desk]:
    with desk(postgres_dsn, template_database, "runs_act") as it:
        it.define("chain", *(Outline(name=name, type="EXECUTION") for name in "abc"), domain="sales")
        it.define("dated", Outline(name="a", type="EXECUTION"), parameters=DATED, defaults={"region": "EU"})
        it.define("gone", Outline(name="a", type="EXECUTION"), is_active=False)
        it.define("waits", Outline(name="ok", type="WAIT", signal="approved"), Outline(name="b", type="EXECUTION"))
        it.define(
            "wide",
            *(Outline(name=name, type="EXECUTION") for name in "ab"),
            Outline(name="c", type="EXECUTION", depends_on=["a"]),
            policy=Policy(mode="PARALLEL", on_failure="CONTINUE"),
        )
        yield it


def broken(at: Desk, name: str = "chain", **body: Any) -> str:
    """A run in which b has failed."""
    run_id = at.trigger(name, **body)
    at.start(run_id, "a")
    at.complete(run_id, "a", outputs={"n": 1})
    at.start(run_id, "b")
    at.fail(run_id, "b")
    return run_id


# ---------------------------------------------------------------- trigger


def test_a_run_is_begun_and_can_be_looked_at_at_once(at: Desk) -> None:
    answer = at.call("POST", "/workflows/trigger/chain", json={"params": {"anything": [1, {"x": None}]}})
    body = answer.json()
    assert answer.status_code == 202
    assert (body["status"], body["target_type"], body["workflow_name"]) == ("PENDING", "WORKFLOW", "chain")
    assert answer.headers["location"] == f"/api/v1{RUNS}/{body['run_id']}"
    seen = at.call("GET", RUNS, headers={"Rgrid-Min-Position": answer.headers["rgrid-position"]})
    assert seen.json()["data"][0]["run_id"] == body["run_id"]
    run = at.run(body["run_id"])
    assert (run["status"], run["params"]) == ("PENDING", {"anything": [1, {"x": None}]})
    assert at.steps(body["run_id"]) == [("a", 1, "PENDING"), ("b", 1, "PENDING"), ("c", 1, "PENDING")]


def test_a_body_may_be_left_out(at: Desk) -> None:
    assert at.call("POST", "/workflows/trigger/chain").status_code == 202


def test_parameters_are_the_defaults_and_over_them_what_was_given(at: Desk) -> None:
    run = at.run(at.trigger("dated", params={"week": "2026-01-09"}))
    assert run["params"] == {"week": "2026-01-09", "region": "EU"}


def test_every_parameter_that_is_wrong_is_named(at: Desk) -> None:
    answer = at.call("POST", "/workflows/trigger/dated", json={"params": {"top": "many", "what": 1}})
    problem(answer, 400, "invalid_params")
    assert fields(answer) == {"params.week", "params.top", "params.what"}


def test_a_workflow_that_is_not_there_or_inactive_has_no_runs(at: Desk) -> None:
    problem(at.call("POST", "/workflows/trigger/none", json={}), 404, "not_found")
    problem(at.call("POST", "/workflows/trigger/gone", json={}), 409, "workflow_inactive")
    problem(at.call("POST", "/workflows/trigger/chain", json={"version": 9}), 404, "not_found")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"params": []}, "params"),
        ({"partition_key": "EU"}, "partition_key"),
        ({"version": 0}, "version"),
        ({"dry_run": "yes"}, "dry_run"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"parms": {}}, "parms"),
    ],
)
def test_a_request_of_the_wrong_shape_names_the_field(at: Desk, body: dict[str, Any], field: str) -> None:
    answer = at.call("POST", "/workflows/trigger/chain", json=body)
    problem(answer, 422, "validation_failed")
    assert fields(answer) == {field}


def test_parameters_that_belong_into_a_file_are_refused(at: Desk) -> None:
    problem(
        at.call("POST", "/workflows/trigger/chain", json={"params": {"all": "x" * 1024 * 1024}}), 413, "body_too_large"
    )
    assert at.call("POST", "/workflows/trigger/chain", json={"params": {"all": "x" * 1024 * 1000}}).status_code == 202


def test_one_run_is_active_in_a_partition_and_the_refusal_names_it(at: Desk) -> None:
    first = at.trigger("chain", partition_key={"region": "EU", "day": 1})
    again = at.call("POST", "/workflows/trigger/chain", json={"partition_key": {"day": 1, "region": "EU"}})
    assert first in problem(again, 409, "partition_active")["detail"]
    at.trigger("chain", partition_key={"region": "US", "day": 1})
    at.trigger("chain")
    at.trigger("chain", partition_key={"day": 1, "region": "EU"}, dry_run=True)
    at.post(f"{RUNS}/{first}/cancel")
    at.trigger("chain", partition_key={"region": "EU", "day": 1})


def test_of_many_triggers_at_once_in_a_partition_one_begins(at: Desk) -> None:
    async def all_at_once() -> list[int]:
        body = {"partition_key": {"at": "once"}}
        http = at.service.http
        answers = await asyncio.gather(*(http.post("/workflows/trigger/chain", json=body) for _ in range(12)))
        return sorted(answer.status_code for answer in answers)

    assert at.do(all_at_once()) == [202] + [409] * 11


def test_a_key_in_the_body_is_the_key_of_the_header(at: Desk) -> None:
    body = {"idempotency_key": "k-1", "params": {"n": 1}}
    first = at.call("POST", "/workflows/trigger/chain", json=body)
    again = at.call("POST", "/workflows/trigger/chain", json=body)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    other = {**body, "params": {"n": 2}}
    problem(at.call("POST", "/workflows/trigger/chain", json=other), 409, "idempotency_conflict")
    both = at.call("POST", "/workflows/trigger/chain", json=body, headers={"Idempotency-Key": "k-1"})
    assert both.json() == first.json()
    differing = at.call("POST", "/workflows/trigger/chain", json=body, headers={"Idempotency-Key": "k-2"})
    problem(differing, 400, "conflicting_idempotency_keys")
    bad = at.call("POST", "/workflows/trigger/chain", json=body, headers={"Idempotency-Key": "with a blank"})
    assert bad.status_code == 400
    worded = [at.trigger("chain", idempotency_key="täglich 2026") for _ in range(2)]
    assert worded[0] == worded[1]


def test_a_dry_run_says_what_would_run_and_runs_nothing(at: Desk) -> None:
    body = at.post("/workflows/trigger/chain", {"dry_run": True}, 202)
    assert [(one["step_name"], one["action"]) for one in body["plan"]] == [("a", "run"), ("b", "run"), ("c", "run")]
    run = at.run(body["run_id"])
    assert (run["status"], run["dry_run"], run["skipped_steps"]) == ("COMPLETED", True, 3)
    assert {one["skip_reason"] for one in run["steps"]} == {"dry_run"}


# ---------------------------------------------------------------- cancel


def test_a_run_that_has_not_begun_is_cancelled_at_once(at: Desk) -> None:
    run_id = at.trigger("chain")
    answer = at.post(f"{RUNS}/{run_id}/cancel", {"reason": "not needed"})
    assert (answer["id"], answer["status"]) == (run_id, "cancelled")
    run = at.run(run_id)
    assert (run["status"], run["cancel_reason"]) == ("CANCELLED", "not needed")
    assert run["cancel_requested_at"] is not None
    refused = problem(at.call("POST", f"{RUNS}/{run_id}/cancel"), 409, "illegal_transition")
    assert refused["current_status"] == "CANCELLED"


def test_a_run_under_way_is_cancelling_until_what_runs_has_stopped(at: Desk) -> None:
    run_id = at.trigger("chain")
    at.start(run_id, "a")
    assert at.post(f"{RUNS}/{run_id}/cancel")["status"] == "cancelling"
    again = at.call("POST", f"{RUNS}/{run_id}/cancel")
    assert (again.status_code, again.json()["status"]) == (200, "cancelling")
    assert "rgrid-position" not in again.headers
    assert at.post(f"{RUNS}/{run_id}/cancel", {"force": True})["status"] == "cancelling"
    at.stopped(run_id, "a")
    assert at.run(run_id)["status"] == "CANCELLED"
    assert at.steps(run_id) == [("a", 1, "CANCELLED"), ("b", 1, "SKIPPED"), ("c", 1, "SKIPPED")]


# ---------------------------------------------------------------- retry


def test_a_retry_begins_at_the_step_that_failed_and_takes_over_the_rest(at: Desk) -> None:
    old = broken(at, params={"x": 1})
    body = at.post(f"{RUNS}/{old}/retry", None, 202)
    run = at.run(body["run_id"])
    assert (run["retry_of"], run["from_step"], run["trigger"], run["params"]) == (old, "b", "RETRY", {"x": 1})
    assert [(one["step_name"], one["status"], one["skip_reason"]) for one in run["steps"]] == [
        ("a", "SKIPPED", "restored"),
        ("b", "PENDING", None),
        ("c", "PENDING", None),
    ]
    assert run["outputs"] == {"a": {"n": 1}}
    graph = at.get(f"{RUNS}/{body['run_id']}/graph")
    assert {one["id"]: one["status"] for one in graph["nodes"]} == {"a": "SKIPPED", "b": "PENDING", "c": "PENDING"}
    assert [one["taken"] for one in graph["edges"]] == [True, None]


def test_a_retry_may_begin_at_any_step(at: Desk) -> None:
    old = broken(at)
    run = at.run(at.post(f"{RUNS}/{old}/retry", None, 202, from_step="a")["run_id"])
    assert (run["from_step"], run["skipped_steps"]) == ("a", 0)
    answer = at.call("POST", f"{RUNS}/{old}/retry", params={"from_step": "z"})
    problem(answer, 400, "unknown_step")
    assert fields(answer) == {"from_step"}


def test_what_goes_on_or_has_no_failure_is_not_retried(at: Desk) -> None:
    run_id = at.trigger("chain")
    refused = problem(at.call("POST", f"{RUNS}/{run_id}/retry"), 409, "illegal_transition")
    assert refused["current_status"] == "PENDING"
    for step in "abc":
        at.start(run_id, step)
        at.complete(run_id, step)
    problem(at.call("POST", f"{RUNS}/{run_id}/retry"), 409, "illegal_transition")
    assert at.call("POST", f"{RUNS}/{run_id}/retry", params={"from_step": "c"}).status_code == 202


def test_a_plan_says_what_a_retry_would_do_and_begins_nothing(at: Desk) -> None:
    old = broken(at, "wide")
    at.start(old, "c")
    at.fail(old, "c")
    before = at.get(RUNS, workflow_name="wide")["pagination"]["total"]
    plan = at.post(f"{RUNS}/{old}/retry", None, 200, plan="true")
    assert at.get(RUNS, workflow_name="wide")["pagination"]["total"] == before
    assert (plan["from_step"], plan["run_again"], plan["reused"]) == ("b", ["b", "c"], ["a"])
    assert plan["unknown"] == ["b", "c"]
    assert (plan["expected_ms"], plan["expected_cost_micros"], plan["cost_display"]) == (None, None, None)
    plan = at.post(f"{RUNS}/{old}/retry", None, 200, plan="true", from_step="a")
    assert plan["run_again"] == ["a", "b", "c"]
    assert plan["expected_ms"] is not None
    assert {one["step_name"]: one["action"] for one in plan["steps"]} == {"a": "run", "b": "run", "c": "run"}


def test_a_retry_takes_the_partition_of_the_run_again(at: Desk) -> None:
    old = broken(at, partition_key={"p": 1})
    new = at.post(f"{RUNS}/{old}/retry", None, 202)["run_id"]
    assert at.run(new)["partition_key"] == {"p": 1}
    answer = at.call("POST", f"{RUNS}/{old}/retry")
    assert new in problem(answer, 409, "partition_active")["detail"]


# ---------------------------------------------------------------- pause, resume, signals


def test_a_paused_run_starts_nothing_until_it_is_resumed(at: Desk) -> None:
    run_id = at.trigger("chain")
    assert at.post(f"{RUNS}/{run_id}/pause", {"note": "looking"})["status"] == "paused"
    run = at.run(run_id)
    assert run["paused_at"] is not None
    assert (run["status"], run["pause_note"]) == ("PENDING", "looking")
    again = at.call("POST", f"{RUNS}/{run_id}/pause")
    assert (again.status_code, "rgrid-position" in again.headers) == (200, False)
    assert at.post(f"{RUNS}/{run_id}/resume")["id"] == run_id
    assert at.run(run_id)["paused_at"] is None
    assert at.call("POST", f"{RUNS}/{run_id}/resume").status_code == 200
    at.start(run_id, "a")


def test_an_approval_ends_the_wait_for_it(at: Desk) -> None:
    run_id = at.trigger("waits")
    at.start(run_id, "ok", signal="approved")
    assert at.steps(run_id)[0] == ("ok", 1, "WAITING")
    assert at.run(run_id)["steps"][0]["signal"] == "approved"
    at.post(f"{RUNS}/{run_id}/signals/approved", {"payload": {"by": "Ann"}})
    run = at.run(run_id)
    assert run["outputs"]["ok"]["payload"] == {"by": "Ann"}
    assert [one["name"] for one in run["signals"]] == ["approved"]


def test_a_signal_that_nothing_waits_for_is_refused(at: Desk) -> None:
    run_id = at.trigger("waits")
    problem(at.call("POST", f"{RUNS}/{run_id}/signals/other", json={}), 400, "unknown_signal")
    at.post(f"{RUNS}/{run_id}/cancel")
    problem(at.call("POST", f"{RUNS}/{run_id}/signals/approved"), 409, "illegal_transition")


@pytest.mark.parametrize("action", ["cancel", "retry", "pause", "resume", "signals/x"])
@pytest.mark.parametrize("run_id", [MISSING, MISSING.replace("run_", "exec_"), "nonsense"])
def test_nothing_can_be_done_with_a_run_that_is_not_there(at: Desk, action: str, run_id: str) -> None:
    body = problem(at.call("POST", f"{RUNS}/{run_id}/{action}"), 404, "not_found")
    assert body["detail"] == f"Workflow run not found: {run_id}"


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_a_run_that_has_ended_is_not_paused_or_resumed(at: Desk, action: str) -> None:
    refused = problem(at.call("POST", f"{RUNS}/{broken(at)}/{action}"), 409, "illegal_transition")
    assert refused["current_status"] == "FAILED"


def test_a_repeated_action_with_a_key_is_done_once(at: Desk) -> None:
    old = broken(at)
    key = {"Idempotency-Key": "again"}
    first = at.call("POST", f"{RUNS}/{old}/retry", headers=key)
    again = at.call("POST", f"{RUNS}/{old}/retry", headers=key)
    assert first.status_code == again.status_code == 202
    assert first.json()["run_id"] == again.json()["run_id"]
