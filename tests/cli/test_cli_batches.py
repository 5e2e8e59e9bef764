"""Batches on the command line: many files, one line, and each item's results in a folder of its own."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from running_grid import Grid

COUNTS = """\
import pathlib, sys
text = pathlib.Path(sys.argv[1]).read_text()
pathlib.Path("count.txt").write_text(str(len(text)))
sys.exit(3 if "bad" in text else 0)
"""
SLOW = "import time; print('on', flush=True); time.sleep(60)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A script and three files, two of which have one name."""
    (tmp_path / "count.py").write_text(COUNTS)
    for name, text in (("data/a.csv", "a"), ("data/b.csv", "bb"), ("data/more/a.csv", "ccc")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def document(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def made(folder: Path, below: str = "") -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in (folder / below).rglob("count*.txt"))


def test_a_quoted_glob_runs_the_script_for_every_file(grid: Grid, folder: Path) -> None:
    done = grid.rgrid("run", "--batch", "data/**/*.csv", "--parallel", "2", "--output-dir", "out", "count.py",
                      folder=folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert made(folder, "out") == ["out/a.csv/count.txt", "out/a.csv_1/count.txt", "out/b.csv/count.txt"]
    assert (folder / "out/a.csv_1/count.txt").read_text() == "3"
    assert "saved 3 files below out" in done.stderr
    assert "\r" not in done.stderr
    batch_id = re.search(r"batch_\w+", done.stderr)
    assert batch_id
    rows = list(grid.client().batches.executions(batch_id[0]))
    assert [row.batch_metadata.input_file for row in rows] == ["data/a.csv", "data/b.csv", "data/more/a.csv"]
    shown = document(grid.rgrid("batch", "status", batch_id[0], "--json"))
    assert (shown["status"], shown["max_parallel"], shown["name"]) == ("completed", 2, "count.py")


def test_paths_that_the_shell_has_expanded_go_up_to_the_script(grid: Grid, folder: Path) -> None:
    done = grid.rgrid("run", "--flat", "--batch", "data/a.csv", "data/b.csv", "count.py", folder=folder)
    assert done.returncode == 0, done.stderr
    assert made(folder) == ["count.txt", "count_1.txt"]


def test_a_place_for_the_file_can_be_named(grid: Grid, folder: Path) -> None:
    (folder / "show.py").write_text("import sys; print(sys.argv[1:])")
    done = grid.rgrid("run", "--json", "--batch", "data/a.csv", "--", "show.py", "--in={}", "-x", folder=folder)
    (row,) = grid.client().batches.executions(document(done)["batch_id"])
    assert grid.client().get(row.execution_id).stdout == "['--in=data/a.csv', '-x']\n"


def test_the_exit_code_tells_all_some_and_none(grid: Grid, folder: Path) -> None:
    (folder / "data/b.csv").write_text("bad")
    some = grid.rgrid("run", "--batch", "data/*.csv", "--output-dir", "out", "count.py", folder=folder)
    assert some.returncode == 2
    assert "1 of 2 completed" in some.stderr
    assert re.search(r"data/b.csv: exit_code, exit code 3 \(rgrid logs exec_\w+\)", some.stderr)
    following = re.search(r"Next: rgrid retry --batch (batch_\w+)\n$", some.stderr)
    assert following
    assert made(folder, "out") == ["out/a.csv/count.txt", "out/b.csv/count.txt"]
    again = grid.rgrid("retry", "--batch", following[1], "--failed-only")
    assert again.stdout == f"{following[1]}: 1 run once more\n"
    watched = grid.rgrid("batch", "watch", following[1])
    assert (watched.returncode, watched.stdout) == (2, f"{following[1]} partial\n")
    options = ["--remote-only", "--max-failures", "5", "--fail-fast"]
    none = grid.rgrid("run", *options, "--batch", "data/b.csv", "count.py", folder=folder)
    assert none.returncode == 1


def test_a_batch_can_be_left_followed_and_fetched_later(grid: Grid, folder: Path) -> None:
    done = grid.rgrid("run", "--detach", "--batch", "data/*.csv", "count.py", folder=folder)
    batch_id = done.stdout.strip()
    assert (done.returncode, batch_id[:6]) == (0, "batch_")
    lines = grid.rgrid("batch", "watch", batch_id, "--json").stdout.splitlines()
    assert json.loads(lines[-1])["status"] == "completed"
    fetched = document(grid.rgrid("batch", "download", batch_id, "--output-dir", "later", "--json", folder=folder))
    assert sorted(fetched["downloaded"]) == ["later/a.csv/count.txt", "later/b.csv/count.txt"]
    listed = document(grid.rgrid("batches", "list", "--status", "completed", "--all", "--json"))
    assert batch_id in [row["batch_id"] for row in listed["data"]]
    assert batch_id in grid.rgrid("batch", "list", "--limit", "1").stdout


def test_a_folder_is_not_put_where_a_file_is(grid: Grid, folder: Path) -> None:
    done = grid.rgrid("run", "--batch", "*.csv", "../count.py", folder=folder / "data")
    assert done.returncode == 0, done.stderr
    assert made(folder / "data") == ["a.csv_1/count.txt", "b.csv_1/count.txt"]


def test_cancel_stops_a_batch(grid: Grid, folder: Path) -> None:
    (folder / "slow.py").write_text(SLOW)
    batch_id = grid.rgrid("run", "--detach", "--batch", "data/*.csv", "slow.py", folder=folder).stdout.strip()
    assert grid.rgrid("batch", "cancel", batch_id, "--reason", "enough").stdout == f"{batch_id} is being stopped\n"
    assert grid.client().batches.wait(batch_id, 60).status == "cancelled"
    assert grid.rgrid("batch", "cancel", batch_id).returncode == 1
    text = grid.rgrid("batch", "status", batch_id).stdout
    assert re.search(r"Progress +100 %: 2 of 2 · 2 cancelled", text)


def test_leaving_a_batch_lets_it_go_on(grid: Grid, folder: Path) -> None:
    (folder / "slow.py").write_text(SLOW)
    running = subprocess.Popen(
        [sys.executable, "-m", "rgrid", "run", "--batch", "data/a.csv", "slow.py"],
        cwd=folder, env=grid.environment(), stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert running.stderr is not None
    batch_id = running.stderr.readline().strip()
    give_up = time.monotonic() + 30
    while not (seen := grid.client().batches.get(batch_id)).counts.running:
        assert time.monotonic() < give_up, seen
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    said = running.stderr.read()
    assert running.wait(30) == 130
    assert f"{batch_id} goes on" in said
    assert grid.client().batches.get(batch_id).counts.running == 1
    grid.client().batches.cancel(batch_id)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch", "none/*.csv", "count.py"], "No file matches none/*.csv"),
        (["--batch", "none.csv", "count.py"], "There is no file none.csv"),
        (["--parallel", "2", "count.py"], "go with --batch"),
        (["--batch", "data/*.csv"], "Which script?"),
    ],
)
def test_a_mistake_stops_before_anything_is_sent(grid: Grid, folder: Path, words: list[str], said: str) -> None:
    before = len(list(grid.client().batches.list()))
    done = grid.rgrid("run", *words, folder=folder)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(list(grid.client().batches.list())) == before


def test_a_dry_run_shows_the_items(grid: Grid, folder: Path) -> None:
    shown = document(grid.rgrid("run", "--dry-run", "--json", "--batch", "data/*.csv", "count.py", folder=folder))
    assert [item["args"] for item in shown["request"]["items"]] == [["data/a.csv"], ["data/b.csv"]]


def test_a_terminal_of_80_columns_shows_one_line_that_never_wraps(grid: Grid, folder: Path) -> None:
    (folder / "wait.py").write_text("import time; time.sleep(0.4)")
    for number in range(12):
        (folder / f"part-{number}.txt").write_text("x")
    main, other = pty.openpty()
    termios.tcsetwinsize(other, (24, 80))
    running = subprocess.Popen(
        [sys.executable, "-m", "rgrid", "run", "--batch", "part-*.txt", "--parallel", "2", "wait.py"],
        cwd=folder, env=grid.environment(), stdin=other, stdout=subprocess.DEVNULL, stderr=other,
    )  # fmt: skip
    os.close(other)
    said = b""
    while running.poll() is None or select.select([main], [], [], 0)[0]:
        if select.select([main], [], [], 0.1)[0]:
            try:
                said += os.read(main, 65_536)
            except OSError:
                break
    os.close(main)
    assert running.wait(60) == 0
    shown = said.decode().split("\r\x1b[2K")
    assert all(len(line.rstrip("\r\n")) < 80 for line in shown)
    assert any("2 running" in line and "━" in line for line in shown), shown
    assert said.count(b"\n") == 1, "the id alone stays; everything else is redrawn in its line"
