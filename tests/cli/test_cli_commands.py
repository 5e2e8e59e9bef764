"""The command line against a real service, as its users type it."""

import json
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from running_grid import Grid

FAILING = """\
import sys
open("partial.txt", "w").write("half")
print("before", flush=True)
print("what went wrong", file=sys.stderr)
sys.exit(3)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "s.py"
    path.write_text("print('hello')\n")
    return path


def written(tmp_path: Path, text: str, name: str = "s.py") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def document(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def newest(grid: Grid) -> dict[str, Any]:
    row: dict[str, Any] = document(grid.rgrid("list", "--limit", "1", "--json"))["data"][0]
    return row


def test_the_output_of_a_script_is_the_output_of_run(grid: Grid, tmp_path: Path) -> None:
    path = written(tmp_path, "import sys\nprint('out')\nprint('err', file=sys.stderr)\nprint(sys.argv[1:])\n")
    done = grid.rgrid("run", path, "--json", "-x", "--timeout=9", "two words", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "out\n['--json', '-x', '--timeout=9', 'two words']\n"
    assert done.stderr == "err\n"


def test_run_exits_with_the_code_of_the_script_and_says_what_happened(grid: Grid, tmp_path: Path) -> None:
    done = grid.rgrid("run", written(tmp_path, FAILING), folder=tmp_path)
    assert done.returncode == 3
    assert done.stdout == "before\n"
    assert done.stderr.startswith("what went wrong\n")
    assert re.search(r"exec_\w+ failed \(exit_code\), exit code 3", done.stderr)
    assert re.search(r"Next: rgrid status exec_\w+\n$", done.stderr)
    assert (tmp_path / "partial.txt").read_text() == "half"


def test_a_script_that_takes_too_long_ends_with_124(grid: Grid, tmp_path: Path) -> None:
    path = written(tmp_path, "import time\nprint('started', flush=True)\ntime.sleep(60)\n")
    done = grid.rgrid("run", "--timeout", "1s", path, folder=tmp_path)
    assert done.returncode == 124
    assert done.stdout == "started\n"
    assert "timed_out" in done.stderr


def test_files_that_are_here_stay(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("mine")
    path = written(tmp_path, "open('out.csv', 'w').write('theirs')\n")
    assert grid.rgrid("run", path, folder=tmp_path).returncode == 0
    assert grid.rgrid("run", "--output-dir", "results", path, folder=tmp_path).returncode == 0
    assert grid.rgrid("run", "--remote-only", path, folder=tmp_path).returncode == 0
    assert (tmp_path / "out.csv").read_text() == "mine"
    assert (tmp_path / "out_1.csv").read_text() == "theirs"
    assert (tmp_path / "results" / "out.csv").read_text() == "theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out_1.csv", "results", "s.py"]


def test_variables_limits_and_labels_reach_the_script(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# a comment\nexport FROM_FILE='in quotes'\nBOTH=file\n")
    path = written(tmp_path, "import os\nfor n in ('FROM_FILE', 'BOTH', 'MINE'): print(os.environ[n])\n")
    options = ["--env-file", ".env", "--env", "BOTH=flag", "--env", "MINE", "--memory", "128m", "--cpu", "0.5"]
    done = grid.rgrid(
        "run",
        *options,
        "--metadata",
        "team=sales",
        "--name",
        "labelled",
        path,
        folder=tmp_path,
        env={"MINE": "inherited"},
    )
    assert done.stdout.splitlines() == ["in quotes", "flag", "inherited"], done.stderr
    row = document(grid.rgrid("list", "--metadata", "team=sales", "--name", "labelled", "--json"))["data"][0]
    full = document(grid.rgrid("status", row["execution_id"], "--json"))
    assert (full["memory_mb"], full["cpu"], full["env_vars"]["MINE"]) == (128, 0.5, "***")


def test_a_missing_file_stops_before_anything_is_sent(grid: Grid, script: Path) -> None:
    before = document(grid.rgrid("list", "--json"))["pagination"]["total"]
    done = grid.rgrid("run", script, "missing.csv")
    assert done.returncode == 2
    assert "missing.csv looks like a file" in done.stderr
    assert document(grid.rgrid("list", "--json"))["pagination"]["total"] == before


def test_run_gives_programs_one_document(grid: Grid, tmp_path: Path) -> None:
    done = grid.rgrid("run", "--json", written(tmp_path, FAILING), folder=tmp_path)
    assert done.returncode == 3
    found = document(done)
    assert (found["status"], found["exit_code"], found["stdout"]) == ("failed", 3, "before\n")
    assert found["downloaded"] == ["partial.txt"]


def test_ctrl_c_leaves_the_script_running(grid: Grid, tmp_path: Path) -> None:
    path = written(tmp_path, "import time\nprint('started', flush=True)\ntime.sleep(2)\nprint('ended')\n")
    run = subprocess.Popen(
        [sys.executable, "-m", "rgrid", "run", str(path)],
        env=grid.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "started\n"
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=30)
    assert run.returncode == 130
    match = re.search(r"You left; (exec_\w+) goes on\.\n  Next: rgrid logs -f", said)
    assert match, said
    followed = grid.rgrid("logs", "-f", match[1])
    assert followed.returncode == 0
    assert followed.stdout == "started\nended\n"


def test_detached_runs_are_followed_looked_at_and_fetched_later(grid: Grid, tmp_path: Path) -> None:
    path = written(tmp_path, "open('a.txt', 'w').write('a')\nopen('b.csv', 'w').write('b')\nprint('done')\n")
    started = grid.rgrid("run", "--detach", path)
    execution_id = started.stdout.strip()
    assert f"rgrid logs -f {execution_id}" in started.stderr
    assert grid.rgrid("logs", "-f", execution_id).stdout == "done\n"
    status = grid.rgrid("status", execution_id)
    assert re.search(r"Status +completed", status.stdout)
    assert "a.txt (1 B)" in status.stdout
    assert grid.rgrid("download", execution_id, "*.csv", folder=tmp_path).returncode == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b.csv", "s.py"]
    none = grid.rgrid("download", execution_id, "*.svg", folder=tmp_path)
    assert none.returncode == 1
    assert "None of its 2 files" in none.stderr


def test_logs_can_be_cut_stamped_and_split(grid: Grid, tmp_path: Path) -> None:
    path = written(
        tmp_path, "import sys\nfor n in range(5): print(n, file=sys.stderr if n % 2 else sys.stdout, flush=True)\n"
    )
    execution_id = document(grid.rgrid("run", "--json", path, folder=tmp_path))["execution_id"]
    whole = grid.rgrid("logs", execution_id)
    assert (whole.stdout, whole.stderr) == ("0\n2\n4\n", "1\n3\n")
    assert grid.rgrid("logs", execution_id, "--stderr-only").stdout == "1\n3\n"
    assert grid.rgrid("logs", execution_id, "--stdout-only", "--tail", "1").stdout == "4\n"
    stamped = grid.rgrid("logs", execution_id, "--stdout-only", "--tail", "1", "--timestamps").stdout
    assert re.fullmatch(r"\d{4}-\d\d-\d\d [\d:]{8} 4\n", stamped)
    lines = document(grid.rgrid("logs", execution_id, "--json"))["data"]
    assert sorted(line["message"] for line in lines) == list("01234")
    assert [line["sequence_number"] for line in lines] == list(range(5))
    live = [json.loads(line) for line in grid.rgrid("logs", "-f", "--json", execution_id).stdout.splitlines()]
    assert [item["message"] for item in live if item["type"] == "log"] == [line["message"] for line in lines]
    assert live[-1]["type"] == "complete"


def test_a_running_script_is_cancelled_and_run_again(grid: Grid, tmp_path: Path) -> None:
    path = written(tmp_path, "import time\ntime.sleep(60)\n")
    execution_id = grid.rgrid("run", "--detach", path).stdout.strip()
    cancelled = grid.rgrid("cancel", execution_id, "--reason", "a test")
    assert cancelled.returncode == 0, cancelled.stderr
    grid.rgrid("logs", "-f", execution_id)
    again = grid.rgrid("retry", execution_id)
    assert again.stdout.startswith("exec_"), again.stderr
    assert grid.rgrid("cancel", again.stdout.strip()).returncode == 0
    done = document(grid.rgrid("run", "--json", written(tmp_path, "print(1)\n")))["execution_id"]
    late = grid.rgrid("cancel", done)
    assert late.returncode == 1
    assert "can't be cancelled" in late.stderr
    assert re.search(r"\(request \w+\)\n  Next: rgrid status " + done, late.stderr)


def test_every_step_of_an_execution_is_shown(grid: Grid, script: Path) -> None:
    execution_id = document(grid.rgrid("run", "--json", script))["execution_id"]
    shown = grid.rgrid("events", execution_id)
    assert shown.returncode == 0, shown.stderr
    positions = [int(line.split()[0]) for line in shown.stdout.splitlines()[1:]]
    assert len(positions) >= 3
    assert positions == sorted(positions)


def test_lists_are_tables_for_people_and_documents_for_programs(grid: Grid, script: Path) -> None:
    grid.rgrid("run", "--name", "listed", script)
    table = grid.rgrid("list", "--name", "listed").stdout.splitlines()
    assert table[0].split() == ["ID", "STATUS", "NAME", "CREATED", "DURATION", "COST", "RUNTIME"]
    assert "completed" in table[1]
    assert document(grid.rgrid("list", "--name", "listed", "--all", "--json"))["pagination"] == {"total": 1, "shown": 1}
    assert grid.rgrid("list", "--name", "nobody-has-this").stderr == "Nothing matches.\n"


@pytest.mark.parametrize("words", [["whoami"], ["health"], ["workers"], ["runtimes"], ["keys", "list"], ["version"]])
def test_looking_around_works_for_people_and_for_programs(grid: Grid, words: list[str]) -> None:
    shown = grid.rgrid(*words)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout
    assert "\x1b" not in shown.stdout
    assert document(grid.rgrid(*words, "--json"))


def test_a_new_key_is_alone_on_standard_output(grid: Grid) -> None:
    made = grid.rgrid("keys", "create", "alone", "--scope", "read", "--expires", "1h")
    assert re.fullmatch(r"sk_live_[0-9A-Za-z]{43}\n", made.stdout)
    assert made.stdout.strip() not in made.stderr
    key_id = made.stderr.split()[0]
    refused = grid.rgrid("keys", "list", env={"RGRID_API_KEY": made.stdout.strip()})
    assert refused.returncode == 1
    assert "Next: rgrid whoami" in refused.stderr
    rotated = grid.rgrid("keys", "rotate", key_id, "--grace", "0", "--json")
    assert document(rotated)["key"] != made.stdout.strip()
    assert grid.rgrid("keys", "revoke", key_id).stdout == f"{key_id} revoked\n"


def test_login_saves_what_works_and_nothing_else(grid: Grid, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "RGRID_API_KEY": "", "RGRID_API_URL": ""}
    wrong = grid.rgrid("login", "--api-url", grid.url, "--api-key", "sk_live_wrong", env=home)
    assert wrong.returncode == 1
    assert not (tmp_path / ".rgrid").exists()
    right = grid.rgrid("login", "--api-url", grid.url, "--api-key", grid.key, env=home)
    assert right.returncode == 0, right.stderr
    saved = tmp_path / ".rgrid" / "credentials"
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert "profile default" in grid.rgrid("whoami", env=home).stdout
    again = grid.rgrid("login", "--api-url", grid.url, "--api-key", grid.key, env=home)
    assert again.returncode == 2
    assert "--force" in again.stderr


def test_an_unknown_execution_is_one_message(grid: Grid) -> None:
    done = grid.rgrid("status", "exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X")
    assert done.returncode == 1
    assert re.fullmatch(r"rgrid: .*not found.* \(request \w+\)\n  Next: rgrid list\n", done.stderr)


def test_the_reader_of_a_pipe_may_go_early(grid: Grid, tmp_path: Path) -> None:
    execution_id = document(
        grid.rgrid("run", "--json", written(tmp_path, "for n in range(20000): print(n)\n"), folder=tmp_path)
    )["execution_id"]
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m rgrid logs {execution_id} | head -1"],
        env=grid.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
