"""A real service for faults: `rgrid up` as a process that can be killed, frozen and started again on the same data."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import asyncpg
import psutil
from prepared import prepare

from rgrid.client.answers import Execution
from rgrid.client.grid import Client, Submission
from rgrid.postgres.embedded import dsn_of_running

SOURCES = Path(__file__).resolve().parents[2]
KEY = "sk_live_" + "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg"
READY_MAX_S = 60
STOP_MAX_S = 45
TAIL_LINES = 60
PORTS = range(20_000, 30_000)  # below those that the kernel gives to outgoing connections

T = TypeVar("T")
running: "list[Program]" = []
"""Every program of the test that runs now: when it fails, their last words are shown."""


class Program:
    """One `rgrid` process, its log in a file."""

    def __init__(self, name: str, folder: Path, *words: str, **settings: object) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._words = words
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder),
            "PYTHONPATH": f"{SOURCES}:{SOURCES / 'src'}",
            "RGRID_BOOTSTRAP_KEY": KEY,
            "RGRID_LOG_LEVEL": "warning",
            **{f"RGRID_{setting.upper()}": str(value) for setting, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} was never started"
        return self.process.pid

    def spawn(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rgrid", *self._words],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if self not in running:
            running.append(self)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> "Family":
        """SIGKILL, as the kernel's memory killer does it; gives what the process had started."""
        family = Family(self.pid)
        self.signal(signal.SIGKILL)
        self.reaped()
        return family

    def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return self.reaped()

    def stop(self) -> None:
        """The end, however it is reached."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
            self.terminate()
        if self in running:
            running.remove(self)

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def processor_s(self) -> float:
        """What it and those it has started have used of the processors."""
        everyone = [psutil.Process(self.pid), *_children(self.pid)]
        times = [process.cpu_times() for process in everyone if process.is_running()]
        return sum(time.user + time.system for time in times)

    def tail(self, lines: int = TAIL_LINES) -> str:
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def reaped(self) -> int:
        """The exit code, once it has ended."""
        assert self.process is not None
        try:
            code = self.process.wait(STOP_MAX_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.name} did not end within {STOP_MAX_S} s\n{self.tail()}") from None
        if self in running:
            running.remove(self)
        return code


class Service(Program):
    """`rgrid up` on a port and a folder of its own, which survive its restarts."""

    def __init__(self, folder: Path, name: str = "service", *, data: Path | None = None, **settings: object) -> None:
        self.data = data or folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        words = ("up", "--port", str(self.port), "--data-dir", str(self.data))
        super().__init__(name, folder, *words, **settings)

    def start(self) -> float:
        """Returns when it is ready; how long that took."""
        if "RGRID_DATABASE_URL" not in self.environment:
            prepare(self.data, flushes=True)
        begun = time.monotonic()
        self.spawn()
        client = self.client()

        def ready() -> bool:
            assert self.is_alive(), f"{self.name} ended while it started"
            with contextlib.suppress(Exception):
                client.transport.call("GET", "/api/v1/health/ready", retry=False)
                return True
            return False

        until(f"{self.name} is ready", ready, READY_MAX_S, every_s=0.02)
        return time.monotonic() - begun

    def client(self, *, patient: bool = False) -> Client:
        """Tries once, so that a test sees every fault; a patient one tries again as users do."""
        return Client(self.url, KEY) if patient else Client(self.url, KEY, waits_s=())

    def submit(self, script: str, **more: object) -> str:
        return self.client().submit(Submission(script_content=script, **more)).execution_id  # type: ignore[arg-type]

    def ended(self, execution_id: str, max_s: float) -> Execution:
        """The execution when it is over, which it must be in time."""
        client = self.client()

        def over() -> Execution | None:
            execution = client.get(execution_id)
            return execution if execution.is_over else None

        return until(f"{execution_id} is over", over, max_s)

    def printed(self, execution_id: str, text: str, max_s: float = 20) -> None:
        """Returns when the execution has printed a line that holds this text."""
        client = self.client()
        until(
            f"{execution_id} has printed {text!r}",
            lambda: any(text in line.message for line in client.logs(execution_id)),
            max_s,
        )

    @property
    def dsn(self) -> str:
        dsn = self.environment.get("RGRID_DATABASE_URL") or dsn_of_running(self.data)
        assert dsn is not None, f"no database runs on {self.data}"
        return dsn

    @property
    def postmaster(self) -> int:
        return int((self.data / "postgres" / "cluster" / "postmaster.pid").read_text().split()[0])


class Worker(Program):
    """`rgrid worker` on the database of a service that runs."""

    def __init__(self, service: Service, name: str = "worker", *, data: Path | None = None, **settings: object) -> None:
        words = ("worker", "--data-dir", str(data or service.data))
        super().__init__(name, service.log.parent, *words, **settings)
        self._service = service

    def registered(self) -> str:
        """Its id, as soon as the service knows it."""

        def known() -> str | None:
            assert self.is_alive(), f"{self.name} ended while it started"
            rows = query(self._service.dsn, "select worker_id from workers where pid = $1", self.pid)
            return rows[0]["worker_id"] if rows else None

        return until(f"{self.name} is registered", known, READY_MAX_S)


class Family:
    """What a process has started, by pid and birth, so that a number used again is not taken for it. Processes that
    moved away from their parents are found by the control groups, which bear the number of the service."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._known = {(child.pid, child.create_time()): _words(child) for child in _children(pid)}

    def alive(self) -> list[str]:
        """Those that run now, zombies aside."""
        found = [
            f"{pid} {words}"
            for (pid, born), words in self._known.items()
            if any(process.create_time() == born for process in _living(pid))
        ]
        return found + [f"{pid} (by its control group)" for pid in in_groups_of(self._pid)]

    def must_be_gone(self, max_s: float) -> None:
        until("nothing of the killed process runs", lambda: not self.alive(), max_s, says=lambda: str(self.alive()))


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _living(pid: int) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            yield process


def _words(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())[:120] or process.name()
    return "?"


def in_groups_of(pid: int) -> list[int]:
    """Processes inside the control groups of the service with this number."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if f"/rgrid-{pid}-" in (folder / "cgroup").read_text():
                    found.append(int(folder.name))
    return found


def groups_of(pid: int) -> list[Path]:
    """Control groups of single runs that the service with this number has made."""
    parents = [*Path("/sys/fs/cgroup").glob(f"**/rgrid-{pid}-*")]
    return [run for parent in parents if parent.is_dir() for run in parent.iterdir() if run.is_dir()]


def left_in_scratch(data: Path) -> list[str]:
    """Folders of attempts; hidden ones belong to the engine and live as long as it does."""
    jobs = data / "jobs"
    return [entry.name for entry in jobs.iterdir() if not entry.name.startswith(".")] if jobs.exists() else []


def mounts_below(folder: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {folder}/" in line]


def query(dsn: str, sql: str, *args: object) -> list[asyncpg.Record]:
    """One statement on a connection of its own."""

    async def ask() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(dsn, server_settings={"search_path": "rgrid, rm"}, timeout=10)
        try:
            return await connection.fetch(sql, *args, timeout=10)
        finally:
            await connection.close()

    return asyncio.run(ask())


def until(
    what: str,
    condition: Callable[[], T | None],
    max_s: float,
    *,
    every_s: float = 0.05,
    says: Callable[[], str] = lambda: "",
) -> T:
    """The first value that counts as true; fails with what was waited for."""
    deadline = time.monotonic() + max_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {max_s:g} s: {what} {says()}"
        time.sleep(every_s)


def free_port() -> int:
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Short, because the path of a Unix socket is bounded, and open to the user that Postgres runs as."""
    folder = Path(tempfile.mkdtemp(prefix="rgrid-e2e-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
