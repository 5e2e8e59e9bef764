"""A private Postgres server that lives and dies with this process, in a folder below the data folder.

`start()` needs the main thread: the kernel stops the server when the thread that spawned it ends.
"""

import asyncio
import ctypes
import fcntl
import hashlib
import json
import logging
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import quote

from rgrid.kernel.clock import monotonic_ms
from rgrid.kernel.errors import Conflict
from rgrid.postgres.programs import NoPostgres, Programs, RunAs, find_programs, run_as

READY_WAIT_MAX_S: Final = 300  # recovery after a crash reads the whole write-ahead log
INITDB_WAIT_MAX_S: Final = 120
LEFTOVER_WAIT_MAX_S: Final = 30
STOP_WAIT_MAX_S: Final = 30
SPAWNS_MAX: Final = 100
RESTARTS_MAX: Final = 5
LOCK_TRIES_MAX: Final = 10
SERVER_LOG_BYTES_MAX: Final = 16 * 1024 * 1024
SOCKET_PATH_MAX: Final = 107  # sun_path of unix(7)
SOCKET_FOLDER_MAX: Final = 60  # room for the name of our folder, of the socket and of its lock
_PAUSE_S: Final = 0.002
_RETRY_PAUSE_S: Final = 0.1
_STEADY_MS: Final = 60_000
_USER: Final = "rgrid"
_SOCKET: Final = ".s.PGSQL.5432"
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_log = logging.getLogger(__name__)

_OPTIONS: Final = {
    "listen_addresses": "",
    "port": "5432",
    "max_connections": "300",
    "cluster_name": "rgrid",
    # Nobody replicates this server, so its log need only serve recovery.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "log_checkpoints": "off",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "huge_pages": "off",
}


class DataDirInUse(Conflict):
    """Another process owns the embedded server of this data folder."""

    code = "data_dir_in_use"


class EmbeddedPostgres:
    """The server of one data folder. `start`, then `watch` as a task, then `stop`."""

    def __init__(self, data_dir: Path, *, programs_dir: Path | None = None) -> None:
        self._home = data_dir.absolute() / "postgres"
        self._cluster = self._home / "cluster"
        self._programs_dir = programs_dir
        self._user: RunAs | None = None
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets = self._home / "socket"
        if len(str(self._sockets / _SOCKET)) + len(".lock") > SOCKET_PATH_MAX:
            digest = hashlib.sha256(str(self._home).encode()).hexdigest()[:16]
            self._sockets = _short_folder() / f"rgrid-{digest}"

    @property
    def dsn(self) -> str:
        return f"postgresql://{_USER}@/postgres?host={quote(str(self._sockets))}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> str:
        """Start the server, after making its files if need be, and give its address. Raises DataDirInUse or
        NoPostgres."""
        assert threading.current_thread() is threading.main_thread(), "the server dies with its spawner"
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            self._home.chmod(0o711)  # the user that Postgres runs as passes through
        except OSError as problem:
            raise NoPostgres(f"{self._home} can't be made: {problem.strerror}.") from None
        self._take_lock()
        try:
            for pause in self._boot():
                time.sleep(pause)
        except BaseException:
            self.stop()
            raise
        return self.dsn

    def stop(self) -> None:
        """Stop the server and let go of the data folder. Stopping twice is fine."""
        process, self._process = self._process, None
        if process:
            _end(process)
        if self._sockets.parent != self._home:
            shutil.rmtree(self._sockets, ignore_errors=True)
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def watch(self) -> NoReturn:
        """Start the server again whenever it has died; gives up with NoPostgres after RESTARTS_MAX quick deaths.

        Runs in the main thread's event loop.
        """
        restarts, born_ms = 0, monotonic_ms()
        while True:
            await asyncio.sleep(_RETRY_PAUSE_S)
            if self._process is None or self.alive():
                continue
            restarts = 0 if monotonic_ms() - born_ms > _STEADY_MS else restarts + 1
            if restarts > RESTARTS_MAX:
                raise NoPostgres(f"Postgres keeps dying: {self._last_words()}")
            _log.error("Postgres died (exit status %s); starting it again", self._process.returncode)
            for pause in self._boot():
                await asyncio.sleep(pause)
            born_ms = monotonic_ms()

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = os.open(self._home / "owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for attempt in range(LOCK_TRIES_MAX):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # Somebody may only be looking (dsn_of_running): look again before giving up.
                if attempt + 1 < LOCK_TRIES_MAX:
                    time.sleep(0.02)
                    continue
                owner = _owner(lock).get("pid", "unknown")
                os.close(lock)
                raise DataDirInUse(
                    f"{self._home.parent} is in use by process {owner}: "
                    "stop it, or choose another folder with --data-dir."
                ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps({"pid": os.getpid()}).encode(), 0)
        self._lock = lock

    def _boot(self) -> Iterator[float]:
        """Everything from cold to ready, as pauses: the caller sleeps them, blocking or not."""
        self._user = run_as(self._cluster)
        programs = find_programs(self._programs_dir, self._user)
        self._make_cluster(programs)
        yield from self._clear_leftovers()
        self._make_socket_folder()
        for _ in range(SPAWNS_MAX):
            log_size = self._spawn(programs)
            deadline_ms = monotonic_ms() + READY_WAIT_MAX_S * 1000
            while self.alive():
                if self._ready():
                    assert self._lock is not None
                    os.pwrite(self._lock, json.dumps({"pid": os.getpid(), "dsn": self.dsn}).encode(), 0)
                    return
                if monotonic_ms() > deadline_ms:
                    raise NoPostgres(f"Postgres wasn't ready in {READY_WAIT_MAX_S} s: {self._last_words()}")
                yield _PAUSE_S
            # Sessions of a killed server hold its memory for a moment; then the next one refuses to start.
            if "shared memory block" not in self._last_words(log_size):
                raise NoPostgres(f"Postgres didn't start: {self._last_words(log_size)}")
            yield _RETRY_PAUSE_S
        raise NoPostgres(f"Postgres didn't start: {self._last_words()}")

    def _make_cluster(self, programs: Programs) -> None:
        version = self._cluster / "PG_VERSION"
        if version.exists():
            made_by = version.read_text().strip()
            if made_by != str(programs.major):
                raise NoPostgres(
                    f"{self._cluster} was made by Postgres {made_by}, and the programs in {programs.folder} are "
                    f"version {programs.major}: set RGRID_POSTGRES_BIN to a folder of version {made_by}."
                )
        else:
            # Made beside and renamed, so that a half-made folder is never taken for a database.
            fresh = self._home / "cluster.new"
            shutil.rmtree(fresh, ignore_errors=True)
            self._make_folder(fresh)
            locale = ["--locale=C"]
            if programs.major >= 17:
                locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            made = self._run_initdb(programs, fresh, locale)
            if made.returncode:
                raise NoPostgres(f"initdb failed: {made.stderr.strip()}")
            fresh.rename(self._cluster)
        # Only the user of this process may connect; the name of that user may have changed since the last start.
        name = pwd.getpwuid(os.geteuid()).pw_name
        self._write("pg_hba.conf", "local all all peer map=rgrid\n")
        self._write("pg_ident.conf", f'rgrid "{name}" {_USER}\n')

    def _run_initdb(self, programs: Programs, folder: Path, locale: list[str]) -> subprocess.CompletedProcess[str]:
        command = [str(programs.folder / "initdb"), "-D", self._seen(folder), "-U", _USER, "-A", "peer"]
        return subprocess.run(
            [*command, "-E", "UTF8", "--no-instructions", *locale],
            cwd=folder,
            user=self._user.uid if self._user else None,
            group=self._user.gid if self._user else None,
            extra_groups=[] if self._user else None,
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INITDB_WAIT_MAX_S,
            check=False,
        )

    def _seen(self, folder: Path) -> str:
        """The folder as the server sees it. For another user its parents may be closed, but the working
        directory is inherited, and /proc/self/cwd leads there without passing them."""
        return "/proc/self/cwd" if self._user else str(folder)

    def _spawn(self, programs: Programs) -> int:
        """Start the server as a child that dies with this thread; gives the size of its log before."""
        log_path = self._home / "server.log"
        if log_path.exists() and log_path.stat().st_size > SERVER_LOG_BYTES_MAX:
            log_path.replace(log_path.with_suffix(".log.1"))
        inside = self._sockets.parent == self._home
        options = {**_OPTIONS, "unix_socket_directories": "../socket" if inside else str(self._sockets)}
        command = [str(programs.folder / "postgres"), "-D", self._seen(self._cluster)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        parent = os.getpid()

        def die_with_parent() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
            if os.getppid() != parent:
                os._exit(1)  # the parent died before the line above

        with log_path.open("ab") as log:
            size = log.tell()
            self._process = subprocess.Popen(
                command,
                cwd=self._cluster,
                user=self._user.uid if self._user else None,
                group=self._user.gid if self._user else None,
                extra_groups=[] if self._user else None,
                env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C on the terminal is for rgrid, which then stops the server last.
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        return size

    def _ready(self) -> bool:
        lines = self._pid_file()
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _pid_file(self) -> list[str]:
        try:
            return (self._cluster / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return []

    def _clear_leftovers(self) -> Iterator[float]:
        """End the server of an owner that was killed, and remove what a killed server left behind."""
        first = self._pid_file()[:1]
        pid = int(first[0]) if first and first[0].isdigit() else None
        # The kernel has told it to stop; a second SIGINT changes nothing, SIGQUIT leaves the rest to recovery.
        for order, wait_s in ((signal.SIGINT, LEFTOVER_WAIT_MAX_S), (signal.SIGQUIT, LEFTOVER_WAIT_MAX_S)):
            deadline_ms = monotonic_ms() + wait_s * 1000
            if pid is None or not self._is_server(pid):
                break
            os.kill(pid, order)
            while self._is_server(pid) and monotonic_ms() < deadline_ms:
                yield _PAUSE_S
        else:
            if pid is not None and self._is_server(pid):
                raise NoPostgres(f"The Postgres of an earlier owner doesn't stop: process {pid}.")
        for path in (self._cluster / "postmaster.pid", self._sockets / _SOCKET, self._sockets / f"{_SOCKET}.lock"):
            path.unlink(missing_ok=True)

    def _is_server(self, pid: int) -> bool:
        """Whether the process is a live Postgres of this very folder, not a zombie or a stranger with its number."""
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
            name, _, rest = status.partition("(")[2].rpartition(")")
            return name == "postgres" and rest.split()[0] not in "ZX" and self._cluster.samefile(f"/proc/{pid}/cwd")
        except OSError:
            return False

    def _make_socket_folder(self) -> None:
        if self._sockets.parent != self._home and self._sockets.is_symlink():
            raise NoPostgres(f"{self._sockets} is a link that somebody else has made.")
        self._make_folder(self._sockets)

    def _make_folder(self, folder: Path) -> None:
        """A folder that only the server's user can enter (and root, who owns the rest)."""
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid not in (os.geteuid(), self._user.uid if self._user else os.geteuid()):
            raise NoPostgres(f"{folder} belongs to somebody else.")
        folder.chmod(0o700)
        if self._user:
            os.chown(folder, self._user.uid, self._user.gid)

    def _write(self, name: str, text: str) -> None:
        path = self._cluster / name
        if path.exists() and path.read_text() == text:
            return
        path.write_text(text)
        path.chmod(0o600)
        if self._user:
            os.chown(path, self._user.uid, self._user.gid)

    def _last_words(self, since: int = 0) -> str:
        with (self._home / "server.log").open("rb") as log:
            log.seek(max(since, log.seek(0, os.SEEK_END) - 4096))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return " | ".join(lines[-5:])


def dsn_of_running(data_dir: Path) -> str | None:
    """The address of the server that another process runs for this data folder; None when none is ready."""
    try:
        lock = os.open(data_dir.absolute() / "postgres" / "owner", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _owner(lock).get("dsn")
    finally:
        os.close(lock)


def _owner(lock: int) -> dict[str, str]:
    text = os.pread(lock, 4096, 0)
    try:
        return {key: str(value) for key, value in json.loads(text).items()}
    except ValueError:
        return {}  # the owner is just writing it


def _short_folder() -> Path:
    """Where temporary files go, unless that is itself too deep for a socket."""
    chosen = Path(tempfile.gettempdir())
    return chosen if len(str(chosen)) <= SOCKET_FOLDER_MAX else Path("/tmp")  # noqa: S108 -- the name holds a digest


def _end(process: subprocess.Popen[bytes]) -> None:
    """Fast shutdown; if it hangs, immediate shutdown (recovery mends that); then no mercy."""
    for order in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        process.send_signal(order)
        try:
            process.wait(STOP_WAIT_MAX_S)
            return
        except subprocess.TimeoutExpired:
            continue
