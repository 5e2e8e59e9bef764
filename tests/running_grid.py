"""A real service for tests: `rgrid up` in a process of its own, and the command line as its users call it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rgrid.cli.demo.own_service import Service
from rgrid.client.grid import Client

COMMAND_TIMEOUT_S = 120


class Grid:
    """A running service. `rgrid(...)` calls the command line against it, in a home of its own."""

    def __init__(self, url: str, key: str, home: Path) -> None:
        self.url, self.key, self.home = url, key, home

    def environment(self) -> dict[str, str]:
        known = {"RGRID_API_URL": self.url, "RGRID_API_KEY": self.key}
        return {"PATH": "/usr/bin:/bin", "HOME": str(self.home), "PYTHONPATH": SOURCES, **known}

    def rgrid(
        self, *words: str | Path, folder: Path | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rgrid", *map(str, words)],
            cwd=folder or self.home,
            env=self.environment() | (env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )

    def client(self, url: str | None = None) -> Client:
        return Client(url or self.url, self.key)


TREE = Path(__file__).resolve().parent.parent
SOURCES = f"{TREE / 'src'}:{TREE}"


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    """One service for all tests that ask for it."""
    with Service() as service:
        yield Grid(service.url, service.key, tmp_path_factory.mktemp("home"))
