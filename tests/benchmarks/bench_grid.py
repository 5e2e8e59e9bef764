"""A real service in a process of its own, with the rate limit out of the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

KEY = "sk_live_" + "b" * 43
READY_MAX_S = 60
SOURCES = Path(__file__).resolve().parents[2]


class BenchGrid:
    """Starts on entering; `started_s` is the time from the start of the process to its line that it is ready."""

    def __init__(self, slots: int, folder: Path | None = None, **settings: str) -> None:
        self._slots = slots
        self._settings = settings
        self._own = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="rgrid-bench-"))
        self.url = ""
        self.started_s = 0.0

    def __enter__(self) -> Self:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": f"{SOURCES / 'src'}:{SOURCES}",
            "RGRID_BOOTSTRAP_KEY": KEY,
            "RGRID_RATE_LIMIT": "1000000",
            "RGRID_RATE_BURST": "1000000",
            "RGRID_LOG_LEVEL": "warning",
            **self._settings,
        }
        words = ["up", "--json", "--port", "0", "--data-dir", str(self.folder / "data"), "--slots", str(self._slots)]
        began = time.monotonic()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rgrid", *words], env=environment, stdout=subprocess.PIPE, stderr=log,
                cwd=SOURCES,
            )  # fmt: skip
        assert self.process.stdout is not None
        said = b""
        while not said.endswith(b"}\n"):
            line = self.process.stdout.readline()
            assert line, (self.folder / "log").read_text()[-3000:]
            said += line
        self.started_s = time.monotonic() - began
        self.url = json.loads(said)["url"]
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
        if self._own:
            shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def memory_mib(self) -> float:
        """Proportional set size of the service and everything below it."""
        total = 0
        for pid in _tree(self.process.pid):
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        return total / 1024


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found
