"""Workflow runs as their readers see them: the list, one run, its steps, graph and events, now and at any moment."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from api.one_desk import RUNS, Desk, desk
from api.one_service import problem

from rgrid.kernel.ids import new_id
from rgrid.subscriptions import rebuild
from rgrid.workflows.commands import EndMapItem, MapItem, StartMapItems
from rgrid.workflows.document import Outline, Policy, RetryPolicy

A = Outline(name="a", type="EXECUTION")
B = Outline(name="b", type="EXECUTION")
C = Outline(name="c", type="EXECUTION")


@pytest.fixture(scope="module")
def at(postgres_dsn: str, template_database: str) -> Iterator[Desk]:
    with desk(postgres_dsn, template_database, "runs_read") as it:
        it.define("chain", A, B, C, domain="sales", parameters=[{"name": "week", "type": "date"}], defaults={})
        it.define("other", A)
        it.define(
            "branches",
            Outline(name="pick", type="CHOICE", condition="true", then_step="x", else_step="y"),
            Outline(name="x", type="EXECUTION"),
            Outline(name="y", type="EXECUTION"),
            Outline(name="z", type="EXECUTION"),
        )
        it.define("each", Outline(name="m", type="MAP", target_name="other", items="params.all"))
        it.define("stubborn", Outline(name="a", type="EXECUTION", retry=RetryPolicy(max_attempts=3)))
        yield it


@pytest.fixture(scope="module")
def failed(at: Desk) -> str:
    """A run of the chain in which b has failed."""
    run_id = at.trigger("chain", params={"week": "2026-01-09"}, partition_key={"region": "EU", "n": 1})
    at.start(run_id, "a", execution_id=new_id("exec"), inputs={"x": 1})
    at.complete(run_id, "a", outputs={"n": 7}, row_count=3)
    at.start(run_id, "b")
    at.fail(run_id, "b", category="TRANSIENT")
    return run_id


def test_a_run_that_failed_tells_where_and_why(at: Desk, failed: str) -> None:
    run = at.run(failed)
    assert (run["status"], run["failed_step"], run["error"]) == ("FAILED", "b", "broke")
    assert (run["error_category"], run["error_retryable"]) == ("TRANSIENT", True)
    assert run["params"] == {"week": "2026-01-09"}
    assert run["partition_key"] == {"n": 1, "region": "EU"}
    assert (run["domain"], run["workflow_version"], run["trigger"]) == ("sales", 1, "API")
    assert run["triggered_by"] == run["created_by"] is not None
    assert run["outputs"] == {"a": {"n": 7}}
    assert (run["completed_steps"], run["failed_steps"], run["skipped_steps"], run["total_steps"]) == (1, 1, 1, 3)
    assert (run["step_count"], run["completed_step_count"]) == (3, 1)
    assert run["duration_seconds"] == run["duration_ms"] / 1000
    assert run["rows_processed"] == 3


def test_each_try_of_a_step_is_shown_with_what_it_was_given_and_what_came_of_it(at: Desk, failed: str) -> None:
    page = at.get(f"{RUNS}/{failed}/steps")
    a, b, c = page["data"]
    assert page["pagination"]["total"] == 3
    assert page["data"] == at.run(failed)["steps"]
    assert (a["status"], a["inputs"], a["outputs"], a["row_count"]) == ("COMPLETED", {"x": 1}, {"n": 7}, 3)
    assert a["execution_id"].startswith("exec_")
    assert (b["status"], b["error"], b["error_category"], b["max_attempts"]) == ("FAILED", "broke", "TRANSIENT", 1)
    assert (c["status"], c["skip_reason"], c["started_at"], c["inputs"]) == ("SKIPPED", "upstream_failed", None, None)
    assert [one["step_order"] for one in (a, b, c)] == [0, 1, 2]
    assert len({one["step_id"] for one in (a, b, c)}) == 3
    assert all(one["step_id"].startswith("step_") and one["run_id"] == failed for one in (a, b, c))
    assert at.get(f"{RUNS}/{failed}/steps", status="FAILED")["data"] == [b]
    assert at.get(f"{RUNS}/{failed}/steps", limit=1, offset=1)["data"] == [b]


def test_steps_are_left_out_when_they_are_not_wanted(at: Desk, failed: str) -> None:
    run = at.run(failed, include_steps="false")
    assert run.pop("steps") == []
    whole = at.run(failed)
    assert len(whole.pop("steps")) == 3
    assert run == whole


def test_a_retried_step_has_a_record_for_each_try(at: Desk) -> None:
    run_id = at.trigger("stubborn")
    at.start(run_id, "a")
    at.fail(run_id, "a", category="TRANSIENT")
    (first,) = at.run(run_id)["steps"]
    assert (first["attempt"], first["max_attempts"], first["status"]) == (1, 3, "FAILED")
    assert first["next_attempt_at"] is not None
    (node,) = at.get(f"{RUNS}/{run_id}/graph")["nodes"]
    assert node["status"] == "WAITING"
    assert at.run(run_id)["failed_steps"] == 0


def test_the_graph_shows_which_way_a_run_went(at: Desk) -> None:
    run_id = at.trigger("branches")

    def graph() -> tuple[dict[str, str], dict[tuple[str, str], Any]]:
        shown = at.get(f"{RUNS}/{run_id}/graph")
        assert (shown["workflow_name"], shown["workflow_version"], shown["run_id"]) == ("branches", 1, run_id)
        edges = {(one["source"], one["target"]): one["taken"] for one in shown["edges"]}
        return {one["id"]: one["status"] for one in shown["nodes"]}, edges

    nodes, edges = graph()
    assert set(nodes.values()) == {"PENDING"}
    assert set(edges.values()) == {None}
    at.complete(run_id, "pick", chosen=True)
    nodes, edges = graph()
    assert nodes == {"pick": "COMPLETED", "x": "PENDING", "y": "SKIPPED", "z": "PENDING"}
    assert (edges["pick", "x"], edges["pick", "y"]) == (True, False)
    at.start(run_id, "x")
    at.complete(run_id, "x")
    at.start(run_id, "z")
    nodes, edges = graph()
    assert nodes["z"] == "RUNNING"
    assert edges["y", "z"] is False


def test_a_map_names_its_child_runs_and_they_name_it(at: Desk) -> None:
    run_id = at.trigger("each")
    child = new_id("run")
    at.start(run_id, "m", items_total=2, items_sha256="ab" * 32)
    at.items(run_id, StartMapItems(step="m", attempt=1, items=[MapItem(index=0, child_run_id=child)]))
    end = EndMapItem(step="m", attempt=1, index=0, child_run_id=child, status="FAILED", error="no")
    at.items(run_id, end)
    (step,) = at.run(run_id)["steps"]
    assert (step["child_run_ids"], step["items_total"], step["items_ended"], step["items_failed"]) == ([child], 2, 1, 1)


def test_events_are_paged_from_the_first_on(at: Desk, failed: str) -> None:
    first = at.get(f"{RUNS}/{failed}/events", limit=2)
    types = [one["type"] for one in first["data"]]
    assert types == ["run.triggered", "run.step_started"]
    assert first["pagination"]["total"] == at.run(failed)["version"] == 7
    rest = at.get(f"{RUNS}/{failed}/events", limit=100, cursor=first["pagination"]["next_cursor"])
    assert [one["stream_version"] for one in rest["data"]] == [3, 4, 5, 6, 7]
    assert at.get(f"{RUNS}/{failed}/events", offset=6)["data"] == rest["data"][-1:]
    assert at.get(f"{RUNS}/{failed}/events", offset=99)["data"] == []


@pytest.mark.parametrize("run_id", ["run_01ARZ3NDEKTSV4RRFFQ69G5FAV", "exec_01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense"])
@pytest.mark.parametrize("sub", ["", "/steps", "/graph", "/events"])
def test_a_run_that_is_not_there_is_not_found(at: Desk, run_id: str, sub: str) -> None:
    body = problem(at.call("GET", f"{RUNS}/{run_id}{sub}"), 404, "not_found")
    assert body["detail"] == f"Workflow run not found: {run_id}"


def test_a_run_that_has_not_changed_is_not_sent_again(at: Desk) -> None:
    run_id = at.trigger("chain")
    answer = at.call("GET", f"{RUNS}/{run_id}")
    tag = answer.headers["etag"]
    assert tag == '"1"'
    assert at.call("GET", f"{RUNS}/{run_id}", headers={"If-None-Match": tag}).status_code == 304
    at.start(run_id, "a")
    again = at.call("GET", f"{RUNS}/{run_id}", headers={"If-None-Match": tag})
    assert (again.status_code, again.headers["etag"]) == (200, '"2"')


def test_every_stage_of_a_run_can_be_seen_again(at: Desk, failed: str) -> None:
    events = at.get(f"{RUNS}/{failed}/events")["data"]
    seen = []
    for event in events:
        answer = at.call("GET", f"{RUNS}/{failed}", params={"as_of": event["position"]})
        assert int(answer.headers["rgrid-as-of-position"]) == event["position"]
        assert "etag" not in answer.headers
        run = answer.json()
        assert run["version"] == event["stream_version"]
        seen.append((run["status"], run["completed_steps"]))
    assert seen[0] == ("PENDING", 0)
    assert seen[1] == ("RUNNING", 0)
    assert seen[-1] == ("FAILED", 1)
    assert at.run(failed, as_of=events[-1]["position"]) == at.run(failed)
    before = {"as_of": events[0]["position"] - 1}
    problem(at.call("GET", f"{RUNS}/{failed}", params=before), 404, "not_found")
    listed = at.get(RUNS, as_of=events[0]["position"], workflow_name="chain")
    assert failed in [one["run_id"] for one in listed["data"]]
    assert at.get(RUNS, workflow_name="chain", **before)["data"] == []
    problem(at.call("GET", RUNS, params={"as_of": 10**12}), 400, "as_of_out_of_range")


def test_the_list_narrows_by_every_filter(at: Desk, failed: str) -> None:
    run = at.run(failed)
    late = {"since": "2020-01-01", "until": "2200-01-01"}
    for query in (
        {"status": "FAILED"}, {"workflow_name": "chain"}, {"domain": "sales"}, {"trigger": "API"},
        {"triggered_by": run["triggered_by"]}, {"status": "FAILED", "domain": "sales", "workflow_name": "chain"}, late,
    ):  # fmt: skip
        page = at.get(RUNS, **query, limit=100)
        assert failed in [one["run_id"] for one in page["data"]], query
        assert page["pagination"]["total"] == len(page["data"])
    for query in (
        {"status": "PARTIAL"}, {"workflow_name": "nothing"}, {"domain": "none"}, {"trigger": "SCHEDULE"},
        {"triggered_by": "key:nobody"}, {"parent_run_id": "run_x"}, {"schedule_id": "sched_x"}, {"until": "2020-01-01"},
    ):  # fmt: skip
        page = at.get(RUNS, **query)
        assert (page["data"], page["pagination"]["total"]) == ([], 0), query


def test_a_row_of_the_list_says_what_the_run_itself_says(at: Desk, failed: str) -> None:
    whole = at.run(failed)
    row = next(one for one in at.get(RUNS, limit=100)["data"] if one["run_id"] == failed)
    assert row == {name: whole[name] for name in row}


@pytest.mark.parametrize("sort", ["created_at", "started_at", "completed_at", "duration_ms", "workflow_name"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_by_cursor_are_the_list(at: Desk, failed: str, sort: str, order: str) -> None:
    whole = [one["run_id"] for one in at.get(RUNS, sort=sort, order=order, limit=100)["data"]]
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    for _ in range(100):
        page = at.get(RUNS, sort=sort, order=order, limit=2, **cursor)
        seen += [one["run_id"] for one in page["data"]]
        if not page["pagination"]["has_more"]:
            break
        cursor = {"cursor": page["pagination"]["next_cursor"]}
    assert seen == whole


@pytest.mark.parametrize(
    "query",
    [{"limit": 101}, {"limit": 0}, {"status": "failed"}, {"trigger": "x"}, {"sort": "error"}, {"what": "1"}],
)
def test_what_a_list_does_not_know_is_refused(at: Desk, query: dict[str, Any]) -> None:
    assert at.call("GET", RUNS, params=query).status_code == 422


def test_since_after_until_and_a_broken_cursor_make_no_sense(at: Desk) -> None:
    problem(at.call("GET", RUNS, params={"since": "2026-02-01", "until": "2026-01-01"}), 400, "invalid_range")
    problem(at.call("GET", RUNS, params={"cursor": "x"}), 400, "invalid_cursor")


def test_a_rebuild_gives_the_same_answers(at: Desk, failed: str) -> None:
    def answers() -> list[Any]:
        lists = [at.get(RUNS, sort=sort, limit=100) for sort in ("created_at", "duration_ms", "workflow_name")]
        counts = [at.get(RUNS, status=status)["pagination"]["total"] for status in ("PENDING", "RUNNING", "FAILED")]
        return [lists, counts, at.run(failed), at.get(f"{RUNS}/{failed}/graph")]

    async def again(name: str) -> None:
        pool = at.service.grid.pool
        table = {"workflow_runs": "workflow_runs", "run_timers": "run_timers", "run_tries": "run_tries"}[name]
        before = await pool.fetchval("select $1::regclass::oid", f"rm.{table}")
        assert await rebuild.ask(pool, name)
        for _ in range(600):
            if await pool.fetchval("select to_regclass($1)::oid is distinct from $2", f"rm.{table}", before):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{name} was not rebuilt")

    async def rows(table: str) -> list[tuple[Any, ...]]:
        return sorted((tuple(row) for row in await at.service.grid.pool.fetch(f"select * from rm.{table}")), key=repr)

    at.do(at.service.seen())
    before = answers(), [at.do(rows(name)) for name in ("run_timers", "run_tries", "workflow_runs_counts")]
    for name in ("workflow_runs", "run_timers", "run_tries"):
        at.do(again(name))
    assert before == (answers(), [at.do(rows(name)) for name in ("run_timers", "run_tries", "workflow_runs_counts")])


def test_a_run_in_parallel_shows_what_waits_for_what(at: Desk) -> None:
    last = Outline(name="d", type="EXECUTION", depends_on=["a", "b"])
    at.define("wide", A, B, last, policy=Policy(mode="PARALLEL"))
    run_id = at.trigger("wide")
    at.start(run_id, "a")
    at.start(run_id, "b")
    at.complete(run_id, "a")
    edges = at.get(f"{RUNS}/{run_id}/graph")["edges"]
    assert [(one["source"], one["target"], one["kind"], one["taken"]) for one in edges] == [
        ("a", "d", "DEPENDS_ON", True),
        ("b", "d", "DEPENDS_ON", None),
    ]
