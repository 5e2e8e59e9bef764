"""Every example does what its README says, on a real service."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from neighbours import needs
from running_grid import Grid, grid

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
WEEKLY = EXAMPLES / "weekly_refresh"
WEATHER = EXAMPLES / "data" / "seattle-weather.csv"

__all__ = ["grid"]


def run(grid: Grid, folder: Path, script: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    return grid.rgrid("run", EXAMPLES / script, *args, folder=folder)


def test_hello_keeps_its_two_streams_apart(grid: Grid, tmp_path: Path) -> None:
    done = run(grid, tmp_path, "hello.py", "one", "--two")
    assert done.returncode == 0, done.stderr
    assert "hello from Python" in done.stdout
    assert "arguments: ['one', '--two']" in done.stdout
    assert "this line goes to stderr" in done.stderr
    assert "this line goes to stderr" not in done.stdout


def test_rain_takes_a_file_along_and_brings_one_back(grid: Grid, tmp_path: Path) -> None:
    done = run(grid, tmp_path, "rain.py", WEATHER, "--year", "2014")
    assert done.returncode == 0, done.stderr
    assert "Seattle, 2014" in done.stdout
    assert (tmp_path / "rain-2014.csv").read_text().startswith("month,rain_mm\n01,94.0\n")


def test_dry_spell_runs_on_node(grid: Grid, tmp_path: Path) -> None:
    needs("node", "nodejs")
    done = run(grid, tmp_path, "dry_spell.js", WEATHER)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "dry-spell.json").read_text())["days"] > 20


def test_kinds_of_weather_runs_in_the_shell(grid: Grid, tmp_path: Path) -> None:
    done = run(grid, tmp_path, "kinds_of_weather.sh", WEATHER)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "kinds.txt").read_text() == done.stdout
    assert done.stdout.split()[1] in ("rain", "sun")


def test_a_countdown_can_be_left_and_followed(grid: Grid, tmp_path: Path) -> None:
    started = grid.rgrid("run", "--detach", EXAMPLES / "countdown.py", "4", folder=tmp_path)
    assert started.returncode == 0, started.stderr
    followed = grid.rgrid("logs", "-f", started.stdout.strip(), folder=tmp_path)
    assert followed.stdout.split() == ["4", "3", "2", "1", "lift-off"]


def test_a_failure_says_what_is_missing_and_keeps_the_exit_code(grid: Grid, tmp_path: Path) -> None:
    done = run(grid, tmp_path, "missing_module.py")
    assert done.returncode == 1
    assert "a_module_that_nobody_has" in done.stderr
    assert "failed" in done.stderr
    assert "Hint:" in done.stderr


def test_every_year_uses_the_client_from_python(grid: Grid) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "every_year.py"],
        env=grid.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("wettest month: 2015-12 with 284.5 mm")


TIERS = ("network", "low_cost", "regional")


@pytest.fixture
def refresh(grid: Grid) -> Path:
    done = grid.rgrid("workflows", "apply", "tier.yaml", "weekly_refresh.yaml", folder=WEEKLY)
    assert done.returncode == 0, done.stderr
    return WEEKLY


def test_a_week_is_refreshed(grid: Grid, refresh: Path) -> None:
    files = [word for name in TIERS for word in ("--file", f"{name}=data/{name}/flights.psv")]
    asked = ("--param", "week_ending=2013-01-12", *files)
    done = grid.rgrid("workflows", "trigger", "weekly_refresh", *asked, "--watch", folder=refresh)
    assert done.returncode == 0, done.stderr
    run = grid.client().workflows.run(done.stdout.split()[0])
    states = {step.step_name: (step.status, step.skip_reason) for step in run.last_tries()}
    assert states["worst_routes"] == ("COMPLETED", None)
    assert states["praise"] == ("SKIPPED", "branch_not_taken")
    with grid.client() as client:
        (page,) = client.artifacts(run.outputs["publish"]["execution_id"], "output")
        text = client.download(page, grid.home).read_text()
    assert text.startswith("# Departures in the week ending 2013-01-12\n")
    assert "| EWR | regional | 941 | 7.7 min |" in text


def test_a_tier_that_is_late_is_retried_from_its_step(grid: Grid, refresh: Path, tmp_path: Path) -> None:
    late = tmp_path / "flights.psv"
    late.write_bytes((refresh / "data" / "regional" / "flights.psv").read_bytes() + b"2013-01-12|EV|EWR|IAD|3|2\n")
    files = [word for name in TIERS[:2] for word in ("--file", f"{name}=data/{name}/flights.psv")]
    named = f"regional=objects/{hashlib.sha256(late.read_bytes()).hexdigest()}"
    asked = ("--param", "week_ending=2013-01-12", "--param", named, *files)
    failed = grid.rgrid("workflows", "trigger", "weekly_refresh", *asked, "--wait", folder=refresh)
    assert failed.returncode == 1, failed.stderr
    run_id, status = failed.stdout.split()
    assert (status, "tiers: " in failed.stderr) == ("FAILED", True), failed.stderr
    children = {run.status for run in grid.client().workflows.runs(parent_run_id=run_id)}
    assert children == {"COMPLETED", "FAILED"}

    assert grid.rgrid("run", refresh / "scripts" / "check.py", late).returncode == 0
    planned = grid.rgrid("workflows", "retry", run_id, "--plan")
    assert [line.split()[0] for line in planned.stdout.splitlines() if "keeps its output" in line] == ["week"]
    again = grid.rgrid("workflows", "retry", run_id, "--from", "tiers", "--wait")
    assert again.returncode == 0, again.stderr
    run = grid.client().workflows.run(again.stdout.split()[0])
    assert run.last_tries()[0].skip_reason == "restored"
    assert run.outputs["report"]["stdout_json"]["row_count"] == 9


def test_a_week_that_does_not_end_on_a_saturday_is_refused(grid: Grid, refresh: Path) -> None:
    asked = [word for name in TIERS for word in ("--param", f"{name}=objects/none")]
    done = grid.rgrid("workflows", "trigger", "weekly_refresh", "--param", "week_ending=2013-01-11", *asked, "--wait")
    assert done.returncode == 1
    logs = grid.rgrid("workflows", "logs", done.stdout.split()[0])
    assert "2013-01-11 is a Friday; weeks end on Saturdays" in logs.stderr


def test_the_week_in_python_is_the_week_in_yaml(grid: Grid, refresh: Path) -> None:
    done = subprocess.run(
        [sys.executable, refresh / "refresh.py"], env=grid.environment(), capture_output=True, text=True, timeout=175
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    # Version 1 was made of the YAML form: it is the same document.
    assert lines[:2] == ["weekly_refresh.tier is at version 1", "weekly_refresh is at version 1"]
    assert lines[2].startswith("COMPLETED {'row_count': 9, 'flights': 6085, ")


def test_no_example_is_left_out() -> None:
    told = (EXAMPLES / "README.md").read_text()
    tested = Path(__file__).read_text()
    for script in EXAMPLES.iterdir():
        if script.suffix in (".py", ".js", ".sh"):
            assert script.name in told, script
            assert script.name in tested, script


@pytest.mark.parametrize("script", ["hello.py", "rain.py"])
def test_a_dry_run_of_an_example_sends_nothing(grid: Grid, script: str) -> None:
    before = json.loads(grid.rgrid("list", "--json").stdout)["pagination"]["total"]
    done = grid.rgrid("run", "--dry-run", EXAMPLES / script)
    assert done.returncode == 0, done.stderr
    assert json.loads(grid.rgrid("list", "--json").stdout)["pagination"]["total"] == before
