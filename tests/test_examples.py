"""Every example does what its README says, on a real service."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from neighbours import needs
from running_grid import Grid, grid

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
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
