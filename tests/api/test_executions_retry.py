"""A retry by the user: a new execution like the one that ended, down to its inputs and hidden variables."""

from typing import Any

import pytest
from api.one_service import Live, problem

SAME = (
    "name", "script_content", "script_sha256", "runtime", "args", "env_vars", "secret_env", "timeout_seconds", "cpu",
    "memory_mb", "network", "max_retries", "user_metadata", "batch_id", "batch_index", "input_files",
    "root_execution_id",
)  # fmt: skip


def retry(live: Live, execution_id: str, **more: Any) -> Any:
    return live.http.post(f"/api/v1/executions/{execution_id}/retry", **more)


def test_a_retry_runs_the_same_once_more_with_inputs_by_reference(live: Live, finished: dict[str, Any]) -> None:
    answer = retry(live, finished["execution_id"])
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["execution_id"] != finished["execution_id"]
    assert answer.headers["location"] == f"/api/v1/executions/{made['execution_id']}"
    assert int(answer.headers["rgrid-position"]) > 0
    assert (made["status"], made["upload_urls"], made["inputs_deadline"]) == ("queued", None, None)
    assert made["inputs"] == finished["inputs"]
    assert (made["retry_of"], made["retry_count"]) == (finished["execution_id"], 0)
    assert {name: made[name] for name in SAME} == {name: finished[name] for name in SAME}
    ended = live.ended(made["execution_id"])
    assert (ended["status"], ended["stdout"]) == ("completed", "out given\n")
    assert live.get(finished["execution_id"])["version"] == finished["version"]


def test_a_retry_of_a_retry_keeps_the_root(live: Live) -> None:
    first = live.run("raise SystemExit(4)", batch_id="batch_retrytest1", user_metadata={"a": "b"})
    second = live.ended(retry(live, first["execution_id"]).json()["execution_id"])
    third = live.ended(retry(live, second["execution_id"]).json()["execution_id"])
    assert [one["exit_code"] for one in (first, second, third)] == [4, 4, 4]
    assert third["retry_of"] == second["execution_id"]
    assert third["root_execution_id"] == first["execution_id"]
    assert {name: third[name] for name in SAME} == {name: first[name] for name in SAME}
    listed = live.page("/api/v1/executions", batch_id="batch_retrytest1")["data"]
    assert [row["retry_of"] for row in listed] == [second["execution_id"], first["execution_id"], None]


def test_hidden_variables_go_along_sealed_anew(live: Live) -> None:
    first = live.run("import os; print(len(os.environ['HIDDEN']))", env_vars={"HIDDEN": "seventeen letters"})
    second = live.ended(retry(live, first["execution_id"]).json()["execution_id"])
    assert (second["stdout"], second["env_vars"]) == ("17\n", {"HIDDEN": "***"})
    sealed = [live.events(one["execution_id"])[0]["data"]["env_sealed"]["HIDDEN"] for one in (first, second)]
    assert sealed[0] != sealed[1]


@pytest.mark.parametrize("inputs", [[], ["a.csv"]])
def test_what_has_not_ended_cannot_be_retried(idle: Live, inputs: list[str]) -> None:
    execution = idle.submit("print(1)", input_files=inputs)
    body = problem(retry(idle, execution["execution_id"]), 409, "illegal_transition")
    assert body["current_status"] == execution["status"]


def test_a_running_one_cannot_be_retried_and_a_cancelled_one_can(live: Live) -> None:
    running = live.started("print('on', flush=True)\nimport time; time.sleep(60)")
    body = problem(retry(live, running["execution_id"]), 409, "illegal_transition")
    assert body["current_status"] == "running"
    live.stop(running["execution_id"])
    again = retry(live, running["execution_id"]).json()
    assert again["status"] == "queued"
    live.stop(again["execution_id"])


def test_one_that_never_got_its_inputs_waits_for_them_again(live: Live) -> None:
    first = live.submit("print(open('a').read())", input_files=["a"])
    live.cancel(first["execution_id"])
    again = retry(live, first["execution_id"]).json()
    assert (again["status"], list(again["upload_urls"])) == ("awaiting_inputs", ["a"])
    assert live.http.put(again["upload_urls"]["a"], content=b"late").status_code == 200
    live.http.post(f"/api/v1/executions/{again['execution_id']}/inputs/complete")
    assert live.ended(again["execution_id"])["stdout"] == "late\n"


def test_inputs_that_are_gone_cannot_be_retried(live: Live) -> None:
    first = live.submit("print(1)", input_files=["a"])
    live.http.put(first["upload_urls"]["a"], content=b"only here 8150")
    live.http.post(f"/api/v1/executions/{first['execution_id']}/inputs/complete")
    sha256 = live.ended(first["execution_id"])["inputs"][0]["sha256"]
    (live.folder / "objects" / sha256[:2] / sha256[2:]).unlink()
    problem(retry(live, first["execution_id"]), 410, "inputs_expired")


def test_a_retry_under_one_key_is_one_execution(live: Live, finished: dict[str, Any]) -> None:
    headers = {"idempotency-key": "retry-once"}
    first = retry(live, finished["execution_id"], headers=headers)
    second = retry(live, finished["execution_id"], headers=headers)
    assert second.content == first.content
    assert second.headers["idempotency-replayed"] == "true"
    live.ended(first.json()["execution_id"])


def test_a_retry_is_made_by_whoever_asked_for_it(live: Live, finished: dict[str, Any]) -> None:
    secret = live.key("run")
    made = live.call("POST", f"/api/v1/executions/{finished['execution_id']}/retry", secret).json()
    assert made["created_by"] == live.call("GET", "/api/v1/me", secret).json()["actor"]
    assert made["created_by"] != finished["created_by"]
