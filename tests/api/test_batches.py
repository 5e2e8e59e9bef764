"""Batches over HTTP: what is made, how far it is, and how it is stopped and run once more."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from api.one_service import Live, fields, problem

ECHO = "import sys; print(sys.argv[1:])"
# Fails for as long as it is told to, and takes a moment.
FAILS = "import sys; sys.exit(int(sys.argv[1]))"
SLEEPS = "import time; print('on', flush=True); time.sleep(60)"
PATH = "/api/v1/batches"
UNTIL_MAX_S = 60
OVER = {"completed", "partial", "failed", "cancelled"}


def create(live: Live, script: str, items: list[dict[str, Any]], **body: Any) -> dict[str, Any]:
    """A batch that must be accepted."""
    answer = live.http.post(PATH, json={"script_content": script, "items": items, **body})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def detail(live: Live, batch_id: str) -> dict[str, Any]:
    return live.page(f"{PATH}/{batch_id}")


def until(live: Live, batch_id: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    give_up = time.monotonic() + UNTIL_MAX_S
    while not holds(seen := detail(live, batch_id)):
        assert time.monotonic() < give_up, seen
        time.sleep(0.05)
    return seen


def ended(live: Live, batch_id: str) -> dict[str, Any]:
    return until(live, batch_id, lambda seen: seen["status"] in OVER)


def rows(live: Live, batch_id: str, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = live.page(f"{PATH}/{batch_id}/executions", limit=1000, **query)["data"]
    return found


def retry(live: Live, batch_id: str, **query: Any) -> dict[str, Any]:
    answer = live.http.post(f"{PATH}/{batch_id}/retry", params=query)
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_a_batch_runs_its_script_over_every_item(live: Live) -> None:
    answer = live.http.post(
        PATH,
        json={
            "script_content": "import os, sys; print(sys.argv[1:], os.environ['A'], os.environ['B'],"
            " os.environ['RGRID_BATCH_INDEX'])",
            "name": "all",
            "args": ["shared"],
            "env_vars": {"A": "1", "B": "2"},
            "user_metadata": {"team": "sales", "part": "none"},
            "items": [
                {},
                {"args": ["own", "x.csv"], "env_vars": {"B": "3"}, "user_metadata": {"part": "two"}, "name": "two"},
            ],
            "max_parallel": 1,
        },
    )
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"{PATH}/{made['batch_id']}"
    assert int(answer.headers["rgrid-position"]) > 0
    assert (made["total"], made["status"], made["id"]) == (2, "pending", made["batch_id"])
    assert [(one["index"], one["status"], one["upload_urls"]) for one in made["executions"]] == [
        (0, "queued", None),
        (1, "queued", None),
    ]
    seen = ended(live, made["batch_id"])
    assert (seen["status"], seen["counts"]["completed"], seen["percent_complete"]) == ("completed", 2, 100.0)
    assert (seen["eta_seconds"], seen["max_parallel"], seen["name"], seen["fail_fast"]) == (0, 1, "all", False)
    assert seen["total_cost_micros"] == seen["finalized_cost_micros"]
    assert seen["created_at"] <= seen["started_at"] <= seen["completed_at"]
    first, second = (live.get(one["execution_id"]) for one in made["executions"])
    assert first["stdout"] == "['shared'] 1 2 0\n"
    assert second["stdout"] == "['own', 'x.csv'] 1 3 1\n"
    assert (first["name"], second["name"]) == ("all", "two")
    assert first["user_metadata"] == {"team": "sales", "part": "none"}
    assert second["user_metadata"] == {"team": "sales", "part": "two"}
    assert (second["batch_id"], second["batch_index"], second["env_vars"]) == (
        made["batch_id"], 1, {"A": "***", "B": "***"},
    )  # fmt: skip
    assert seen["total_cost_micros"] == first["cost_micros"] + second["cost_micros"]
    assert [row["batch_metadata"]["input_file"] for row in rows(live, made["batch_id"])] == [None, "x.csv"]
    status = live.page(f"{PATH}/{made['batch_id']}/status")
    assert status["statuses"] == ["completed", "completed"]
    again = live.http.get(f"{PATH}/{made['batch_id']}", headers={"If-None-Match": f'"{seen["version"]}"'})
    assert again.status_code == 304


def test_an_item_waits_for_its_inputs_and_holds_up_no_other(live: Live) -> None:
    items = [{"input_files": ["in.txt"], "args": ["in.txt"]}, {"args": ["b"]}]
    made = create(live, "import sys; print(sys.argv[1])", items, max_parallel=1)
    first, second = made["executions"]
    assert (first["status"], set(first["upload_urls"]), second["status"]) == (
        "awaiting_inputs", {"in.txt"}, "queued",
    )  # fmt: skip
    assert live.ended(second["execution_id"])["status"] == "completed"
    seen = until(live, made["batch_id"], lambda seen: seen["counts"]["completed"] == 1)
    assert (seen["status"], seen["counts"]["awaiting_inputs"], seen["percent_complete"]) == ("running", 1, 50.0)
    assert live.http.put(first["upload_urls"]["in.txt"], content=b"x").status_code == 200
    assert live.http.post(f"/api/v1/executions/{first['execution_id']}/inputs/complete").status_code == 200
    assert ended(live, made["batch_id"])["status"] == "completed"
    assert rows(live, made["batch_id"])[0]["batch_metadata"] == {"input_file": "in.txt"}


def test_no_more_than_max_parallel_run_at_a_time(live: Live) -> None:
    script = "import time; print(time.monotonic()); time.sleep(0.2); print(time.monotonic())"
    made = create(live, script, [{}] * 8, max_parallel=2)
    assert ended(live, made["batch_id"])["status"] == "completed"
    spans = [live.get(one["execution_id"])["attempts"][0] for one in made["executions"]]
    moments = sorted([(one["started_at"], 1) for one in spans] + [(one["completed_at"], -1) for one in spans])
    running = peak = 0
    for _, change in moments:
        running += change
        peak = max(peak, running)
    assert peak == 2


def test_a_large_batch_holds_up_no_single_execution(live: Live) -> None:
    made = create(live, "import time; time.sleep(0.2)", [{}] * 60)
    single = live.run(ECHO)
    seen = detail(live, made["batch_id"])
    assert single["status"] == "completed"
    assert seen["counts"]["queued"] > 20, seen
    assert live.http.post(f"{PATH}/{made['batch_id']}/cancel").status_code == 200


def test_fail_fast_cancels_what_runs_and_what_has_not_started(live: Live) -> None:
    script = "import sys, time\nif sys.argv[1] == 'bad': time.sleep(0.5); sys.exit(7)\ntime.sleep(60)"
    made = create(live, script, [{"args": ["long"]}, {"args": ["bad"]}, *[{"args": ["long"]}] * 6],
                  fail_fast=True, max_parallel=2)  # fmt: skip
    seen = ended(live, made["batch_id"])
    assert (seen["status"], seen["fail_fast"]) == ("failed", True)
    assert (seen["counts"]["failed"], seen["counts"]["cancelled"]) == (1, 7)
    found = rows(live, made["batch_id"])
    assert (found[1]["exit_code"], found[1]["failure_reason"]) == (7, "exit_code")
    assert found[0]["started_at"] is not None
    assert all(row["started_at"] is None for row in found[2:])


def test_a_batch_stops_at_the_failure_that_is_one_too_many(live: Live) -> None:
    made = create(live, FAILS, [{"args": ["1"]}] * 3 + [{"args": ["0"]}] * 3, max_parallel=1, failures_max=2)
    seen = ended(live, made["batch_id"])
    assert seen["counts"]["failed"] in (2, 3)  # one more may have begun before the grid knew of the second
    assert seen["counts"]["cancelled"] >= 2


def test_cancel_stops_everything(live: Live) -> None:
    made = create(live, SLEEPS, [{}] * 5, max_parallel=2)
    until(live, made["batch_id"], lambda seen: seen["counts"]["running"] == 2)
    answer = live.http.post(f"{PATH}/{made['batch_id']}/cancel", json={"reason": "wrong script"})
    assert answer.status_code == 200
    assert answer.json()["status"] == "cancelling"
    nothing = problem(live.http.post(f"{PATH}/{made['batch_id']}/retry"), 409, "nothing_to_retry")
    assert nothing["current_status"] in ("cancelling", "cancelled")
    seen = ended(live, made["batch_id"])
    assert (seen["status"], seen["counts"]["cancelled"]) == ("cancelled", 5)
    assert rows(live, made["batch_id"])[0]["execution_error"] == "wrong script"
    refused = live.http.post(f"{PATH}/{made['batch_id']}/cancel")
    assert problem(refused, 409, "illegal_transition")["current_status"] == "cancelled"


def test_what_failed_runs_once_more_in_place(live: Live) -> None:
    script = (
        "import pathlib, sys\n"
        "sys.exit(0 if pathlib.Path('in.txt').read_text() == 'good' or sys.argv[1] == 'ok' else 3)\n"
    )
    items = [{"args": ["ok"], "input_files": ["in.txt"]}, {"args": ["no"], "input_files": ["in.txt"]}]
    made = create(live, script, items, env_vars={"WHO": "me"})
    for one in made["executions"]:
        live.http.put(one["upload_urls"]["in.txt"], content=b"bad")
        live.http.post(f"/api/v1/executions/{one['execution_id']}/inputs/complete")
    before = ended(live, made["batch_id"])
    assert before["status"] == "partial"
    retried = retry(live, made["batch_id"])
    bad = made["executions"][1]["execution_id"]
    (new,) = retried["retried"]
    assert (new["original_execution_id"], new["index"]) == (bad, 1)
    execution = live.ended(new["execution_id"])
    assert (execution["retry_of"], execution["batch_index"], execution["root_execution_id"]) == (bad, 1, bad)
    assert (execution["status"], execution["upload_urls"]) == ("failed", None)
    after = ended(live, made["batch_id"])
    assert (after["status"], after["total"], after["counts"]["failed"]) == ("partial", 2, 1)
    assert after["total_cost_micros"] == before["total_cost_micros"] + execution["cost_micros"]
    assert [row["execution_id"] for row in rows(live, made["batch_id"])][1] == new["execution_id"]
    old = rows(live, made["batch_id"], include_superseded="true")[1]
    assert (old["execution_id"], old["superseded_by"]) == (bad, new["execution_id"])
    everything = retry(live, made["batch_id"], failed_only="false")["retried"]
    assert [one["index"] for one in everything] == [0, 1]


def test_a_single_retry_takes_its_place_in_the_batch(live: Live) -> None:
    made = create(live, FAILS, [{"args": ["1"]}, {"args": ["0"]}])
    ended(live, made["batch_id"])
    execution_id = made["executions"][0]["execution_id"]
    answers = [live.http.post(f"/api/v1/executions/{execution_id}/retry") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    newest = answers[1].json()["execution_id"]
    ended(live, made["batch_id"])
    assert rows(live, made["batch_id"])[0]["execution_id"] == newest
    assert len(rows(live, made["batch_id"], include_superseded="true")) == 4


def test_a_batch_that_is_cancelled_can_be_retried_and_cancelled_again(live: Live) -> None:
    made = create(live, SLEEPS, [{}, {}], max_parallel=1)
    for _ in range(2):
        until(live, made["batch_id"], lambda seen: seen["counts"]["running"] == 1)
        assert live.http.post(f"{PATH}/{made['batch_id']}/cancel").status_code == 200
        assert ended(live, made["batch_id"])["status"] == "cancelled"
        assert len(retry(live, made["batch_id"])["retried"]) == 2
    assert live.http.post(f"{PATH}/{made['batch_id']}/cancel").status_code == 200
    assert ended(live, made["batch_id"])["counts"]["cancelled"] == 2


def test_nothing_failed_so_there_is_nothing_to_retry(live: Live) -> None:
    made = create(live, ECHO, [{}])
    assert ended(live, made["batch_id"])["status"] == "completed"
    problem(live.http.post(f"{PATH}/{made['batch_id']}/retry"), 409, "nothing_to_retry")


def test_nothing_can_be_added_to_a_batch_that_was_made_as_a_whole(live: Live) -> None:
    made = create(live, ECHO, [{}])
    problem(live.create(script_content=ECHO, batch_id=made["batch_id"]), 409, "batch_closed")


def test_executions_with_a_batch_id_of_their_clients_are_a_batch_too(live: Live) -> None:
    batch_id = f"batch_mine{time.time_ns()}"
    for code in ("0", "4"):
        live.submit(FAILS, args=[code], batch_id=batch_id)
    seen = until(live, batch_id, lambda seen: seen["total"] == 2 and seen["status"] == "partial")
    assert (seen["max_parallel"], seen["fail_fast"], seen["name"]) == (None, False, None)
    assert [row["index"] for row in rows(live, batch_id)] == [0, 1]
    (one,) = retry(live, batch_id)["retried"]
    assert one["index"] == 1
    ended(live, batch_id)
    assert len(rows(live, batch_id)) == 2
    assert batch_id in [row["batch_id"] for row in live.page(PATH, limit=1000)["data"]]
    assert live.page("/api/v1/executions", batch_id=batch_id)["pagination"]["total"] == 3


def test_batches_are_listed_newest_first_and_filtered(live: Live) -> None:
    made = [create(live, FAILS, [{"args": [code]}])["batch_id"] for code in ("0", "1", "0")]
    for batch_id in made:
        ended(live, batch_id)
    newest = live.page(PATH, limit=3)
    assert [row["batch_id"] for row in newest["data"]] == made[::-1]
    second = live.page(PATH, limit=3, cursor=newest["pagination"]["next_cursor"])
    assert not {row["batch_id"] for row in second["data"]} & set(made)
    assert made[1] in [row["batch_id"] for row in live.page(PATH, status="failed", limit=1000)["data"]]
    assert made[1] not in [row["batch_id"] for row in live.page(PATH, status="completed", limit=1000)["data"]]
    for sort in ("created_at", "completed_at", "total"):
        assert live.page(PATH, sort=sort, order="asc", limit=2)["pagination"]["has_more"]
    since = live.page(PATH, since=newest["data"][1]["created_at"])
    assert [row["batch_id"] for row in since["data"]] == made[:0:-1]


def test_a_batch_of_ten_thousand_is_made_in_one_request(idle: Live) -> None:
    items = [{"args": [f"part-{number}.csv"], "env_vars": {"N": str(number)}} for number in range(10_000)]
    made = create(idle, ECHO, items, max_parallel=10)
    assert (made["total"], len(made["executions"])) == (10_000, 10_000)
    seen = until(idle, made["batch_id"], lambda seen: seen["total"] == 10_000)
    assert (seen["status"], seen["counts"]["queued"], seen["eta_seconds"]) == ("pending", 10_000, None)
    last = idle.page(f"{PATH}/{made['batch_id']}/executions", offset=9_999)["data"][0]
    assert (last["index"], last["batch_metadata"]["input_file"]) == (9_999, "part-9999.csv")
    assert idle.http.post(f"{PATH}/{made['batch_id']}/cancel").status_code == 200
    assert ended(idle, made["batch_id"])["counts"]["cancelled"] == 10_000
    assert len(retry(idle, made["batch_id"])["retried"]) == 10_000
    assert until(idle, made["batch_id"], lambda seen: seen["counts"]["queued"] == 10_000)["status"] == "pending"
    assert idle.http.post(f"{PATH}/{made['batch_id']}/cancel").status_code == 200


@pytest.mark.parametrize(
    ("change", "status", "code", "field"),
    [
        ({"items": []}, 422, "validation_failed", "items"),
        ({"max_parallel": 0}, 422, "validation_failed", "max_parallel"),
        ({"failures_max": 0}, 422, "validation_failed", "failures_max"),
        ({"items": [{}, {"env_vars": {"1A": "x"}}]}, 422, "validation_failed", "items[1].env_vars.1A"),
        ({"items": [{"env_vars": {"PATH": "x"}}]}, 422, "validation_failed", "items[0].env_vars.PATH"),
        ({"items": [{"user_metadata": {"k": "v" * 513}}]}, 422, "validation_failed", "items[0].user_metadata.k"),
        ({"items": [{"unknown": 1}]}, 422, "validation_failed", None),
        ({"runtime": "cobol"}, 422, "unknown_runtime", "runtime"),
        ({"items": [{"input_files": ["../x"]}]}, 400, "bad_file_name", "items[0].input_files[0]"),
        ({"env_vars": {"A": "1"}, "secret_env": {"A": "env:X"}}, 400, "duplicate_variable", "env_vars.A"),
    ],
)
def test_a_batch_that_makes_no_sense_is_refused_whole(
    idle: Live, change: dict[str, Any], status: int, code: str, field: str | None
) -> None:
    before = idle.page(PATH)["pagination"]["total"]
    answer = idle.http.post(PATH, json={"script_content": ECHO, "items": [{}], **change})
    problem(answer, status, code)
    assert field is None or field in fields(answer)
    assert idle.page(PATH)["pagination"]["total"] == before


@pytest.mark.parametrize("sub", ["", "/status", "/executions"])
def test_an_unknown_batch_is_not_found(idle: Live, sub: str) -> None:
    for batch_id in ("batch_01JB2Z4M7K8P9Q0R1S2T3V4W5X", "nonsense"):
        problem(idle.http.get(f"{PATH}/{batch_id}{sub}"), 404, "not_found")
    for action in ("cancel", "retry"):
        problem(idle.http.post(f"{PATH}/batch_01JB2Z4M7K8P9Q0R1S2T3V4W5X/{action}"), 404, "not_found")


def test_a_repeated_request_makes_one_batch(idle: Live) -> None:
    body = json.dumps({"script_content": ECHO, "items": [{}, {}]})
    headers = {"Idempotency-Key": f"twice-{time.time_ns()}", "Content-Type": "application/json"}
    first, second = (idle.http.post(PATH, content=body, headers=headers) for _ in range(2))
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert second.headers["idempotency-replayed"] == "true"
