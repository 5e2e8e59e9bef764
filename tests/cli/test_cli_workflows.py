"""`rgrid workflows` against a real service: documents, runs, and what is done with them."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from running_grid import Grid

HELLO = """\
name: {name}
description: Says hello twice
parameters:
  - {{name: who, type: string, default: world}}
  - {{name: times, type: integer, default: 1}}
steps:
  - name: first
    type: EXECUTION
    params: {{script: hello.py, args: ["${{params.who}}", "${{string(params.times)}}"]}}
    timeout_seconds: 60
  - name: second
    type: EXECUTION
    params: {{script_content: print('second')}}
    timeout_seconds: 60
"""
SCRIPT = "import json, sys\nprint('hello', *sys.argv[1:])\nprint(json.dumps({'row_count': 7}))\n"


def document(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def put(grid: Grid, folder: Path, text: str) -> None:
    (folder / "w.yaml").write_text(text)
    done = grid.rgrid("workflows", "apply", folder / "w.yaml")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def hello(grid: Grid, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A workflow that works, under a name of its own."""
    name = re.sub(r"\W+", "-", request.node.name)[:80].strip("-")
    (tmp_path / "hello.py").write_text(SCRIPT)
    put(grid, tmp_path, HELLO.format(name=name))
    return name


def failing(name: str, on_error: str = "STOP") -> str:
    return (
        f"name: {name}\nsteps:\n"
        "  - {name: good, type: EXECUTION, timeout_seconds: 60, params: {script_content: print(1)}}\n"
        f"  - {{name: bad, type: EXECUTION, timeout_seconds: 60, on_error: {on_error},"
        " params: {script_content: 'raise SystemExit(3)'}}\n"
        "  - {name: last, type: EXECUTION, timeout_seconds: 60, params: {script_content: print(3)}}\n"
    )


def waiting(name: str) -> str:
    return (
        f"name: {name}\nsteps:\n"
        "  - {name: approval, type: WAIT, signal: approved, timeout_seconds: 600}\n"
        "  - {name: after, type: EXECUTION, timeout_seconds: 60, params: {script_content: print(2)}}\n"
    )


def test_a_document_is_applied_once_for_each_difference(grid: Grid, tmp_path: Path, hello: str) -> None:
    again = grid.rgrid("workflows", "apply", tmp_path / "w.yaml")
    assert again.stdout == f"{hello} is at version 1\n"
    (tmp_path / "hello.py").write_text(SCRIPT + "# changed\n")
    changed = grid.rgrid("workflow", "apply", "--json", tmp_path / "w.yaml")
    assert document(changed)["version"] == 2
    shown = document(grid.rgrid("workflows", "show", hello, "--version", "1", "--json"))
    assert shown["steps"][0]["params"]["script_content"] == SCRIPT


def test_a_workflow_is_listed_shown_and_deleted(grid: Grid, hello: str) -> None:
    listed = grid.rgrid("workflows", "list", "--all").stdout
    assert re.search(rf"^{hello} +1 +2 +-", listed, re.MULTILINE)
    shown = grid.rgrid("workflows", "show", hello)
    assert "who: string" in shown.stdout
    assert re.search(r"● +first +EXECUTION\n", shown.stdout)
    assert grid.rgrid("workflows", "delete", hello).stdout == f"{hello} is deleted; its runs stay\n"
    gone = grid.rgrid("workflows", "show", hello)
    assert gone.returncode == 1
    assert gone.stderr.endswith("Next: rgrid workflows list\n")


def test_what_is_shown_as_a_document_can_be_applied_again(grid: Grid, tmp_path: Path, hello: str) -> None:
    (tmp_path / "again.json").write_text(grid.rgrid("workflows", "show", hello, "--document").stdout)
    assert grid.rgrid("workflows", "apply", tmp_path / "again.json").stdout == f"{hello} is at version 1\n"


def test_problems_are_told_with_file_line_and_rule(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(
        "name: wrong\n"
        "steps:\n"
        "  - name: a\n"
        "    type: CHOICE\n"
        "    condition: 1 +\n"
        "    then_step: nowhere\n"
        "  - name: a\n"
        "    type: WAIT\n"
        "    duration_seconds: 1\n"
    )
    for command in ("validate", "apply"):
        done = grid.rgrid("workflows", command, "wrong.yaml", folder=tmp_path)
        assert done.returncode == 1
        assert done.stdout == ""
        assert re.search(r"^  wrong\.yaml:6: \w+: .*nowhere", done.stderr, re.MULTILINE), done.stderr
        assert re.search(r"^  wrong\.yaml:5: \w+: ", done.stderr, re.MULTILINE), done.stderr
        assert re.search(r"^  wrong\.yaml:7: \w+: ", done.stderr, re.MULTILINE), done.stderr
    assert grid.rgrid("workflows", "show", "wrong").returncode == 1
    found = document(grid.rgrid("workflows", "validate", "--json", "wrong.yaml", folder=tmp_path))
    assert found["valid"] is False
    assert {"file", "line", "rule", "message"} <= found["errors"][0].keys()


def test_a_wrong_form_is_told_with_its_line(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "form.yaml").write_text("name: form\nsteps:\n  - name: a\n    type: WAIT\n    duration_seconds: soon\n")
    done = grid.rgrid("workflows", "validate", "form.yaml", folder=tmp_path)
    assert done.returncode == 1
    assert re.search(r"^  form\.yaml:5: \w+: ", done.stderr, re.MULTILINE), done.stderr


def test_a_valid_document_is_not_kept_by_validate(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "fine.yaml").write_text("name: fine\nsteps:\n  - {name: a, type: WAIT, duration_seconds: 1}\n")
    done = grid.rgrid("workflows", "validate", "fine.yaml", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "fine.yaml: fine is valid\n"), done.stderr
    assert grid.rgrid("workflows", "show", "fine").returncode == 1


def test_documents_that_start_each_other_are_applied_in_their_order(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "steps:\n  - {name: c, type: WORKFLOW, target_name: order.child}\nname: order.top\n"
    )
    (tmp_path / "b.yaml").write_text("name: order.child\nsteps:\n  - {name: w, type: WAIT, duration_seconds: 0}\n")
    checked = grid.rgrid("workflows", "validate", "a.yaml", "b.yaml", folder=tmp_path)
    assert checked.returncode == 0, checked.stderr
    done = grid.rgrid("workflows", "apply", "a.yaml", "b.yaml", folder=tmp_path)
    assert done.stdout.splitlines() == ["order.child is at version 1", "order.top is at version 1"], done.stderr


def test_trigger_waits_for_the_result(grid: Grid, hello: str) -> None:
    done = grid.rgrid("workflows", "trigger", hello, "--param", "who=7", "--param", "times=3", "--wait")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"run_\w+ COMPLETED\n", done.stdout)
    run_id = done.stdout.split()[0]
    assert "hello 7 3" in grid.rgrid("workflows", "logs", run_id, "--step", "first").stdout
    lines = [json.loads(line) for line in grid.rgrid("workflows", "logs", "--json", run_id).stdout.splitlines()]
    assert [line["step_name"] for line in lines] == ["first", "first", "second"]
    shown = grid.rgrid("workflows", "show", run_id).stdout
    assert re.search(r"Parameters +who=7, times=3", shown)
    assert re.search(r"✓ +first +EXECUTION +COMPLETED +\d.*7 rows", shown), shown


def test_a_wrong_parameter_is_told_before_anything_runs(grid: Grid, hello: str) -> None:
    done = grid.rgrid("workflows", "trigger", hello, "--param", "times=many", "--param", "other=1")
    assert done.returncode == 1
    assert "params.times" in done.stderr
    assert "params.other" in done.stderr
    assert document(grid.rgrid("workflows", "runs", hello, "--json"))["data"] == []


def test_a_dry_run_says_what_would_run(grid: Grid, hello: str) -> None:
    done = grid.rgrid("workflows", "trigger", hello, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(\w+) +EXECUTION +runs ", done.stdout, re.MULTILINE) == ["first", "second"]
    assert "Nothing runs" in done.stderr
    (row,) = document(grid.rgrid("workflows", "runs", hello, "--json"))["data"]
    assert (row["status"], row["skipped_steps"]) == ("COMPLETED", 2)


def test_the_same_idempotency_key_is_the_same_run(grid: Grid, hello: str) -> None:
    ids = {grid.rgrid("workflows", "trigger", hello, "--idempotency-key", hello).stdout for _ in range(2)}
    assert len(ids) == 1
    assert grid.client().workflows.wait(ids.pop().strip(), 60).status == "COMPLETED"


@pytest.mark.parametrize(("on_error", "status", "code"), [("STOP", "FAILED", 1), ("CONTINUE", "PARTIAL", 2)])
def test_the_exit_code_is_that_of_the_run(grid: Grid, tmp_path: Path, on_error: str, status: str, code: int) -> None:
    put(grid, tmp_path, failing(f"exits.{on_error}", on_error))
    done = grid.rgrid("workflows", "trigger", f"exits.{on_error}", "--wait", "--json")
    assert done.returncode == code
    assert document(done)["status"] == status
    assert re.search(r"Next: rgrid workflows retry run_\w+\n|^$", done.stderr)


def test_watch_through_a_pipe_is_a_line_for_each_step(grid: Grid, tmp_path: Path) -> None:
    put(grid, tmp_path, failing("piped"))
    done = grid.rgrid("workflows", "trigger", "piped", "--watch")
    assert done.returncode == 1
    told = [line.split(":")[0] for line in done.stderr.splitlines()]
    assert told[:3] == ["good COMPLETED", "bad FAILED", "last SKIPPED"]
    assert re.search(r"  bad: .*\(rgrid logs exec_\w+\)\n  Next: rgrid workflows retry run_", done.stderr), done.stderr
    run_id = done.stdout.split()[0]
    lines = grid.rgrid("workflows", "watch", "--json", run_id).stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["FAILED"]


def test_a_run_is_retried_from_its_step(grid: Grid, tmp_path: Path) -> None:
    put(grid, tmp_path, failing("again"))
    run_id = grid.rgrid("workflows", "trigger", "again", "--wait").stdout.split()[0]
    planned = grid.rgrid("workflows", "retry", run_id, "--plan")
    assert planned.returncode == 0, planned.stderr
    assert re.search(r"^good +EXECUTION +keeps its output", planned.stdout, re.MULTILINE)
    assert re.search(r"^bad +EXECUTION +runs ", planned.stdout, re.MULTILINE)
    assert f"Next: rgrid workflows retry {run_id} --from bad" in planned.stderr
    retried = grid.rgrid("workflows", "retry", run_id, "--from", "bad", "--wait")
    assert retried.returncode == 1
    run = grid.client().workflows.run(retried.stdout.split()[0])
    states = [(step.step_name, step.status, step.skip_reason) for step in run.last_tries()]
    assert states[:2] == [("good", "SKIPPED", "restored"), ("bad", "FAILED", None)]
    assert (run.retry_of, run.from_step) == (run_id, "bad")
    unknown = grid.rgrid("workflows", "retry", run_id, "--from", "nowhere")
    assert unknown.returncode == 1
    assert "nowhere" in unknown.stderr


def test_runs_are_listed_by_what_is_asked_for(grid: Grid, tmp_path: Path) -> None:
    put(grid, tmp_path, failing("listed"))
    ids = [grid.rgrid("workflows", "trigger", "listed", "--wait").stdout.split()[0] for _ in range(2)]
    found = document(grid.rgrid("workflows", "runs", "listed", "--status", "FAILED", "--json"))
    assert [row["run_id"] for row in found["data"]] == ids[::-1]
    table = grid.rgrid("workflows", "runs", "listed", "--limit", "1")
    assert re.search(rf"^{ids[1]}  FAILED  listed v1 +3/3 ", table.stdout, re.MULTILINE)
    assert "1 of 2; more with --limit N or --all" in table.stderr
    assert "Nothing matches." in grid.rgrid("workflows", "runs", "listed", "--status", "PENDING").stderr


def test_an_approval_lets_a_run_go_on(grid: Grid, tmp_path: Path) -> None:
    put(grid, tmp_path, waiting("approved"))
    run_id = grid.rgrid("workflows", "trigger", "approved").stdout.strip()
    paused = grid.rgrid("workflows", "pause", run_id, "--note", "for lunch")
    assert paused.stdout == f"{run_id} paused\n", paused.stderr
    told = grid.rgrid("workflows", "signal", run_id, "approved", "--payload", "by=me")
    assert told.stdout == f"{run_id} was told approved\n", told.stderr
    assert "for lunch" in grid.rgrid("workflows", "show", run_id).stdout
    assert grid.rgrid("workflows", "resume", run_id).stdout == f"{run_id} goes on\n"
    assert grid.rgrid("workflows", "watch", run_id).returncode == 0


def test_a_run_is_cancelled(grid: Grid, tmp_path: Path) -> None:
    put(grid, tmp_path, waiting("stopped"))
    run_id = grid.rgrid("workflows", "trigger", "stopped").stdout.strip()
    done = grid.rgrid("workflows", "cancel", run_id, "--reason", "enough")
    assert re.fullmatch(rf"{run_id} (cancelled|is being stopped)\n", done.stdout), done.stderr
    assert grid.client().workflows.wait(run_id, 60).status == "CANCELLED"
    again = grid.rgrid("workflows", "cancel", run_id)
    assert again.returncode == 1
    assert again.stderr.endswith(f"Next: rgrid workflows show {run_id}\n"), again.stderr


def test_leaving_a_run_lets_it_go_on(grid: Grid, tmp_path: Path) -> None:
    put(grid, tmp_path, waiting("left"))
    started = subprocess.Popen(
        [sys.executable, "-m", "rgrid", "workflows", "trigger", "left", "--watch"],
        env=grid.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    runs: list[str] = []
    while not runs:
        runs = [run.run_id for run in grid.client().workflows.runs(workflow_name="left", status="RUNNING")]
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=30)
    assert started.returncode == 130
    assert f"You left; {runs[0]} goes on." in said
    assert grid.client().workflows.run(runs[0]).status == "RUNNING"
    grid.client().workflows.cancel(runs[0])


@pytest.mark.parametrize(
    ("words", "said", "following"),
    [
        (["trigger", "nobody"], "Workflow not found: nobody", "rgrid workflows list"),
        (["show", "run_01JB2Z4M7K8P9Q0R1S2T3V4W5X"], "not found", "rgrid workflows runs"),
        (["graph", "nobody"], "Workflow not found: nobody", "rgrid workflows list"),
    ],
)
def test_what_is_not_there_is_told(grid: Grid, words: list[str], said: str, following: str) -> None:
    done = grid.rgrid("workflows", *words)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.endswith(f"Next: {following}\n"), done.stderr


def test_which_runs_are_meant_must_be_said(grid: Grid) -> None:
    for command in ("retry", "cancel"):
        assert grid.rgrid("workflows", command).returncode == 2
    assert grid.rgrid("workflows", "retry", "--workflow", "x", "--plan").returncode == 2


def test_many_runs_are_meant_by_what_they_have_in_common(grid: Grid, tmp_path: Path) -> None:
    put(grid, tmp_path, failing("many"))
    ids = [grid.rgrid("workflows", "trigger", "many", "--wait").stdout.split()[0] for _ in range(2)]
    planned = grid.rgrid("workflows", "retry", "--workflow", "many", "--status", "FAILED", "--dry-run")
    assert [line.split()[0] for line in planned.stdout.splitlines()] == ids, planned.stderr
    assert "2 would run again. Nothing was done." in planned.stderr
    retried = grid.rgrid("workflows", "retry", "--workflow", "many", "--status", "FAILED", "--json")
    assert document(retried)["done"] == 2
    put(grid, tmp_path, waiting("many"))
    grid.rgrid("workflows", "trigger", "many")
    stopped = grid.rgrid("workflows", "cancel", "--workflow", "many", "--status", "RUNNING")
    assert stopped.returncode == 0, stopped.stderr
    assert "are being stopped" in stopped.stderr
