"""The client against a real service, and through a network that breaks."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cutting_proxy import CuttingProxy, Fault
from running_grid import Grid

from rgrid.client.answers import Ended, LogLine
from rgrid.client.grid import Client, Submission
from rgrid.client.problems import Refused

COUNTING = """\
import sys
for n in range(300):
    print("line", n, file=sys.stderr if n % 7 == 6 else sys.stdout, flush=True)
"""
SLOW = "import time\nfor n in range(40):\n    print('line', n, flush=True)\n    time.sleep(0.05)\n"
WAIT_S = 60


@contextmanager
def through(grid: Grid, fault: Fault, cut_after: int = 2000) -> Iterator[Client]:
    proxy = CuttingProxy(grid.url, fault, cut_after)
    with Client(proxy.url, grid.key, waits_s=(0.0, 0.05, 0.1, 0.2, 0.5)) as client:
        yield client
    proxy.close()


def first_times(count: int, what: str, marker: bytes) -> Callable[[bytes], str | None]:
    """The first `count` connections whose first bytes hold `marker` suffer `what`."""
    seen = itertools.count()
    return lambda first: what if marker in first and next(seen) < count else None


def stored(client: Client, execution_id: str) -> list[tuple[int, str, str]]:
    return [(line.sequence_number, line.stream, line.message) for line in client.logs(execution_id)]


def followed(client: Client, execution_id: str, stream: str | None = None) -> tuple[list[tuple[int, str, str]], Ended]:
    items = list(client.follow(execution_id, stream=stream))
    ended = items[-1]
    assert isinstance(ended, Ended)
    lines = [item for item in items if isinstance(item, LogLine)]
    return [(line.sequence_number, line.stream, line.message) for line in lines], ended


def test_a_script_runs_with_its_inputs_and_its_files_come_back(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("some text\n")
    script = "import sys\nopen('out/big.txt', 'w').write(open(sys.argv[1]).read() * 100_000)\n"
    script = "import os\nos.mkdir('out')\n" + script
    progress: list[int] = []
    with grid.client() as client:
        submission = Submission(script_content=script, args=["data/in.txt"], user_metadata={"team": "tests"})
        made = client.submit(submission, {"data/in.txt": tmp_path / "in.txt"}, progress.append)
        over = client.wait(made.execution_id, WAIT_S)
        assert (over.status, over.exit_code) == ("completed", 0), over.stderr
        assert sum(progress) == 10
        (artifact,) = client.artifacts(made.execution_id, "output")
        path = client.download(artifact, tmp_path / "results")
        assert path == tmp_path / "results" / "out" / "big.txt"
        assert path.read_text() == "some text\n" * 100_000
        assert made.execution_id in [row.execution_id for row in client.executions(metadata={"team": "tests"})]
        assert client.get(made.execution_id).cost_display.startswith(("€", "<€"))


def test_many_inputs_are_sent_several_at_a_time(grid: Grid, tmp_path: Path) -> None:
    files = {}
    for number in range(12):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(bytes([number]) * (number * 200_000))
        files[f"in/{number}.bin"] = path
    script = "import os\nprint(sum(os.path.getsize(f'in/{n}.bin') for n in range(12)))\n"
    with grid.client() as client:
        made = client.submit(Submission(script_content=script), files)
        assert client.wait(made.execution_id, WAIT_S).stdout == "13200000\n"


def test_a_submission_whose_answer_was_lost_makes_one_execution(grid: Grid) -> None:
    with through(grid, first_times(2, "swallow", b"POST /api/v1/executions")) as client:
        made = client.submit(Submission(script_content="print(1)", name="answer-lost"))
        assert [row.execution_id for row in client.executions(name="answer-lost")] == [made.execution_id]


def test_a_follower_hears_every_line_once(grid: Grid) -> None:
    with grid.client() as client:
        made = client.submit(Submission(script_content=COUNTING))
        lines, ended = followed(client, made.execution_id)
        assert lines == stored(client, made.execution_id)
        assert next(message for _, stream, message in lines if stream == "stderr") == "line 6"
        assert len(lines) == 300
        assert (ended.status, ended.exit_code, ended.last_sequence_number) == ("completed", 0, lines[-1][0])


def test_a_follower_whose_connection_breaks_hears_every_line_once(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rgrid.client.following.RECONNECT_FIRST_S", 0.01)
    with through(grid, first_times(6, "cut", b"GET /ws/"), cut_after=3000) as client:
        made = client.submit(Submission(script_content=SLOW))
        lines, ended = followed(client, made.execution_id)
        assert lines == stored(client, made.execution_id)
        assert [message for _, _, message in lines] == [f"line {number}" for number in range(40)]
        assert ended.status == "completed"


def test_where_websockets_do_not_get_through_it_asks(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rgrid.client.following.POLL_EVERY_S", 0.05)
    with through(grid, lambda first: "refuse" if first.startswith(b"GET /ws/") else None) as client:
        made = client.submit(Submission(script_content=SLOW))
        lines, ended = followed(client, made.execution_id)
        assert [message for _, _, message in lines] == [f"line {number}" for number in range(40)]
        assert (ended.status, ended.exit_code) == ("completed", 0)


def test_a_follower_can_ask_for_one_stream_and_start_in_the_middle(grid: Grid) -> None:
    with grid.client() as client:
        made = client.submit(Submission(script_content=COUNTING))
        client.wait(made.execution_id, WAIT_S)
        errors, _ = followed(client, made.execution_id, "stderr")
        assert {stream for _, stream, _ in errors} == {"stderr"}
        rest = [item for item in client.follow(made.execution_id, 250) if isinstance(item, LogLine)]
        assert [line.sequence_number for line in rest] == list(range(251, 300))
        last = client.log_tail(made.execution_id, 3, "stdout")
        assert [line.message for line in last] == ["line 297", "line 298", "line 299"]


@pytest.mark.parametrize(("execution_id", "key", "status"), [("exec_none", None, 404), (None, "sk_live_wrong", 401)])
def test_a_follower_that_may_not_is_told_why(
    grid: Grid, execution_id: str | None, key: str | None, status: int
) -> None:
    with grid.client() as client, Client(grid.url, key or grid.key) as other:
        wanted = execution_id or client.submit(Submission(script_content="print(1)")).execution_id
        with pytest.raises(Refused) as refused:
            list(other.follow(wanted))
        assert refused.value.status == status


def test_a_queued_script_can_be_cancelled_and_run_again(grid: Grid) -> None:
    with grid.client() as client:
        made = client.submit(Submission(script_content="import time\ntime.sleep(60)\n"))
        client.cancel(made.execution_id, "no longer needed")
        assert client.wait(made.execution_id, WAIT_S).status == "cancelled"
        again = client.retry(made.execution_id)
        assert again.retry_of == made.execution_id
        client.cancel(again.execution_id)
        done = client.submit(Submission(script_content="print(1)"))
        client.wait(done.execution_id, WAIT_S)
        with pytest.raises(Refused) as refused:
            client.cancel(done.execution_id)
        assert (refused.value.code, refused.value.members["current_status"]) == ("illegal_transition", "completed")


def test_keys_are_made_rotated_and_revoked(grid: Grid) -> None:
    with grid.client() as client:
        made = client.create_key("for-a-test", ["read"])
        assert made.key is not None
        with Client(grid.url, made.key) as reader:
            assert reader.me().scopes == ["read"]
            with pytest.raises(Refused) as refused:
                reader.submit(Submission(script_content="print(1)"))
            assert refused.value.code == "scope_missing"
        rotated = client.rotate_key(made.id, 0)
        assert rotated.key != made.key
        assert made.id in {key.id for key in list(client.keys())}
        client.revoke_key(made.id)
        with Client(grid.url, rotated.key) as gone, pytest.raises(Refused) as refused:
            gone.me()
        assert refused.value.status == 401


def test_lists_of_any_length_come_page_by_page(grid: Grid) -> None:
    with grid.client() as client:
        for _ in range(5):
            client.submit(Submission(script_content="print(1)", name="paged"))
        pages = list(client.pages("/executions", {"name": "paged", "limit": 2}))
        assert [len(page["data"]) for page in pages] == [2, 2, 1]
        ids = [row["execution_id"] for page in pages for row in page["data"]]
        assert len(set(ids)) == 5


def test_the_service_says_how_it_is_and_what_it_can_run(grid: Grid) -> None:
    with grid.client() as client:
        assert client.health().status in ("ok", "degraded")
        assert [worker.status for worker in client.workers()].count("active") == 1
        (default,) = [runtime for runtime in client.runtimes() if runtime.default]
        assert default.language == "python"
