"""The environments of this machine: what was installed once is shared by its workers, until it is old or in the way.

An environment appears under its key by one rename, when it is whole. Each key has a lock file: whoever uses the
environment holds it with others, whoever builds or removes it holds it alone; the kernel lets go when a process dies.
"""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from rgrid.kernel.clock import monotonic_ms, now
from rgrid.kernel.ids import new_ulid
from rgrid.pool.scratch import remove_tree

FOLDER: Final = ".environments"  # among the jobs, hidden from whoever clears them
CACHE: Final = "cache"
TOOLS: Final = "installer"
_MARK: Final = "made.json"
_INSIDE: Final = "environment"  # beside the mark, which strangers' programs must never have had in reach
_YOUNG: Final = ".young-"
_GONE: Final = ".gone-"
_LOOK_EVERY_S: Final = 0.1
_CLEAR_EVERY_MS: Final = 3_600_000
_DAY_S: Final = 86_400
_LOCK_TRIES_MAX: Final = 100

_log = logging.getLogger(__name__)


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What an environment was when it was made. Its file's time is that of the last use."""

    files: int
    size_bytes: int
    boot_id: str


_read_mark: Final = msgspec.json.Decoder(Mark).decode


class Held:
    """An environment that stays as long as it is held."""

    def __init__(self, path: Path, lock: int, *, is_new: bool) -> None:
        self.path = path
        self.is_new = is_new
        self._lock = lock

    def release(self) -> None:
        os.close(self._lock)


Build = Callable[[Path], Awaitable[Path]]


class Environments:
    """The cache in one folder, which several processes may share."""

    def __init__(self, folder: Path, *, bytes_max: int, keep_days: int) -> None:
        self.folder = folder
        self._bytes_max = bytes_max
        self._keep_days = keep_days
        self._cleared_ms: int | None = None
        self._clearing: asyncio.Task[None] | None = None

    async def take(
        self, key: str, build: Build, *, is_over: Callable[[], bool], on_wait: Callable[[], None], wait_max_s: float
    ) -> Held | None:
        """The environment of this key, built by `build` when there is none: it gets an empty folder of its own and
        says where in it the environment is. None when it is over before. Whatever `build` raises comes out here."""
        until = time.monotonic() + wait_max_s
        has_waited = False
        while not is_over():
            held = await asyncio.to_thread(self._use, key) or await self._make(key, build)
            if held is not None:
                self._clear_soon(held.is_new)
                return held
            if time.monotonic() > until:
                raise TimeoutError
            if not has_waited:
                has_waited = True
                on_wait()
            await asyncio.sleep(_LOOK_EVERY_S)
        return None

    def _use(self, key: str) -> Held | None:
        lock = self._lock(key, fcntl.LOCK_SH)
        if lock is None:
            return None
        path = self.folder / key
        if not _is_whole(path):
            os.close(lock)
            return None
        with contextlib.suppress(OSError):
            os.utime(path / _MARK)
        return Held(path / _INSIDE, lock, is_new=False)

    async def _make(self, key: str, build: Build) -> Held | None:
        """None when somebody else makes it, or just made it."""
        lock = await asyncio.to_thread(self._lock, key, fcntl.LOCK_EX)
        if lock is None:
            return None
        path = self.folder / key
        young = self.folder / f"{_YOUNG}{key}-{new_ulid().lower()}"
        try:
            if _is_whole(path):
                os.close(lock)
                return None
            young.mkdir(mode=0o711)
            made = await build(young)
            await asyncio.to_thread(self._publish, made, young / "whole", path)
            fcntl.flock(lock, fcntl.LOCK_SH)
            # A lock is let go for a moment when it changes; nobody removes what has just been used, but look again.
            if not _is_whole(path):
                os.close(lock)
                return None
            return Held(path / _INSIDE, lock, is_new=True)
        except BaseException:
            os.close(lock)
            raise
        finally:
            await asyncio.to_thread(_remove, young)

    def _publish(self, made: Path, whole: Path, path: Path) -> None:
        if made.is_symlink() or not made.is_dir():
            raise OSError(errno.ENOTDIR, "what was built is no folder")
        whole.mkdir(mode=0o755)
        made.rename(whole / _INSIDE)
        files, size_bytes = _seal(whole / _INSIDE)
        mark = Mark(files=files, size_bytes=size_bytes, boot_id=_boot_id())
        (whole / _MARK).write_bytes(msgspec.json.encode(mark))
        if path.exists():
            self._discard(path)  # what a power cut left of it
        whole.rename(path)

    def _discard(self, path: Path) -> None:
        """Away at once, removed after it: no half of it is ever found under its name."""
        gone = self.folder / f"{_GONE}{new_ulid().lower()}"
        path.rename(gone)
        _remove(gone)

    def _lock(self, key: str, how: int) -> int | None:
        """None when somebody holds it the other way."""
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        for _ in range(_LOCK_TRIES_MAX):
            fd = os.open(self.folder / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, how | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return None
            if os.fstat(fd).st_nlink:
                return fd
            os.close(fd)  # it was removed with its environment a moment ago
        return None

    # Making room

    def _clear_soon(self, is_full: bool) -> None:
        """After something came in, and now and then."""
        now_ms = monotonic_ms()
        due = self._cleared_ms is None or now_ms - self._cleared_ms > _CLEAR_EVERY_MS
        if (due or is_full) and (self._clearing is None or self._clearing.done()):
            self._cleared_ms = now_ms
            self._clearing = asyncio.get_running_loop().create_task(self._clear_aside())

    async def _clear_aside(self) -> None:
        try:
            await asyncio.to_thread(self.clear)
        except OSError as error:
            _log.warning("old environments could not be removed: %s", error)

    async def close(self) -> None:
        if self._clearing is not None:
            await asyncio.gather(self._clearing, return_exceptions=True)

    def clear(self) -> None:
        """Remove what nobody used for long, what broke off, and what is more than there is room for: first the files
        that the installer keeps, which cost a download, then environments, the one used longest ago first. Blocking."""
        self._sweep()
        used = sorted(self._known(), key=lambda one: one[1])
        oldest_s = now().timestamp() - self._keep_days * _DAY_S
        kept: list[tuple[Path, float, int]] = []
        for one in used:
            if one[1] >= oldest_s or not self._remove_unused(one[0].name):
                kept.append(one)
        total = sum(size_bytes for _, _, size_bytes in kept)
        cached = count(self.folder / CACHE)[1]
        if total + cached > self._bytes_max and self._remove_unused(CACHE):
            cached = 0
        for path, _, size_bytes in kept:
            if total + cached <= self._bytes_max:
                break
            if self._remove_unused(path.name):
                total -= size_bytes

    def _known(self) -> list[tuple[Path, float, int]]:
        """Each environment, when it was used last, and its size."""
        found = []
        for path in self.folder.glob(f"*/{_MARK}"):
            with contextlib.suppress(OSError, msgspec.DecodeError):
                mark = _read_mark(path.read_bytes())
                found.append((path.parent, path.stat().st_mtime, mark.size_bytes))
        return found

    def _remove_unused(self, key: str) -> bool:
        lock = self._lock(key, fcntl.LOCK_EX)
        if lock is None:
            return False
        try:
            if (self.folder / key).exists():
                self._discard(self.folder / key)
            (self.folder / f"{key}.lock").unlink(missing_ok=True)
        finally:
            os.close(lock)
        return True

    def _sweep(self) -> None:
        """Remove what processes that were killed left behind."""
        for path in self.folder.glob(f"{_GONE}*"):
            _remove(path)
        for path in self.folder.glob(f"{_YOUNG}*"):
            key = path.name.removeprefix(_YOUNG).rpartition("-")[0]
            lock = self._lock(key, fcntl.LOCK_EX)
            if lock is not None:
                _remove(path)
                os.close(lock)

    def hold_cache(self) -> int:
        """The folder of files that the installer keeps stays while this descriptor is open. Blocking."""
        for _ in range(_LOCK_TRIES_MAX):
            lock = self._lock(CACHE, fcntl.LOCK_SH)
            if lock is not None:
                (self.folder / CACHE).mkdir(mode=0o700, exist_ok=True)
                return lock
            time.sleep(_LOOK_EVERY_S)
        raise OSError("the cache of packages is being removed and does not come back")


def usage(folder: Path) -> tuple[int, int]:
    """How many environments a folder holds, and the bytes of all that is in it. Blocking."""
    return sum(1 for _ in folder.glob(f"*/{_MARK}")), count(folder)[1]


def count(folder: Path) -> tuple[int, int]:
    """Files below a folder, and their bytes."""
    files = size_bytes = 0
    for inner, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size_bytes += os.lstat(f"{inner}/{name}").st_size
                files += 1
    return files, size_bytes


def _seal(folder: Path) -> tuple[int, int]:
    """From now on it belongs to the service, and whoever runs scripts may read it."""
    root = os.geteuid() == 0
    for inner, folders, names in os.walk(folder):
        for path in [inner, *(f"{inner}/{name}" for name in names + folders)]:
            if root:
                os.lchown(path, 0, 0)
            if not os.path.islink(path):  # noqa: PTH114 - a walk over many files
                mode = os.stat(path).st_mode  # noqa: PTH116
                os.chmod(path, mode & 0o755 | (0o555 if os.path.isdir(path) else 0o444))  # noqa: PTH101, PTH112
    return count(folder)


def _is_whole(path: Path) -> bool:
    """Whether it is there. After a restart of the machine, which may have lost what was written last, it is counted."""
    try:
        mark = _read_mark((path / _MARK).read_bytes())
    except (OSError, msgspec.DecodeError):
        return False
    if mark.boot_id == _boot_id():
        return True
    if count(path / _INSIDE) != (mark.files, mark.size_bytes):
        return False
    new = path / f"{_MARK}.{new_ulid().lower()}"
    new.write_bytes(msgspec.json.encode(msgspec.structs.replace(mark, boot_id=_boot_id())))
    new.rename(path / _MARK)
    return True


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _remove(path: Path) -> None:
    if not path.exists():
        return
    try:
        remove_tree(path)
    except OSError as error:
        _log.warning("%s could not be removed: %s", path.name, error)
