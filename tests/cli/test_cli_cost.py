"""`rgrid cost` and `rgrid estimate` against a real service, as their users type them."""

import json
import re
from pathlib import Path

import pytest
from running_grid import Grid

from rgrid.cli.cost import amount
from rgrid.cli.output import Usage


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("50", 50_000_000),
        ("50.50", 50_500_000),
        ("€50", 50_000_000),
        ("EUR 50", 50_000_000),
        ("€50/month", 50_000_000),
        ("19.99", 19_990_000),
        ("0.0000005", 1),
    ],
)
def test_an_amount_is_read_as_people_write_it(text: str, micros: int) -> None:
    assert amount(text) == micros


@pytest.mark.parametrize("text", ["0", "-5", "€0.00", "0.0000004", "50,50", "fifty", "", "1e3", "$50", "50/year"])
def test_no_amount_zero_and_less_are_refused_with_a_note(text: str) -> None:
    with pytest.raises(Usage):
        amount(text)


def test_what_was_spent_is_shown_with_a_bar_for_each_day(grid: Grid, tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text("import time; time.sleep(0.5)")
    assert grid.rgrid("run", "--metadata", "purse=sales", script).returncode == 0
    shown = grid.rgrid("cost", "--by", "metadata.purse", env={"COLUMNS": "80"})
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"^\S+ for \d+ executions?, \d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d \(UTC\)$", shown.stdout, re.M)
    assert re.search(r"^\d{4}-\d\d-\d\d +\d+ +.+ s +\S+ +█+$", shown.stdout, re.M)
    assert re.search(r"^sales +1 ", shown.stdout, re.M)
    assert max(map(len, shown.stdout.splitlines())) <= 80
    document = json.loads(grid.rgrid("cost", "--json").stdout)
    assert sum(day["cost_micros"] for day in document["by_date"]) == document["total_cost_micros"]
    assert grid.rgrid("cost", "--by", "colour").returncode == 2


def test_a_limit_is_set_shown_felt_and_removed(grid: Grid, tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text("print(1)")
    assert grid.rgrid("cost", "set-limit", "0").returncode == 2
    done = grid.rgrid("cost", "set-limit", "EUR", "0.000001", "--warn-at", "50")
    assert (done.returncode, done.stdout) == (0, "The limit is <€0.0001/month.\n")
    try:
        shown = grid.rgrid("cost", "show-limit")
        assert re.search(r"^Limit +<€0.0001/month$", shown.stdout, re.M)
        assert re.search(r"^Notice at +50 %$", shown.stdout, re.M)
        assert json.loads(grid.rgrid("cost", "show-limit", "--json").stdout)["monthly_limit_micros"] == 1
        refused = grid.rgrid("run", script)
        assert refused.returncode == 1
        assert "overshoot the monthly limit" in refused.stderr
        assert refused.stderr.rstrip().endswith("Next: rgrid cost show-limit")
    finally:
        removed = grid.rgrid("cost", "remove-limit")
    assert (removed.returncode, removed.stdout) == (0, "There is no spending limit.\n")
    assert "No limit" in grid.rgrid("cost", "show-limit").stdout
    assert "vCPU-HOUR" in grid.rgrid("cost", "rates").stdout


def test_an_estimate_goes_by_the_script(grid: Grid, tmp_path: Path) -> None:
    script = tmp_path / "never_run_before.py"
    script.write_text("print('never run before')")
    said = grid.rgrid("estimate", script, "--files", "100", "--parallel", "20")
    assert said.returncode == 0, said.stderr
    assert re.search(r"^Runs +100, 20 at a time, on python:", said.stdout, re.M)
    assert re.search(r"^Time +.+ \(p90 .+\)$", said.stdout, re.M)
    document = json.loads(grid.rgrid("estimate", script, "--json").stdout)
    assert document["basis"] in ("default", "runtime_history")


def test_status_says_why_something_waits(grid: Grid, tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text("print(1)")
    started = grid.rgrid("run", "--detach", "--cpu", "16", "--priority", "-3", "--queue-timeout", "1h", script)
    execution_id = started.stdout.strip()
    shown = grid.rgrid("status", execution_id).stdout
    assert re.search(r"^Waits +No worker has 16 cores and 512 MB of memory\. Position \d+ in the queue\.$", shown, re.M)
    seen = json.loads(grid.rgrid("status", execution_id, "--json").stdout)
    assert (seen["priority"], seen["queue_timeout_seconds"]) == (-3, 3600)
    assert seen["waiting"]["reason"] == "too_large_for_workers"
    assert grid.rgrid("cancel", execution_id).returncode == 0
