"""Executions over HTTP: what is submitted is what runs, and what GET shows."""

import hashlib
import json

import pytest
from api.one_service import Live, fields, moment, problem

ECHO_ENV = "import os, json; print(json.dumps({k: v for k, v in os.environ.items() if 'RGRID' in k or k == 'WHO'}))"


def test_a_script_runs_and_its_whole_resource_tells_how(live: Live) -> None:
    script = "import sys\nprint('to out')\nprint('to err', file=sys.stderr)\n"
    answer = live.create(script_content=script, name="first", args=["a", "b c"], user_metadata={"team": "sales"})
    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["location"] == f"/api/v1/executions/{made['execution_id']}"
    assert answer.headers["etag"] == f'"{made["version"]}"'
    assert int(answer.headers["rgrid-position"]) > 0
    ended = live.ended(made["execution_id"])
    assert (ended["status"], ended["exit_code"], ended["failure_reason"]) == ("completed", 0, None)
    assert (ended["stdout"], ended["stderr"]) == ("to out\n", "to err\n")
    assert ended["script_content"] == script
    assert ended["script_sha256"] == hashlib.sha256(script.encode()).hexdigest()
    assert (ended["name"], ended["args"], ended["user_metadata"]) == ("first", ["a", "b c"], {"team": "sales"})
    assert ended["root_execution_id"] == ended["execution_id"]
    assert ended["retry_of"] is None
    assert ended["duration_seconds"] == ended["duration_ms"] / 1000
    (attempt,) = ended["attempts"]
    assert (attempt["attempt"], attempt["status"], attempt["worker_id"]) == (1, "completed", ended["worker_id"])
    assert attempt["hourly_micros"] == 8000
    assert attempt["cost_micros"] == (attempt["duration_ms"] * 8000 + 1_800_000) // 3_600_000


def test_times_are_in_order_and_in_utc(finished: dict[str, str]) -> None:
    times = [moment(finished[name]) for name in ("created_at", "queued_at", "started_at", "completed_at")]
    assert times == sorted(times)
    assert moment(finished["expires_at"]) > times[-1]
    assert finished["cost_finalized_at"] == finished["completed_at"]


def test_an_exit_code_of_zero_and_nothing_else_means_completed(live: Live) -> None:
    failed = live.run("import sys; sys.exit(3)")
    assert (failed["status"], failed["exit_code"], failed["failure_reason"]) == ("failed", 3, "exit_code")
    assert failed["execution_error"]
    completed = live.run("import sys; print('x', file=sys.stderr); sys.exit(0)")
    assert (completed["status"], completed["exit_code"], completed["execution_error"]) == ("completed", 0, None)


def test_a_terminal_state_is_final(live: Live, finished: dict[str, str]) -> None:
    execution_id = finished["execution_id"]
    refused = live.cancel(execution_id)
    assert problem(refused, 409, "illegal_transition")["current_status"] == "completed"
    late = live.call(
        "POST",
        f"/api/v1/executions/{execution_id}/logs/stream",
        live.lease_token({**finished, "attempts": [{"attempt": 1, "fencing_token": 77}]}),
        params={"sequence_number": 900, "stream": "stdout", "message": "late"},
    )
    problem(late, 409, "execution_finished")
    assert live.get(execution_id)["version"] == finished["version"]


def test_without_inputs_an_execution_starts_queued_and_with_inputs_it_waits(live: Live, idle: Live) -> None:
    assert idle.submit("print(1)")["status"] == "queued"
    waiting = live.submit("print(1)", input_files=["a.csv"])
    assert (waiting["status"], waiting["queued_at"]) == ("awaiting_inputs", None)
    assert live.get(waiting["execution_id"])["attempts"] == []
    live.cancel(waiting["execution_id"])


def test_a_cached_reference_that_did_not_come_from_the_cache_is_unknown(live: Live) -> None:
    refused = live.create(
        script_content="1", input_files=["a"], cached_input_refs={"a": "objects/" + "0" * 64}, batch_id="nonsense"
    )
    problem(refused, 404, "cache_reference_unknown")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"timeout_seconds": 0, "runtime": "cobol"}, 422, "validation_failed"),
        ({"env_vars": {"PATH": "x"}, "runtime": "cobol"}, 422, "validation_failed"),
        ({"input_files": [{"name": "a", "sha256": "Z" * 64}], "runtime": "cobol"}, 422, "validation_failed"),
        ({"runtime": "cobol", "input_files": ["../x"]}, 422, "unknown_runtime"),
        (
            {"runtime": "cobol", "env_vars": {"A": "1"}, "secret_env": {"A": "env:RGRID_SECRET_A"}},
            422,
            "unknown_runtime",
        ),
        ({"env_vars": {"A": "1"}, "secret_env": {"A": "env:RGRID_SECRET_A"}}, 400, "duplicate_variable"),
        ({"input_files": ["../x"], "cached_input_refs": {"x": "y"}}, 400, "bad_file_name"),
        ({"secret_env": {"A": "/etc/passwd"}, "cached_input_refs": {"x": "y"}}, 400, "bad_secret_ref"),
        ({"cached_input_refs": {"x": "y"}, "batch_id": "batch_?"}, 404, "cache_reference_unknown"),
        ({"batch_id": "batch_?"}, 404, "not_found"),
        ({"batch_id": "batch_short"}, 404, "not_found"),
    ],
)
def test_a_bad_request_is_told_its_first_fault_in_one_fixed_order(
    live: Live, body: dict[str, object], status: int, code: str
) -> None:
    before = live.page("/api/v1/executions", limit=1)["pagination"]["total"]
    problem(live.create(script_content="print(1)", **body), status, code)
    assert live.page("/api/v1/executions", limit=1)["pagination"]["total"] == before


def test_what_is_asked_for_is_what_get_returns_and_the_runner_applies(live: Live) -> None:
    script = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0]); open('/work/x','w').write('x')"
    asked = {"timeout_seconds": 7, "cpu": 0.5, "memory_mb": 96, "network": False, "max_retries": 0}
    ended = live.run(script, **asked)
    assert ended["status"] == "completed", ended
    assert {name: ended[name] for name in asked} == asked
    assert ended["attempts"][0]["hourly_micros"] == 4000


def test_a_script_without_network_reaches_nothing_and_is_told_why(live: Live) -> None:
    script = "import socket; socket.create_connection(('1.1.1.1', 80), 2)"
    ended = live.run(script)
    assert (ended["status"], ended["failure_reason"]) == ("failed", "exit_code")
    assert "network" in ended["hint"]


def test_a_script_sees_its_variables_and_who_it_is(live: Live) -> None:
    ended = live.run(ECHO_ENV, env_vars={"WHO": "wörld\n2"}, batch_id="batch_abcDEF0123")
    assert ended["env_vars"] == {"WHO": "***"}
    seen = json.loads(ended["stdout"])
    assert seen["WHO"] == "wörld\n2"
    assert seen["RGRID_EXECUTION_ID"] == ended["execution_id"]
    assert seen["RGRID_ATTEMPT"] == "1"
    assert seen["RGRID_BATCH_ID"] == "batch_abcDEF0123"
    assert "KKKK" not in ended["stdout"]


def test_values_of_variables_are_in_no_answer_and_no_event(live: Live) -> None:
    made = live.create(script_content="print('ok')", env_vars={"TOKEN": "hush-hush-4711"})
    execution_id = made.json()["execution_id"]
    live.ended(execution_id)
    path = f"/api/v1/executions/{execution_id}"
    for answer in (made, live.http.get(path), live.http.get(f"{path}/events"), live.http.get("/api/v1/executions")):
        assert "hush-hush-4711" not in answer.text
    files = [file for file in (live.folder / "objects").rglob("*") if file.is_file()]
    assert not [file for file in files if b"hush-hush-4711" in file.read_bytes()]


def test_a_secret_that_leads_nowhere_ends_the_attempt_with_its_reference_and_no_value(live: Live) -> None:
    ended = live.run("print(1)", secret_env={"A": "env:RGRID_SECRET_NOT_THERE"}, max_retries=0)
    assert ended["status"] == "failed"
    assert "env:RGRID_SECRET_NOT_THERE" in ended["execution_error"]
    assert ended["secret_env"] == {"A": "env:RGRID_SECRET_NOT_THERE"}


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "LD_PRELOAD", "RGRID_EXECUTION_ID", "1A", "A-B", "A B", "", "Ä", "A\n"]
)
@pytest.mark.parametrize("field", ["env_vars", "secret_env"])
def test_a_reserved_or_odd_variable_is_refused_by_name(live: Live, field: str, name: str) -> None:
    refused = live.create(script_content="1", **{field: {name: "env:RGRID_SECRET_X"}})
    problem(refused, 422, "validation_failed")
    assert fields(refused) == {f"{field}.{name}"}


def test_metadata_is_bounded_and_comes_back_as_given(live: Live) -> None:
    given = {"k" * 64: "v" * 512, "ключ.с[скобками]": "значение", "": "empty key"}
    refused = live.create(script_content="1", user_metadata=given)
    assert fields(refused) == {"user_metadata."}
    del given[""]
    execution = live.submit("1", user_metadata=given)
    assert live.get(execution["execution_id"])["user_metadata"] == given
    over = live.create(script_content="1", user_metadata={"k" * 65: "v", "k": "v" * 513})
    problem(over, 422, "validation_failed")
    assert len(fields(over)) == 2


def test_an_open_batch_takes_executions_one_by_one(live: Live) -> None:
    ours = [live.submit("print(1)", batch_id="batch_opentests1")["execution_id"] for _ in range(3)]
    seen = live.page("/api/v1/executions", batch_id="batch_opentests1")
    assert {row["execution_id"] for row in seen["data"]} == set(ours)
    assert {row["batch_index"] for row in seen["data"]} == {None}


def test_a_large_script_in_many_scripts_of_unicode_is_kept_byte_for_byte(live: Live) -> None:
    head = "print('日本語 עברית 🎉 ü')\n"
    script = head + "#" + "é" * (1_048_576 - len(head) - 1)
    ended = live.run(script)
    assert ended["stdout"] == "日本語 עברית 🎉 ü\n"
    assert ended["script_content"] == script
    problem(live.create(script_content=script + "x"), 422, "validation_failed")
