"""`rgrid schedules` against a real service: when something is due, and what came of it."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from running_grid import Grid
from terminal import Terminal

WORKFLOW = """\
name: scheduled
parameters:
  - {name: region, type: string, default: EU}
  - {name: scheduled_at, type: datetime}
steps:
  - {name: only, type: WAIT, duration_seconds: 0}
"""
SPRING = ("--cron", "30 2 * * *", "--timezone", "America/New_York", "--after", "2026-03-07T12:00:00Z")
AUTUMN = ("--cron", "30 1 * * *", "--timezone", "America/New_York", "--after", "2026-10-31T12:00:00Z")


def document(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


@pytest.fixture
def workflow(grid: Grid, tmp_path: Path) -> str:
    (tmp_path / "w.yaml").write_text(WORKFLOW)
    done = grid.rgrid("workflows", "apply", tmp_path / "w.yaml")
    assert done.returncode == 0, done.stderr
    return "scheduled"


@pytest.fixture
def weekly(grid: Grid, workflow: str, request: pytest.FixtureRequest) -> str:
    """A schedule of its own for each test."""
    name = re.sub(r"\W+", "-", request.node.name)[:80].strip("-")
    done = grid.rgrid(
        "schedules", "create", name, "--cron", "0 6 * * 1", "--timezone", "America/New_York", "--workflow", workflow,
        "--param", "region=US", "--description", "Mondays at six",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"sched_\w+\n", done.stdout)
    assert re.search(r"  due Mon \d{4}-\d\d-\d\d 06:00:00 -0[45]:00 \(\d{4}-\d\d-\d\d 1[01]:00:00Z\)", done.stderr)
    return name


def test_in_spring_a_time_that_is_not_there_is_put_off(grid: Grid) -> None:
    lines = grid.rgrid("schedules", "preview", *SPRING, "--count", "2").stdout.splitlines()
    assert re.split(r" {2,}", lines[0]) == ["LOCAL TIME", "UTC", "CLOCK CHANGE", "ZONE"]
    assert re.split(r" {2,}", lines[1])[:2] == ["Sun 2026-03-08 03:00:00 -04:00", "2026-03-08 07:00:00Z"]
    assert "skips it" in lines[1]
    assert re.split(r" {2,}", lines[2])[:2] == ["Mon 2026-03-09 02:30:00 -04:00", "2026-03-09 06:30:00Z"]
    skipped = document(grid.rgrid("schedules", "preview", *SPRING, "--count", "1", "--dst-gap", "SKIP", "--json"))
    assert skipped["data"][0]["next_run_at"] == "2026-03-09T06:30:00Z"


def test_in_autumn_both_passes_are_due_if_so_wished(grid: Grid) -> None:
    both = document(grid.rgrid("schedules", "preview", *AUTUMN, "--count", "2", "--dst-fold", "BOTH", "--json"))
    assert [due["next_run_at"] for due in both["data"]] == ["2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"]
    assert "comes twice" in grid.rgrid("schedules", "preview", *AUTUMN).stdout


def test_a_schedule_is_listed_shown_and_deleted(grid: Grid, weekly: str, workflow: str) -> None:
    listed = grid.rgrid("schedules", "list", "--workflow", workflow, "--all").stdout
    assert re.search(rf"^{weekly} +yes +0 6 \* \* 1 America/New_York +{workflow} ", listed, re.MULTILINE), listed
    shown = grid.rgrid("schedule", "show", weekly).stdout
    assert "Mondays at six" in shown
    assert shown.count("06:00:00 -0") == 5
    known = document(grid.rgrid("schedules", "show", weekly, "--json"))
    assert known["target_params"] == {"region": "US"}
    assert grid.rgrid("schedules", "show", known["id"]).returncode == 0
    assert grid.rgrid("schedules", "delete", weekly).stdout == f"{weekly} is deleted\n"
    gone = grid.rgrid("schedules", "show", weekly)
    assert gone.returncode == 1
    assert gone.stderr.endswith("Next: rgrid schedules list\n")


def test_what_is_disabled_is_not_due(grid: Grid, weekly: str) -> None:
    done = grid.rgrid("schedules", "disable", weekly, "--note", "holidays")
    assert done.stdout == f"{weekly} is disabled; what runs goes on\n", done.stderr
    shown = grid.rgrid("schedules", "show", weekly).stdout
    assert "holidays" in shown
    assert "06:00:00" not in shown
    enabled = grid.rgrid("schedules", "enable", weekly)
    assert enabled.stdout == f"{weekly} is enabled\n"
    assert enabled.stderr.count("  due Mon ") == 3


def test_run_now_starts_its_workflow_with_other_parameters(grid: Grid, weekly: str) -> None:
    done = grid.rgrid("schedules", "run-now", weekly, "--param", "region=ASIA", "--wait")
    assert done.returncode == 0, done.stderr
    run = grid.client().workflows.run(done.stdout.split()[0])
    assert (run.params["region"], run.status) == ("ASIA", "COMPLETED")
    runs = document(grid.rgrid("schedules", "runs", weekly, "--trigger", "MANUAL", "--json"))["data"]
    assert [row["run_id"] for row in runs] == [run.run_id]


def test_the_past_is_filled_in(grid: Grid, weekly: str) -> None:
    span = ("--from", "2026-01-01", "--to", "2026-02-01")
    planned = grid.rgrid("schedules", "backfill", weekly, *span, "--dry-run")
    assert planned.stdout.splitlines() == [f"2026-01-{day:02}T11:00:00Z" for day in (5, 12, 19, 26)], planned.stderr
    assert "4 would run" in planned.stderr
    done = grid.rgrid("schedules", "backfill", weekly, *span, "--parallel", "2")
    assert done.returncode == 0, done.stderr
    client, schedule_id = grid.client(), _id(grid, weekly)
    give_up = time.monotonic() + 30
    while {run.status for run in client.schedules.runs(schedule_id)} != {"COMPLETED"}:
        assert time.monotonic() < give_up, list(client.schedules.runs(schedule_id))
        time.sleep(0.05)
    again = document(grid.rgrid("schedules", "backfill", weekly, *span, "--json"))
    assert (again["count"], again["skipped"]) == (0, 4)
    rows = grid.rgrid("schedules", "runs", weekly, "--status", "COMPLETED").stdout.splitlines()
    assert len(rows) == 5
    assert re.search(r"COMPLETED .* run_\w+ .*BACKFILL", rows[1])


def _id(grid: Grid, name: str) -> str:
    return str(document(grid.rgrid("schedules", "show", name, "--json"))["id"])


def test_a_script_is_scheduled_with_its_arguments(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "tidy.py").write_text("import sys\nprint('tidied', sys.argv[1])\n")
    made = grid.rgrid(
        "schedules", "create", "tidy", "--every", "1d", "--script", "tidy.py", "--arg", "attic", "--overlap", "QUEUE",
        "--param", "timeout_seconds=60", "--exclude", "2026-12-24..2026-12-26", folder=tmp_path,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    known = document(grid.rgrid("schedules", "show", "tidy", "--json"))
    assert (known["target_type"], known["overlap_policy"], known["interval_seconds"]) == ("EXECUTION", "QUEUE", 86_400)
    started = grid.rgrid("schedules", "run-now", "tidy")
    assert re.fullmatch(r"exec_\w+\n", started.stdout), started.stderr
    assert grid.client().wait(started.stdout.strip(), 60).stdout == "tidied attic\n"
    shown = grid.rgrid("schedules", "show", "tidy").stdout
    assert "2026-12-24..2026-12-26" in shown
    grid.rgrid("schedules", "delete", "tidy")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["preview", "--cron", "61 * * * *"], 1, "61 * * * *"),
        (["preview", "--cron", "* * * * *", "--timezone", "Nowhere/At_All"], 1, "Nowhere/At_All"),
        (["preview", "--at", "soon"], 2, "'soon' is no time"),
        (["preview", "x", "--cron", "* * * * *"], 2, "Name a schedule, or say when"),
        (["preview", "--timezone", "UTC"], 2, "go with --cron"),
        (["create", "x", "--cron", "* * * * *"], 2, "--workflow"),
        (["create", "x", "--cron", "* * * * *", "--workflow", "nobody"], 1, "Workflow not found: nobody"),
        (["create", "x", "--every", "5m", "--workflow", "w", "--arg", "y"], 2, "go with --script"),
        (["show", "nobody"], 1, "There is no schedule nobody."),
        (["runs", "--trigger", "MANUAL"], 2, "--trigger needs"),
    ],
)
def test_a_mistake_is_one_message(grid: Grid, words: list[str], code: int, said: str) -> None:
    done = grid.rgrid("schedules", *words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stdout == ""
    assert "Next: rgrid" in done.stderr or code == 2


def test_nothing_is_wider_than_the_terminal(grid: Grid, weekly: str, tmp_path: Path) -> None:
    grid.rgrid("schedules", "run-now", weekly, "--wait")
    for words in (["list"], ["show", weekly], ["preview", weekly], ["preview", *SPRING], ["runs"], ["runs", weekly]):
        program = [sys.executable, "-m", "rgrid", "schedules", *words]
        with Terminal(program, grid.environment(), tmp_path) as terminal:
            assert terminal.end() == 0
        assert max(map(len, terminal.shown.splitlines())) <= 80, terminal.shown


def test_names_are_completed(grid: Grid, weekly: str, workflow: str) -> None:
    done = grid.rgrid("completion", "words", "schedules", "show", weekly[:-1])
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [weekly]
    done = grid.rgrid("completion", "words", "workflows", "trigger", workflow[:-1])
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [workflow]
    assert "run-now" in grid.rgrid("completion", "words", "schedules", "").stdout
