"""What is shown on a terminal of 80 columns fits there; through a pipe it is whole."""

import re
import sys
from pathlib import Path

import pytest
from running_grid import Grid
from terminal import Terminal

from rgrid.cli.main import COMMANDS
from rgrid.cli.output import fitted
from rgrid.client.grid import Submission

NAME = "a-rather-long-name-for-a-script-that-analyses.py"


@pytest.fixture
def execution_id(grid: Grid) -> str:
    with grid.client() as client:
        labels = {"purpose": "a long text " * 8}
        made = client.submit(Submission(script_content="print(1)", name=NAME, user_metadata=labels))
        return client.wait(made.execution_id, 60).execution_id


def shown(grid: Grid, folder: Path, *words: str, columns: int = 80) -> str:
    with Terminal([sys.executable, "-m", "rgrid", *words], grid.environment(), folder, columns) as terminal:
        assert terminal.end() == 0
        return terminal.shown


def test_tables_and_facts_fit(grid: Grid, tmp_path: Path, execution_id: str) -> None:
    for words in (["list"], ["events", execution_id], ["workers"], ["runtimes"], ["status", execution_id]):
        text = shown(grid, tmp_path, *words)
        assert max(map(len, text.splitlines())) <= 80, text


def test_a_list_keeps_what_it_is_read_for(grid: Grid, tmp_path: Path, execution_id: str) -> None:
    text = shown(grid, tmp_path, "list", "--name", NAME)
    (line,) = [line for line in text.splitlines() if line.startswith(execution_id)]
    assert re.search(r" completed +a-rather.*… +\d\d-\d\d \d\d:\d\d +\d", line), text
    narrow = shown(grid, tmp_path, "list", "--name", NAME, columns=20)
    assert f"{execution_id}  completed\n" in narrow


def test_no_cell_is_cut_while_there_is_room() -> None:
    headers = ("ID", "STATUS", "WORKFLOW", "STEPS", "WHEN", "CAUSE")
    rows = [["run_01M81KGWZZ9QHJZTT1N639WTJW", "COMPLETED", "weekly_refresh v1", "2/2", "11-22 12:26", "DEPENDENCY"]]
    widths = [len(cell) for cell in rows[0]]
    for room in range(40, 110):
        shown, cells, found = fitted(headers, rows, widths, room)
        total = sum(found) + 2 * len(found) - 2
        assert total <= room or len(shown) == 2
        assert total == room or all("…" not in cell for cell in cells[0]) or len(shown) == 2, (room, cells)


def test_a_pipe_gets_everything(grid: Grid, execution_id: str) -> None:
    (line,) = [line for line in grid.rgrid("list", "--name", NAME).stdout.splitlines() if execution_id in line]
    assert NAME[:40] in line
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", line)
    assert "python:" in line


def test_help_fits(grid: Grid, tmp_path: Path) -> None:
    text = shown(grid, tmp_path, "--help")
    assert max(map(len, text.splitlines())) <= 80, text
    for name in COMMANDS:
        lines = shown(grid, tmp_path, name, "--help").splitlines() if name in ("run", "login", "up") else []
        assert [line for line in lines if len(line) > 80 and not line.startswith("  ")] == []
