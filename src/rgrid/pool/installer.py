"""Installs the packages of scripts: uv in a box with network, outside the clock of any run, once per environment.

Two tries. The first takes ready wheels only, so that nothing but uv itself runs, and may therefore keep what it loads
for later ones. What can't be had as a wheel is built from source in the second: that runs programs of strangers, so its
box has a user, a cache and an end of its own.
"""

import asyncio
import contextlib
import functools
import hashlib
import importlib.util
import logging
import os
import re
import shutil
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from rgrid.executions.requirements import BadRequirements, lines_of
from rgrid.kernel.ids import new_ulid
from rgrid.pool import install_in_box
from rgrid.pool.engines.engine import Ended, Engine, Job, OutputSink, Running
from rgrid.pool.environments import CACHE, FOLDER, TOOLS, Environments, Held
from rgrid.pool.package_index import PackageIndex
from rgrid.pool.tuning import MIB, PoolTuning

MEMORY_MB: Final = 4096
CPU: Final = 2.0
DISK_BYTES_MAX: Final = 20 * 1024 * MIB
OUTPUT_KEPT_BYTES: Final = 64 * 1024
WAITERS_WAIT_TIMES: Final = 3  # how many installations in a row somebody may wait for, in limits of one
LAST_LINES_MAX: Final = 20
ERROR_CHARACTERS_MAX: Final = 3000
_SCRIPT: Final = "install.py"
_CONFIG: Final = "uv.toml"
# What uv says when an index could not be reached or answered that it is not itself now.
_NETWORK: Final = re.compile(
    r"error sending request|dns error|failed to lookup address|tcp connect error|connection (refused|reset|closed)"
    r"|operation timed out|network is unreachable|Request failed after|HTTP status server error"
    r"|\b(429|500|502|503|504) [A-Z]|error decoding response body|unexpected EOF",
    re.IGNORECASE,
)
_LACKS_WHEELS: Final = re.compile(r"wheel|building|--no-build", re.IGNORECASE)
_NOT_NETWORK: Final = re.compile(r"invalid peer certificate|Network connectivity is disabled", re.IGNORECASE)

_log = logging.getLogger(__name__)


class InstallFailed(Exception):
    """The packages could not be installed; the text holds the installer's last lines."""

    def __init__(self, text: str, *, caused_by_network: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.caused_by_network = caused_by_network


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt wants, and how it listens: `sink` gets the installer's output, `note` what is said beside it,
    `started` each box, so that it can be killed; `is_over` says that nobody wants it any more."""

    runtime: str
    requirements: str
    sink: OutputSink
    note: Callable[[str], None]
    started: Callable[[Running], None]
    is_over: Callable[[], bool]


class Installer:
    """One per pool. `folder` is where the jobs are."""

    def __init__(self, engine: Engine, tuning: PoolTuning, folder: Path) -> None:
        self._engine = engine
        self._index: PackageIndex = tuning.package_index
        self._limit_s = tuning.install_timeout_s
        self.environments = Environments(
            folder / FOLDER, bytes_max=tuning.environments_max_bytes, keep_days=tuning.environments_keep_days
        )
        self._tools = self.environments.folder / TOOLS

    @property
    def masked(self) -> Sequence[str]:
        """Passwords of the index."""
        return self._index.masked

    async def provide(self, order: Order) -> Held | None:
        """The environment, held until it is released; None when the runtime takes none, or the order is over. Raises
        InstallFailed."""
        identity = self._engine.identity(order.runtime)
        if identity is None:
            return None
        try:
            lines = lines_of(order.requirements)
        except BadRequirements as problem:
            raise InstallFailed(f"The requirements can't be followed: {problem}.") from None
        named = "\0".join([identity, self._index.identity, *sorted(lines)])
        try:
            return await self.environments.take(
                hashlib.sha256(named.encode()).hexdigest()[:40],
                functools.partial(self._build, order, lines),
                is_over=order.is_over,
                on_wait=lambda: order.note("another execution is installing the same packages; waiting for it"),
                wait_max_s=self._limit_s * WAITERS_WAIT_TIMES,
            )
        except TimeoutError:
            raise InstallFailed("Another execution has been installing the same packages for too long.") from None
        except _Over:
            return None

    async def _build(self, order: Order, lines: list[str], folder: Path) -> Path:
        tools = await asyncio.to_thread(self._prepare_tools)
        text = "".join(f"{line}\n" for line in lines)
        try:
            return await self._try(order, text, folder / "wheels", tools, with_wheels_only=True)
        except InstallFailed as failed:
            if failed.caused_by_network or order.is_over() or not _LACKS_WHEELS.search(failed.text):
                raise
        order.note("trying again, with building packages from source")
        return await self._try(order, text, folder / "source", tools, with_wheels_only=False)

    async def _try(self, order: Order, text: str, folder: Path, tools: "_Tools", *, with_wheels_only: bool) -> Path:
        work = await asyncio.to_thread(_lay_out, folder, text, self._index.uv_config)
        # Where no box hides it from scripts, nothing is kept between installations.
        keeps = with_wheels_only and self._engine.runner_kind != "process"
        cache = self.environments.folder / CACHE if keeps else None
        options = ["--no-build"] if with_wheels_only else []
        said = _Said(order.sink)
        job = Job(
            job_id=f"install-{new_ulid().lower()}",
            runtime=order.runtime,
            script_path=folder / "script" / _SCRIPT,
            args=[str(tools.uv), *options, *(["--no-index"] if self._index.no_index else [])],
            env={**self._index.env, **tools.env, **_SETTINGS, "UV_CACHE_DIR": str(cache or "cache")},
            work_dir=work,
            timeout_s=self._limit_s,
            cpu=CPU,
            memory_mb=MEMORY_MB,
            network=True,
            disk_quota_bytes=DISK_BYTES_MAX,
            shown=(self._tools, *self._index.folders),
            kept=cache,
        )
        lock = await asyncio.to_thread(self.environments.hold_cache) if cache else None
        try:
            ended = await self._run(order, job, said)
        finally:
            if lock is not None:
                os.close(lock)
        if ended.exit_code != 0 or ended.why != "exited":
            raise self._failure(ended, said.text())
        return work / install_in_box.PLACE

    async def _run(self, order: Order, job: Job, said: "_Said") -> Ended:
        if order.is_over():
            raise _Over
        running = await self._engine.start(job, said.hear)
        order.started(running)
        ended = await running.wait()
        if order.is_over():
            raise _Over
        return ended

    def _failure(self, ended: Ended, said: str) -> InstallFailed:
        if ended.why == "timeout":
            return InstallFailed(f"The packages were not installed within {self._limit_s:g} s.")
        if ended.why == "out_of_memory":
            return InstallFailed(f"Installing the packages needed more than {MEMORY_MB} MB.")
        lines = [line for line in said.splitlines() if line.strip()][-LAST_LINES_MAX:]
        if not lines and ended.error:
            lines = [ended.error]
        text = "\n".join(["The packages of the script could not be installed.", *lines])
        by_network = _NETWORK.search(said) is not None and _NOT_NETWORK.search(said) is None
        return InstallFailed(text[:ERROR_CHARACTERS_MAX], caused_by_network=by_network)

    def _prepare_tools(self) -> "_Tools":
        """Copies of uv and of what it must read, where boxes can show them and any user can reach them. Blocking."""
        found = find_uv()
        if found is None:
            raise InstallFailed("This worker has no uv, which installs packages.")
        self._tools.mkdir(mode=0o755, parents=True, exist_ok=True)
        env: dict[str, str] = {}
        status = found.stat()
        uv = self._tools / f"uv-{status.st_size}-{status.st_mtime_ns}"
        if not uv.exists():
            _copy(found, uv, 0o755)
            for old in self._tools.glob("uv-*"):
                if old != uv:
                    old.unlink(missing_ok=True)
        certificates = self._index.certificates
        if certificates is not None:
            target = self._tools / "certificates.pem"
            if not target.exists() or target.read_bytes() != certificates.read_bytes():
                _copy(certificates, target, 0o644)
            env["SSL_CERT_FILE"] = str(target)
        env.update({"UV_CONFIG_FILE": _CONFIG} if self._index.uv_config else {"UV_NO_CONFIG": "1"})
        return _Tools(uv=uv, env=env)

    async def close(self) -> None:
        await self.environments.close()


_SETTINGS: Final = {
    "NO_COLOR": "1",
    "UV_NO_PROGRESS": "1",
    "UV_PYTHON_DOWNLOADS": "never",
    # Scripts get these, but they would change how packages are built.
    "PYTHONPATH": "",
    "PYTHONDONTWRITEBYTECODE": "",
    "UV_LINK_MODE": "copy",  # the box shows cache and environment as two file systems
}


class _Over(Exception):
    """Nobody wants the environment any more."""


class _Tools(msgspec.Struct, frozen=True, kw_only=True):
    uv: Path
    env: dict[str, str]


class _Said:
    """The end of the installer's output, beside its way into the log."""

    def __init__(self, sink: OutputSink) -> None:
        self._sink = sink
        self._parts: deque[bytes] = deque()
        self._size = 0

    def hear(self, stream: str, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        while self._size - len(self._parts[0]) > OUTPUT_KEPT_BYTES:
            self._size -= len(self._parts.popleft())
        self._sink("stderr", data)

    def text(self) -> str:
        return b"".join(self._parts).decode(errors="replace")


def find_uv() -> Path | None:
    """The program of the wheel, beside this interpreter or the package; else the one on PATH."""
    places = [Path(sys.executable).parent]
    spec = importlib.util.find_spec("uv")
    if spec is not None and spec.origin is not None:
        places += [Path(spec.origin).parents[4] / "bin", Path(spec.origin).parents[1] / "bin"]
    for place in places:
        if os.access(place / "uv", os.X_OK):
            return place / "uv"
    found = shutil.which("uv")
    return Path(found) if found else None


def _lay_out(folder: Path, requirements: str, config: Path | None) -> Path:
    """The folders of one try; what it works in. uv's configuration may hold passwords: it lies where no other user
    reaches it."""
    for inner, mode in (("", 0o711), ("work", 0o700), ("script", 0o755)):
        (folder / inner).mkdir(mode=mode)
    (folder / "work" / "requirements.txt").write_text(requirements)
    if config is not None:
        shutil.copyfile(config, folder / "work" / _CONFIG)
    shutil.copyfile(install_in_box.__file__, folder / "script" / _SCRIPT)
    return folder / "work"


def _copy(source: Path, target: Path, mode: int) -> None:
    new = target.with_name(f".{target.name}-{new_ulid().lower()}")
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(source, new)
        new.chmod(mode)
        new.rename(target)
