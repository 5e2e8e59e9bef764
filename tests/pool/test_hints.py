"""The advice for the failures that everybody meets, and silence where nothing is known."""

import pytest

from rgrid.pool.engines.engine import Ended
from rgrid.pool.hints import Failure, hint_for
from rgrid.pool.protocol import Assignment, InputRef, Lease
from rgrid.pool.verdict import ended_before_kill, judge


def hint(*stderr: str, why: str = "exited", network: bool = True) -> str | None:
    failure = Failure(why=why, stderr=stderr, runtime="python:3.11", timeout_s=30, memory_mb=512, network=network)
    return hint_for(failure)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("ModuleNotFoundError: No module named 'pandas'", "'pandas' is not installed in python:3.11"),
        ("ModuleNotFoundError: No module named 'cv2'", "'opencv-python-headless'"),
        ("ModuleNotFoundError: No module named 'sklearn.svm'", "'scikit-learn'"),
        ("Error: Cannot find module 'lodash'", "'lodash' is not installed"),
        ("Error: Cannot find module './own.js'", "upload it as an input"),
        ("ImportError: cannot import name 'x' from 'y' (/y.py)", "There is no 'x'"),
        ("SyntaxError: invalid syntax", "can't read the script"),
        ("IndentationError: unexpected indent", "can't read the script"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'data.csv'", "'data.csv' is not there"),
        ("Error: ENOENT: no such file or directory, open 'data.csv'", "'data.csv' is not there"),
        ("PermissionError: [Errno 13] Permission denied: '/etc/x'", "only in /work and /tmp"),
        ("OSError: [Errno 30] Read-only file system: '/x'", "only in /work and /tmp"),
        ("MemoryError", "raise memory_mb"),
        ("numpy.core._exceptions._ArrayMemoryError: Unable to allocate 8 GiB", "raise memory_mb"),
        ("FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory", "raise memory_mb"),
        ("ConnectionRefusedError: [Errno 111] Connection refused", "Nothing accepted the connection"),
        ("TimeoutError: timed out", "did not answer in time"),
        ("OSError: [Errno 28] No space left on device", "100 MiB"),
    ],
)
def test_a_known_failure_gets_one_sentence(line: str, part: str) -> None:
    advice = hint("Traceback (most recent call last):", '  File "script.py", line 1, in <module>', line)
    assert advice is not None
    assert part in advice
    assert advice.endswith(".")
    assert ". " not in advice


def test_an_unknown_failure_gets_none() -> None:
    assert hint("Traceback (most recent call last):", "ZeroDivisionError: division by zero") is None
    assert hint() is None


def test_without_a_network_the_advice_is_to_ask_for_one() -> None:
    for line in ("socket.gaierror: [Errno -3] Temporary failure in name resolution", "OSError: Network is unreachable"):
        assert "no network" in (hint(line, network=False) or "")


def test_the_end_of_a_chain_of_causes_wins() -> None:
    advice = hint("FileNotFoundError: [Errno 2] No such file or directory: 'a'", "", "MemoryError")
    assert advice is not None and "memory_mb" in advice


def test_limits_have_their_own_advice() -> None:
    assert "30 s" in (hint(why="timeout") or "")
    assert "512 MB" in (hint(why="out_of_memory") or "")
    assert "working directory" in (hint(why="disk_quota") or "")


def test_a_name_of_any_length_stays_a_sentence() -> None:
    advice = hint(f"FileNotFoundError: [Errno 2] No such file or directory: '{'x' * 5000}'")
    assert advice is not None and len(advice) < 300


ASSIGNMENT = Assignment(
    lease=Lease(execution_id="exec_1", attempt=1, fencing_token=1),
    lease_ttl_s=60,
    script=InputRef(name="s.py", size_bytes=0, sha256=""),
    runtime="python:3.11",
    args=[],
    env={},
    masked=[],
    inputs=[],
    timeout_s=30,
    cpu=1,
    memory_mb=512,
    network=False,
    next_sequence=0,
)


@pytest.mark.parametrize(
    ("why", "code", "expected"),
    [
        ("exited", 0, ("completed", 0, None)),
        ("exited", 3, ("failed", 3, "exit_code")),
        ("exited", 139, ("failed", 139, "exit_code")),
        ("exited", None, ("failed", None, "internal")),
        ("timeout", None, ("timed_out", None, "timeout")),
        ("cancelled", 143, ("cancelled", 143, "cancelled")),
        ("out_of_memory", 137, ("failed", 137, "out_of_memory")),
        ("disk_quota", 153, ("failed", 153, "exit_code")),
        ("runtime_unavailable", None, ("failed", None, "runtime_unavailable")),
        ("internal", None, ("failed", None, "internal")),
    ],
)
def test_every_end_of_a_box_has_its_verdict(why: str, code: int | None, expected: tuple[str, int | None, str]) -> None:
    ended = Ended(why=why, exit_code=code, duration_ms=1, memory_peak_bytes=None, error=None, metadata={})  # type: ignore[arg-type]
    verdict = judge(ended, ASSIGNMENT)
    assert (verdict.end, verdict.exit_code, verdict.failure_reason) == expected
    assert (verdict.error is None) == (verdict.end == "completed")


@pytest.mark.parametrize(
    ("why", "code", "own_end"),
    [
        ("exited", 0, True),
        ("cancelled", 3, True),
        ("cancelled", 137, False),
        ("cancelled", None, False),
        ("timeout", None, False),
    ],
)
def test_a_script_that_ended_before_the_kill_has_its_own_end(why: str, code: int | None, own_end: bool) -> None:
    ended = Ended(why=why, exit_code=code, duration_ms=1, memory_peak_bytes=None, error=None, metadata={})  # type: ignore[arg-type]
    own = ended_before_kill(ended)
    assert (own is not None) == own_end
    assert own is None or (own.why, own.exit_code) == ("exited", code)
