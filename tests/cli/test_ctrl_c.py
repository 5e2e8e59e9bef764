"""Ctrl-C while a script runs: on a terminal whoever pressed it decides, without one the script goes on."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running_grid import Grid
from terminal import Terminal

WAIT_S = 60
CTRL_C = "\x03"
SCRIPT = "import time\nprint('it runs', flush=True)\ntime.sleep(120)\n"


@contextmanager
def running(grid: Grid, folder: Path, script: str = SCRIPT) -> Iterator[tuple[Terminal, str]]:
    """`rgrid run` on a terminal, with its script under way; and the name of the execution."""
    (folder / "slow.py").write_text(script)
    program = [sys.executable, "-m", "rgrid", "run", "--name", folder.name, "slow.py"]
    with Terminal(program, grid.environment(), folder) as terminal:
        terminal.until("it runs\n")
        with grid.client() as client:
            (row,) = client.executions(name=folder.name)
        yield terminal, row.execution_id


@pytest.mark.parametrize("answer", ["\n", "d\n", CTRL_C, "\x04", "no\nnein\nnon\n"])
def test_whoever_detaches_leaves_the_script_running(grid: Grid, tmp_path: Path, answer: str) -> None:
    with running(grid, tmp_path) as (terminal, execution_id), grid.client() as client:
        terminal.type(CTRL_C)
        terminal.until("[c]ancel, it stops (d): ")
        terminal.type(answer)
        assert terminal.end() == 130
        assert f"You left; {execution_id} goes on." in terminal.shown
        assert f"rgrid logs -f {execution_id}" in terminal.shown
        assert "Traceback" not in terminal.shown
        assert client.get(execution_id).status == "running"
        client.cancel(execution_id)


def test_whoever_cancels_stops_the_script(grid: Grid, tmp_path: Path) -> None:
    with running(grid, tmp_path) as (terminal, execution_id), grid.client() as client:
        terminal.type("typed too early\n")
        terminal.type(CTRL_C)
        terminal.until("[c]ancel, it stops (d): ")
        terminal.type("c\n")
        assert terminal.end() == 130
        assert f"{execution_id} is being cancelled." in terminal.shown
        assert f"rgrid retry {execution_id}" in terminal.shown
        assert client.wait(execution_id, WAIT_S).status == "cancelled"


def test_a_script_that_ended_meanwhile_is_said_to_be_over(grid: Grid, tmp_path: Path) -> None:
    short = SCRIPT.replace("120", "2")
    with running(grid, tmp_path, short) as (terminal, execution_id), grid.client() as client:
        terminal.type(CTRL_C)
        terminal.until("(d): ")
        client.wait(execution_id, WAIT_S)
        terminal.type("c\n")
        assert terminal.end() == 130
        assert f"{execution_id} was over already." in terminal.shown


@pytest.mark.parametrize(("answer", "said"), [("d\n", "You left; {} goes on."), ("c\n", "{} is being cancelled.")])
def test_a_batch_asks_the_same(grid: Grid, tmp_path: Path, answer: str, said: str) -> None:
    (tmp_path / "slow.py").write_text(SCRIPT)
    (tmp_path / "in.txt").write_text("x")
    program = [sys.executable, "-m", "rgrid", "run", "--batch", "in.txt", "slow.py"]
    with Terminal(program, grid.environment(), tmp_path) as terminal, grid.client() as client:
        terminal.until("1 running")
        terminal.type(CTRL_C)
        terminal.until("[c]ancel, it stops (d): ")
        terminal.type(answer)
        assert terminal.end() == 130
        batch_id = next(word for word in terminal.shown.split() if word.startswith("batch_"))
        assert said.format(batch_id) in terminal.shown
        is_left = answer == "d\n"
        assert f"rgrid batch {'watch' if is_left else 'status'} {batch_id}" in terminal.shown
        if is_left:
            assert not client.batches.get(batch_id).is_over
            client.batches.cancel(batch_id)
        assert client.batches.wait(batch_id, WAIT_S).status == "cancelled"


def test_without_a_terminal_nobody_is_asked(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SCRIPT)
    run = subprocess.Popen(
        [sys.executable, "-m", "rgrid", "run", "slow.py"],
        env=grid.environment(),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "it runs\n"
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=WAIT_S)
    assert run.returncode == 130
    assert "goes on" in said
    assert "cancel, it stops" not in said
    execution_id = said.partition("; ")[2].split()[0]
    with grid.client() as client:
        assert client.get(execution_id).status == "running"
        client.cancel(execution_id)
