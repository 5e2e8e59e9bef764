"""Actions on many workflow runs at once, and the log of a run over all of its executions."""

from collections.abc import Iterator
from typing import Any

import pytest
from api.one_desk import RUNS, Desk, desk
from api.one_service import fields, problem

from rgrid.executions import logs
from rgrid.executions.logs import NewLine
from rgrid.kernel.clock import now
from rgrid.kernel.ids import new_id
from rgrid.workflows.document import Outline, Policy
from rgrid.workflows.events import Parent
from rgrid.workflows.starting import triggered

MISSING = "run_01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.fixture(scope="module")
def at(postgres_dsn: str, template_database: str) -> Iterator[Desk]:
    with desk(postgres_dsn, template_database, "runs_many") as it:
        yield it


def workflow(at: Desk, name: str, runs: int, policy: Policy | None = None) -> list[str]:
    at.define(name, *(Outline(name=step, type="EXECUTION") for step in "abc"), policy=policy)
    return [at.trigger(name) for _ in range(runs)]


# ---------------------------------------------------------------- many at once


def test_all_runs_that_a_filter_finds_are_cancelled(at: Desk) -> None:
    first, second, third = workflow(at, "stop-all", 3)
    others = workflow(at, "go-on", 1)
    at.start(second, "a")
    answer = at.call("POST", f"{RUNS}/bulk-cancel", params={"workflow_name": "stop-all"})
    body = answer.json()
    assert (answer.status_code, body["matched"], body["done"], body["refused"]) == (200, 3, 3, 0)
    assert [(one["run_id"], one["status"]) for one in body["runs"]] == [
        (first, "CANCELLED"),
        (second, "CANCELLING"),
        (third, "CANCELLED"),
    ]
    seen = {"Rgrid-Min-Position": answer.headers["rgrid-position"]}
    listed = at.call("GET", RUNS, params={"status": "CANCELLED", "workflow_name": "stop-all"}, headers=seen).json()
    assert {one["run_id"] for one in listed["data"]} == {first, third}
    assert at.run(others[0])["status"] == "PENDING"
    again = at.post(f"{RUNS}/bulk-cancel", workflow_name="stop-all")
    assert (again["matched"], again["runs"]) == (0, [])


def test_what_failed_is_run_again_and_what_can_not_be_is_named(at: Desk) -> None:
    at.define("again", Outline(name="a", type="EXECUTION"))
    runs = [at.trigger("again", partition_key={"p": 1 if n < 2 else n}) for n in (0, 2, 3)]
    for run_id in runs:
        at.start(run_id, "a")
        at.fail(run_id, "a")
    holder = at.trigger("again", partition_key={"p": 2})
    body = at.post(f"{RUNS}/bulk-retry", workflow_name="again", trigger="API")
    assert (body["matched"], body["done"], body["refused"]) == (3, 2, 1)
    assert [one["run_id"] for one in body["runs"]] == runs
    refused = body["runs"][1]
    assert (refused["code"], refused["new_run_id"]) == ("partition_active", None)
    assert holder in refused["error"]
    assert at.run(body["runs"][0]["new_run_id"])["retry_of"] == runs[0]
    again = at.post(f"{RUNS}/bulk-retry", workflow_name="again", trigger="API")
    assert [(one["run_id"], one["code"]) for one in again["runs"]] == [(runs[1], "partition_active")]


def test_child_runs_are_left_to_the_run_above_unless_they_are_asked_for(at: Desk) -> None:
    at.define("part", Outline(name="a", type="EXECUTION"))
    above, child = at.trigger("part"), new_id("run")
    parent = Parent(run_id=above, step="a", attempt=1)
    more = {"trigger": "DEPENDENCY", "triggered_by": "system", "parent": parent}
    at.begin(at.do(triggered(at.service.grid.handler, child, "part", {}, **more)))
    for run_id in (above, child):
        at.start(run_id, "a")
        at.fail(run_id, "a")
    for query, expected in (({"workflow_name": "part"}, above), ({"parent_run_id": above}, child)):
        body = at.post(f"{RUNS}/bulk-retry", dry_run="true", **query)
        assert ([one["run_id"] for one in body["runs"]], body["matched"]) == ([expected], 1)


def test_a_dry_run_names_them_and_does_nothing(at: Desk) -> None:
    runs = workflow(at, "untouched", 3)
    body = at.post(f"{RUNS}/bulk-cancel", workflow_name="untouched", dry_run="true", limit=2)
    assert (body["dry_run"], body["matched"], body["done"]) == (True, 3, 0)
    assert [one["run_id"] for one in body["runs"]] == runs[:2]
    assert {at.run(run_id)["status"] for run_id in runs} == {"PENDING"}


def test_a_status_that_an_action_is_not_for_finds_nothing(at: Desk) -> None:
    workflow(at, "pending", 1)
    assert at.post(f"{RUNS}/bulk-retry", workflow_name="pending", status="PENDING")["matched"] == 0


def test_at_least_one_filter_is_needed(at: Desk) -> None:
    for action in ("bulk-cancel", "bulk-retry"):
        answer = at.call("POST", f"{RUNS}/{action}", params={"dry_run": "true"})
        problem(answer, 400, "filter_missing")
        assert "query.workflow_name" in fields(answer)
        assert at.call("POST", f"{RUNS}/{action}", params={"domain": "x", "limit": 1001}).status_code == 422
        assert at.call("GET", f"{RUNS}/{action}").status_code == 405


# ---------------------------------------------------------------- logs


def printed(at: Desk, run_id: str, step: str, *messages: str) -> str:
    """A step of a run whose execution has printed this."""
    execution_id = new_id("exec")
    at.start(run_id, step, execution_id=execution_id)
    lines = [
        NewLine(
            execution_id=execution_id,
            attempt=1,
            fencing_token=1,
            sequence_number=number,
            stream="stdout",
            logged_at=now(),
            message=message,
        )
        for number, message in enumerate(messages)
    ]
    at.do(logs.repair(at.service.grid.pool, lines))
    return execution_id


@pytest.fixture(scope="module")
def talkative(at: Desk) -> str:
    """A run with three executions, one of which is that of a child run."""
    (run_id,) = workflow(at, "talk", 1, Policy(mode="PARALLEL"))
    child = new_id("run")
    parent = Parent(run_id=run_id, step="b", attempt=1)
    handler = at.service.grid.handler
    printed(at, run_id, "a", "a0", "a1", "a2")
    at.begin(at.do(triggered(handler, child, "talk", {}, trigger="DEPENDENCY", triggered_by="system", parent=parent)))
    printed(at, child, "a", "child 0")
    printed(at, run_id, "b")
    printed(at, run_id, "c", "c0", "c1")
    return run_id


def messages(page: dict[str, Any]) -> list[str]:
    return [one["message"] for one in page["data"]]


def test_lines_of_all_executions_come_try_by_try(at: Desk, talkative: str) -> None:
    page = at.get(f"{RUNS}/{talkative}/logs")
    assert messages(page) == ["a0", "a1", "a2", "child 0", "c0", "c1"]
    assert page["pagination"]["total"] == 6
    first, fourth = page["data"][0], page["data"][3]
    assert (first["run_id"], first["step_name"], first["step_attempt"], first["stream"]) == (
        talkative,
        "a",
        1,
        "stdout",
    )
    assert fourth["run_id"] != talkative


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6])
def test_pages_of_lines_are_the_whole(at: Desk, talkative: str, limit: int) -> None:
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    for _ in range(10):
        page = at.get(f"{RUNS}/{talkative}/logs", limit=limit, **cursor)
        seen += messages(page)
        if not page["pagination"]["has_more"]:
            break
        cursor = {"cursor": page["pagination"]["next_cursor"]}
    assert seen == ["a0", "a1", "a2", "child 0", "c0", "c1"]
    for offset in range(8):
        assert messages(at.get(f"{RUNS}/{talkative}/logs", limit=limit, offset=offset)) == seen[offset : offset + limit]


def test_lines_are_narrowed_to_a_step_or_to_the_run_itself(at: Desk, talkative: str) -> None:
    assert messages(at.get(f"{RUNS}/{talkative}/logs", step="a")) == ["a0", "a1", "a2", "child 0"]
    alone = at.get(f"{RUNS}/{talkative}/logs", include_children="false")
    assert messages(alone) == ["a0", "a1", "a2", "c0", "c1"]
    assert at.get(f"{RUNS}/{talkative}/logs", step="none")["data"] == []


def test_lines_of_a_run_that_is_not_there_are_not_found(at: Desk) -> None:
    problem(at.call("GET", f"{RUNS}/{MISSING}/logs"), 404, "not_found")


def test_a_cursor_of_another_run_leads_nowhere(at: Desk, talkative: str) -> None:
    cursor = at.get(f"{RUNS}/{talkative}/logs", limit=1)["pagination"]["next_cursor"]
    (other,) = workflow(at, "silent", 1)
    problem(at.call("GET", f"{RUNS}/{other}/logs", params={"cursor": cursor}), 400, "invalid_cursor")
