"""How executions end: exit codes, signals, limits, cancels, and the sentence that helps. Real scripts, real limits."""

import json
from typing import Any

import pytest
from api.one_service import Live, moment, problem

STUBBORN = """
import signal, time, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
print('ready', flush=True)
time.sleep(600)
"""
POLITE = """
import signal, sys, time
def leave(*_):
    print('leaving', flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print('ready', flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module", autouse=True)
def stubborn(live: Live) -> str:
    """A script that was asked to leave and doesn't; it has ten seconds, so the other tests go on meanwhile."""
    execution_id: str = live.started(STUBBORN)["execution_id"]
    assert live.cancel(execution_id).json()["status"] == "cancel_requested"
    again = live.cancel(execution_id)
    assert (again.status_code, again.json()["status"]) == (200, "cancel_requested")
    assert "rgrid-position" not in again.headers
    return execution_id


@pytest.mark.parametrize(
    ("script", "exit_code"),
    [
        ("raise SystemExit(1)", 1),
        ("raise SystemExit(255)", 255),
        ("import os; os._exit(42)", 42),
        ("raise ValueError('x')", 1),
        ("import os; os.kill(os.getpid(), 6)", 134),
        ("import os; os.kill(os.getpid(), 11)", 139),
        ("import os; os.kill(os.getpid(), 15)", 143),
        ("import os; os.kill(os.getpid(), 9)", 137),
    ],
)
def test_the_exit_code_is_the_scripts_and_a_signal_adds_128(live: Live, script: str, exit_code: int) -> None:
    ended = live.run(f"print('before', flush=True)\n{script}")
    assert (ended["status"], ended["exit_code"], ended["failure_reason"]) == ("failed", exit_code, "exit_code")
    assert ended["stdout"] == "before\n"
    assert (ended["retry_count"], len(ended["attempts"])) == (0, 1)


def test_the_time_limit_ends_everything_and_keeps_what_was_printed(live: Live) -> None:
    ended = live.run(STUBBORN, timeout_seconds=1)
    assert (ended["status"], ended["exit_code"], ended["failure_reason"]) == ("timed_out", None, "timeout")
    assert ended["stdout"] == "ready\n"
    assert ended["hint"]
    assert len(ended["attempts"]) == 1
    assert 1000 <= ended["duration_ms"] < 7000
    assert ended["finalized_cost_micros"] == ended["cost_micros"] > 0


def test_the_memory_limit_is_told_from_other_kills(live: Live) -> None:
    ended = live.run("print('go', flush=True)\nx = bytearray(300 * 1024 * 1024)\nprint(len(x))", memory_mb=64)
    assert (ended["status"], ended["exit_code"], ended["failure_reason"]) == ("failed", 137, "out_of_memory")
    assert ended["stdout"] == "go\n"
    assert "64 MB" in ended["hint"]
    assert len(ended["attempts"]) == 1


def test_outputs_are_kept_after_a_failure_and_after_a_timeout(live: Live) -> None:
    script = (
        "open('half.txt','w').write('half'); print('x', flush=True); import time; time.sleep({})\nraise SystemExit(1)"
    )
    for ended in (live.run(script.format(0)), live.run(script.format(60), timeout_seconds=1)):
        assert ended["status"] in ("failed", "timed_out")
        (artifact,) = live.page(f"/api/v1/executions/{ended['execution_id']}/artifacts")["data"]
        assert (artifact["filename"], artifact["size_bytes"]) == ("half.txt", 4)


def test_cancelling_what_has_not_started_is_at_once(live: Live, idle: Live) -> None:
    waiting = live.submit("print(1)", input_files=["a"])
    queued = idle.submit("print(1)")
    for service, execution in ((live, waiting), (idle, queued)):
        answer = service.http.post(
            f"/api/v1/executions/{execution['execution_id']}/cancel", json={"reason": "not needed any more"}
        )
        body = answer.json()
        assert (answer.status_code, body["status"], body["id"]) == (200, "cancelled", execution["execution_id"])
        seen = service.get(execution["execution_id"])
        assert (seen["status"], seen["failure_reason"]) == ("cancelled", "cancelled")
        assert (seen["cost_micros"], seen["finalized_cost_micros"], seen["attempts"]) == (0, 0, [])
        assert (seen["stdout"], seen["stderr"], seen["queue_position"]) == (None, None, None)
        assert service.events(execution["execution_id"])[-1]["data"]["reason"] == "not needed any more"


def test_cancelling_a_running_script_asks_it_first(live: Live) -> None:
    execution_id = live.started(POLITE)["execution_id"]
    answer = live.cancel(execution_id)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancel_requested")
    ended = live.ended(execution_id)
    assert ended["status"] in ("cancelled", "completed")
    assert "leaving" in ended["stdout"]
    assert moment(ended["cancel_requested_at"]) <= moment(ended["completed_at"])
    assert live.cancel(execution_id).status_code == (200 if ended["status"] == "cancelled" else 409)


@pytest.mark.parametrize("body", [b'{"reason": 1}', b'{"why": "x"}', b"[]", b'{"reason": "' + b"x" * 1001 + b'"}'])
def test_a_cancel_with_a_wrong_body_changes_nothing(idle: Live, body: bytes) -> None:
    execution_id = idle.submit("print(1)")["execution_id"]
    answer = idle.http.post(
        f"/api/v1/executions/{execution_id}/cancel", content=body, headers={"content-type": "application/json"}
    )
    problem(answer, 422, "validation_failed")
    assert idle.get(execution_id)["status"] == "queued"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import pandas_is_not_here", "not installed"),
        ("def f(:\n", "read the script"),
        ("open('missing.csv')", "missing.csv"),
        ("open('/etc/new', 'w')", "/work"),
        ("raise MemoryError", "memory"),
        ("import socket; socket.create_connection(('127.0.0.1', 9))", "network"),
        ("from os import nothing_like_it", "nothing_like_it"),
        ("raise SystemExit(1)", None),
        ("print('ModuleNotFoundError: No module named x')\nraise SystemExit(1)", None),
        ("import sys; print('ModuleNotFoundError: No module named x', file=sys.stderr)", None),
    ],
)
def test_a_common_failure_comes_with_one_sentence_of_advice(live: Live, script: str, words: str | None) -> None:
    hint = live.run(script)["hint"]
    if words is None:
        assert hint is None
    else:
        assert words in hint
        assert hint.endswith(".")


def test_an_argument_too_long_for_the_kernel_arrives_or_fails_with_a_reason(live: Live) -> None:
    ended = live.run("import sys; print(len(sys.argv[1]))", args=["x" * 300_000], max_retries=0)
    assert ended["stdout"] == "300000\n" or ended["execution_error"], ended


def test_arguments_arrive_as_they_were_given(live: Live) -> None:
    given = ["--flag", "a b", "", "ünï", "$(id)", "; rm -rf /", "'\"", "-", "\n", "日本"]
    ended = live.run("import sys, json; print(json.dumps(sys.argv[1:]))", args=given)
    assert json.loads(ended["stdout"]) == given


def cheap(ended: dict[str, Any]) -> int:
    duration: int = ended["duration_ms"]
    return (duration * 8000 + 1_800_000) // 3_600_000


def test_the_cost_is_that_of_the_milliseconds_and_is_final_with_the_state(live: Live) -> None:
    ended = live.run("import time; time.sleep(0.5)")
    assert ended["cost_micros"] == ended["finalized_cost_micros"] == cheap(ended) >= 1
    assert ended["cost_finalized_at"] == ended["completed_at"]
    assert ended["cost_display"].startswith(("€0.0", "<€"))
    running = live.started("print('x', flush=True)\nimport time; time.sleep(60)")
    assert (running["finalized_cost_micros"], running["cost_finalized_at"]) == (None, None)
    live.stop(running["execution_id"])


def test_a_script_that_ignores_the_request_is_killed_and_counts_as_cancelled(live: Live, stubborn: str) -> None:
    ended = live.ended(stubborn)
    assert (ended["status"], ended["failure_reason"]) == ("cancelled", "cancelled")
    assert [attempt["status"] for attempt in ended["attempts"]] == ["cancelled"]
    assert ended["stdout"] == "ready\n"
    took = moment(ended["completed_at"]) - moment(ended["cancel_requested_at"])
    assert 9 < took.total_seconds() < 20
