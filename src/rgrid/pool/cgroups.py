"""A control group per run: exact memory, process and cpu limits, and the exact reason when memory ran out.

Version 2 where its controllers can be delegated, else version 1. Without either, the engine falls back to rlimits.
"""

import errno
import os
import time
from pathlib import Path
from typing import Final, Protocol

from rgrid.pool.limits import PROCESSES_MAX

_MOUNTS: Final = Path("/proc/self/mountinfo")
_OWN: Final = Path("/proc/self/cgroup")
_PERIOD_US: Final = 100_000
_QUOTA_MIN_US: Final = 1_000
_REMOVE_TRIES_MAX: Final = 40
_REMOVE_PAUSE_S: Final = 0.005
_PREFIX: Final = "rgrid-"


class Group(Protocol):
    """The control group of one run."""

    def entrances(self) -> list[int]:
        """Open descriptors: a process that writes `0` to each is inside. The caller closes them."""
        ...

    def memory_peak_bytes(self) -> int | None: ...

    def oom_kills(self) -> int: ...

    def remove(self, *, tries_max: int = ...) -> bool:
        """False when the kernel still holds it; several tries block for a moment."""
        ...


class Groups(Protocol):
    """Makes groups below one of our own, named after this process so that a later start can sweep it."""

    version: int

    def make(self, name: str, *, memory_mb: int, cpu: float) -> Group: ...

    def close(self) -> None: ...


def probe() -> Groups | None:
    """The best that is writable here. Proves it by making a group and removing it."""
    for kind in (_GroupsV2, _GroupsV1):
        try:
            groups = kind()
            groups.make("probe", memory_mb=64, cpu=1.0).remove()
        except (OSError, LookupError):
            continue
        return groups
    return None


def _own_name() -> str:
    return f"{_PREFIX}{os.getpid()}-{time.monotonic_ns()}"


def _write(path: Path, value: str) -> None:
    # Not write_text: a control file must get its value in one write, and must exist.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _rmdir(path: Path, tries_max: int) -> bool:
    """The kernel may hold a group for a moment after its last process is gone."""
    for left in reversed(range(tries_max)):
        try:
            path.rmdir()
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            if left:
                time.sleep(_REMOVE_PAUSE_S)
        else:
            return True
    return False


def _sweep(parent: Path) -> None:
    """Remove what a killed service left behind."""
    for folder in parent.glob(f"{_PREFIX}*"):
        pid = folder.name[len(_PREFIX) :].partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            for inner in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
                _try_rmdir(inner)
            _try_rmdir(folder)


def _try_rmdir(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        pass


def _mounts(kind: str) -> dict[str, Path]:
    """Mount point of each cgroup hierarchy, by its options; version 2 has the key ``."""
    found: dict[str, Path] = {}
    for line in _MOUNTS.read_text().splitlines():
        left, _, right = line.partition(" - ")
        filesystem, _, options = right.split(" ", 2)
        if filesystem != kind:
            continue
        point = Path(left.split()[4])
        for option in options.split(",") if kind == "cgroup" else [""]:
            found.setdefault(option, point)
    return found


def _own_paths() -> dict[str, str]:
    paths: dict[str, str] = {}
    for line in _OWN.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _field(path: Path, name: str) -> int:
    try:
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except OSError:
        pass
    return 0


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _quota_us(cpu: float) -> int:
    return max(_QUOTA_MIN_US, round(cpu * _PERIOD_US))


class _GroupV1:
    def __init__(self, folders: dict[str, Path]) -> None:
        self._folders = folders

    def entrances(self) -> list[int]:
        return [
            os.open(path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for path in dict.fromkeys(self._folders.values())
        ]

    def memory_peak_bytes(self) -> int | None:
        return _number(self._folders["memory"] / "memory.max_usage_in_bytes")

    def oom_kills(self) -> int:
        return _field(self._folders["memory"] / "memory.oom_control", "oom_kill")

    def remove(self, *, tries_max: int = _REMOVE_TRIES_MAX) -> bool:
        gone = [_rmdir(folder, tries_max) for folder in self._folders.values()]
        return all(gone)


class _GroupsV1:
    version = 1

    def __init__(self) -> None:
        mounts, own = _mounts("cgroup"), _own_paths()
        name = _own_name()
        self._parents: dict[str, Path] = {}
        for controller in ("memory", "pids", "cpu"):
            # In a container the own path names a folder of the host; the mount point is then already our own.
            base = mounts[controller] / own[controller].lstrip("/")
            base = base if base.is_dir() else mounts[controller]
            _sweep(base)
            self._parents[controller] = base / name
        for parent in self._parents.values():
            parent.mkdir(exist_ok=True)

    def make(self, name: str, *, memory_mb: int, cpu: float) -> Group:
        folders = {controller: parent / name for controller, parent in self._parents.items()}
        for folder in dict.fromkeys(folders.values()):
            folder.mkdir()
        group = _GroupV1(folders)
        try:
            memory = str(memory_mb << 20)
            _write(folders["memory"] / "memory.limit_in_bytes", memory)
            if (folders["memory"] / "memory.memsw.limit_in_bytes").exists():
                _write(folders["memory"] / "memory.memsw.limit_in_bytes", memory)
            _write(folders["pids"] / "pids.max", str(PROCESSES_MAX))
            _write(folders["cpu"] / "cpu.cfs_period_us", str(_PERIOD_US))
            _write(folders["cpu"] / "cpu.cfs_quota_us", str(_quota_us(cpu)))
        except OSError:
            group.remove()
            raise
        return group

    def close(self) -> None:
        for parent in self._parents.values():
            _try_rmdir(parent)


class _GroupV2:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def entrances(self) -> list[int]:
        return [os.open(self._folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)]

    def memory_peak_bytes(self) -> int | None:
        return _number(self._folder / "memory.peak")

    def oom_kills(self) -> int:
        return _field(self._folder / "memory.events", "oom_kill")

    def remove(self, *, tries_max: int = _REMOVE_TRIES_MAX) -> bool:
        return _rmdir(self._folder, tries_max)


class _GroupsV2:
    version = 2
    _wanted = ("memory", "pids", "cpu")

    def __init__(self) -> None:
        base = _mounts("cgroup2")[""] / _own_paths()[""].lstrip("/")
        controllers = (base / "cgroup.controllers").read_text().split()
        if not set(self._wanted) <= set(controllers):
            raise LookupError("controllers are not delegated")
        _sweep(base)
        self._home = base / f"{_PREFIX}home"
        if not set(self._wanted) <= set((base / "cgroup.subtree_control").read_text().split()):
            self._hand_on(base)
        self._parent = base / _own_name()
        self._parent.mkdir()
        self._hand_on(self._parent)

    def _hand_on(self, folder: Path) -> None:
        value = " ".join(f"+{controller}" for controller in self._wanted)
        try:
            _write(folder / "cgroup.subtree_control", value)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            # A group with processes hands nothing on, so this service moves into a leaf beside its runs. It
            # moves nobody else: with strangers in the group the next attempt fails and there are no groups.
            self._home.mkdir(exist_ok=True)
            _write(self._home / "cgroup.procs", "0")
            _write(folder / "cgroup.subtree_control", value)

    def make(self, name: str, *, memory_mb: int, cpu: float) -> Group:
        folder = self._parent / name
        folder.mkdir()
        try:
            _write(folder / "memory.max", str(memory_mb << 20))
            if (folder / "memory.swap.max").exists():
                _write(folder / "memory.swap.max", "0")
            if (folder / "memory.oom.group").exists():
                _write(folder / "memory.oom.group", "1")
            _write(folder / "pids.max", str(PROCESSES_MAX))
            _write(folder / "cpu.max", f"{_quota_us(cpu)} {_PERIOD_US}")
        except OSError:
            _try_rmdir(folder)
            raise
        return _GroupV2(folder)

    def close(self) -> None:
        _try_rmdir(self._parent)
