"""`rgrid run` sends no file a second time, and `rgrid purge` works with and without a service."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cli.test_up import User
from running_grid import Grid

SCRIPT = "import sys; print(open(sys.argv[1]).read(), end='')"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "show.py").write_text(SCRIPT)
    (tmp_path / "a.csv").write_text("the same\n")
    return tmp_path


def states(grid: Grid, folder: Path, *words: str) -> list[str]:
    """Where the inputs of a run came from."""
    ran = grid.rgrid("run", "--json", *words, folder=folder)
    assert ran.returncode == 0, ran.stderr
    execution: dict[str, Any] = json.loads(ran.stdout)
    assert execution["stdout"] == (folder / words[-1]).read_text()
    return [one["state"] for one in execution["inputs"]]


def test_the_same_files_are_sent_once(grid: Grid, folder: Path) -> None:
    run = ("show.py", "a.csv")
    assert states(grid, folder, *run) == ["verified"]
    assert states(grid, folder, *run) == ["cached"]
    assert states(grid, folder, "--no-cache", *run) == ["verified"]
    assert states(grid, folder, *run) == ["cached"]
    (folder / "a.csv").write_text("other\n")
    assert states(grid, folder, *run) == ["verified"]
    (folder / "b.csv").write_text("other\n")
    assert states(grid, folder, "show.py", "b.csv") == ["verified"]


@pytest.fixture
def user(tmp_path: Path) -> User:
    os.chmod(tmp_path, 0o755)  # noqa: PTH101
    return User(tmp_path)


def test_purge_cleans_up_while_the_service_runs_and_while_it_does_not(user: User) -> None:
    objects = user.home / "data" / "objects"

    def left_behind(name: str) -> Path:
        path = objects / "ab" / (name * 62)
        path.parent.mkdir(exist_ok=True)
        path.write_text("left behind")
        os.utime(path, (1, 1))
        return path

    def purge(*words: str) -> dict[str, int]:
        ran = user.rgrid("purge", "--data-dir", str(user.home / "data"), "--json", *words)
        assert ran.returncode == 0, ran.stderr
        done: dict[str, int] = json.loads(ran.stdout)
        return done

    with user.up("--port", "0"):
        orphan = left_behind("c")
        assert purge()["objects"] == 0
        assert purge("--orphans")["objects"] == 1
        assert not orphan.exists()
    orphan, young = left_behind("d"), left_behind("e")
    os.utime(young)
    done = purge("--orphans")
    assert done == {
        "executions_without_files": 0, "executions_without_lines": 0, "log_blocks": 0, "cache_entries": 0, "uploads": 0,
        "lines": 0, "objects": 1,
    }  # fmt: skip
    assert not orphan.exists()
    assert young.exists()
