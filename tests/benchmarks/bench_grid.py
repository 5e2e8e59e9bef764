"""A real service in a process of its own, with the rate limit out of the way."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
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
        self._threads = threading.local()

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
        """One request on this thread's own connection, so that the client costs as little as it can."""
        connection: http.client.HTTPConnection | None = getattr(self._threads, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=30)
            self._threads.connection = connection
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"X-API-Key": KEY, "Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status < 300, said
        return json.loads(said)

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
