"""Graphs of workflows and runs: as text that fits, in other languages, and redrawn on a terminal while a run goes."""

import json
import re
import sys
from pathlib import Path

import pytest
from running_grid import Grid
from terminal import Terminal

DIAMOND = """\
name: {name}
steps:
  - {{name: prepare, type: EXECUTION, timeout_seconds: 60, params: {{script_content: print(1)}}}}
  - {{name: left-side-with-a-name-that-is-a-good-deal-longer-than-anybody-wants-to-read-in-a-terminal, type: WAIT,
     duration_seconds: 0, depends_on: [prepare]}}
  - {{name: right, type: WAIT, duration_seconds: 0, depends_on: [prepare]}}
  - {{name: is_large, type: CHOICE, condition: "1 > 2", then_step: large, else_step: small,
     depends_on: [left-side-with-a-name-that-is-a-good-deal-longer-than-anybody-wants-to-read-in-a-terminal, right]}}
  - {{name: large, type: WAIT, duration_seconds: 0}}
  - {{name: small, type: EXECUTION, timeout_seconds: 60, params: {{script_content: import time; time.sleep(0.5)}}}}
  - {{name: publish, type: EXECUTION, timeout_seconds: 60, depends_on: [large, small],
     params: {{script_content: print(3)}}}}
policy: {{mode: PARALLEL}}
"""


@pytest.fixture
def diamond(grid: Grid, tmp_path: Path) -> str:
    (tmp_path / "w.yaml").write_text(DIAMOND.format(name="diamond"))
    done = grid.rgrid("workflows", "apply", tmp_path / "w.yaml")
    assert done.returncode == 0, done.stderr
    return "diamond"


def test_the_graph_of_a_workflow_has_every_step_in_order(grid: Grid, diamond: str) -> None:
    done = grid.rgrid("workflows", "graph", diamond)
    assert done.returncode == 0, done.stderr
    names = re.findall(r"● [│ ]*([\w-]+)", done.stdout)
    assert [name[:9] for name in names] == ["prepare", "left-side", "right", "is_large", "large", "small", "publish"]
    assert "then large, else small" in done.stdout
    assert "├─╮" in done.stdout
    assert "├─╯" in done.stdout


def test_the_graph_of_a_run_has_its_states(grid: Grid, diamond: str) -> None:
    run_id = grid.rgrid("workflows", "trigger", diamond, "--wait").stdout.split()[0]
    shown = grid.rgrid("workflows", "graph", run_id).stdout
    assert re.search(r"✓ .*publish +EXECUTION +COMPLETED", shown), shown
    assert re.search(r"– .*large +WAIT +SKIPPED +branch_not_taken", shown), shown
    known = json.loads(grid.rgrid("workflows", "graph", run_id, "--json").stdout)
    assert {node["status"] for node in known["nodes"]} == {"COMPLETED", "SKIPPED"}


def test_other_programs_can_draw_it(grid: Grid, diamond: str) -> None:
    dot = grid.rgrid("workflows", "graph", diamond, "--dot").stdout
    assert dot.startswith('digraph "diamond" {\n')
    assert '"is_large" -> "small" [label="else"];' in dot
    mermaid = grid.rgrid("workflows", "graph", diamond, "--mermaid").stdout
    assert mermaid.startswith("flowchart TD\n")
    assert mermaid.count("-->") == dot.count("->")


@pytest.mark.parametrize("columns", [80, 50])
def test_nothing_is_wider_than_the_terminal(grid: Grid, diamond: str, tmp_path: Path, columns: int) -> None:
    run_id = grid.rgrid("workflows", "trigger", diamond, "--wait").stdout.split()[0]
    for words in (["graph", diamond], ["graph", run_id], ["show", diamond], ["show", run_id], ["list"], ["runs"]):
        program = [sys.executable, "-m", "rgrid", "workflows", *words]
        with Terminal(program, grid.environment(), tmp_path, columns) as terminal:
            assert terminal.end() == 0
        assert max(map(len, terminal.shown.splitlines())) <= columns, terminal.shown


def test_a_terminal_is_redrawn_while_a_run_goes(grid: Grid, diamond: str, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "rgrid", "workflows", "trigger", diamond, "--watch"]
    with Terminal(program, grid.environment(), tmp_path) as terminal:
        assert terminal.end() == 0
    shown = terminal.shown
    assert max(map(len, shown.splitlines())) <= 80, shown
    frames = shown.split("run_")[1:]
    assert "diamond v1 COMPLETED, 7 of 7 steps" in shown
    assert any("○" in frame for frame in frames), "steps that are to come were shown"
    assert re.search(r"✓ +publish +EXECUTION +COMPLETED", frames[-2]), shown
    assert re.fullmatch(r"\w+ COMPLETED\n", frames[-1])
