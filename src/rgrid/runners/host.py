"""Which machine this is, and which of its processes run: what tells a worker from any other that had its pid."""

import os
import socket
from pathlib import Path
from typing import Final

import msgspec

_START_TICKS_FIELD: Final = 22  # of /proc/<pid>/stat, counted from 1 (proc_pid_stat(5))
_DEAD_STATES: Final = frozenset("ZXx")


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """This machine since its last start."""

    hostname: str
    boot_id: str


def this_host() -> Host:
    """The machine of this process. The boot id names the pid namespace, too: a container may share the hostname and the
    kernel with its host, but pids mean something else in it."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return Host(hostname=socket.gethostname(), boot_id=f"{boot_id}/{Path('/proc/self/ns/pid').readlink()}")
    except OSError:
        return Host(hostname=socket.gethostname(), boot_id="")


def process_runs(pid: int, started_ticks: int) -> bool:
    """Whether the process with this pid and this start runs; a zombie doesn't. True where nothing can be known."""
    try:
        fields = _stat_fields(pid)
    except (FileNotFoundError, ProcessLookupError):
        return _hidden(pid)
    except OSError:
        return True
    return fields[0] not in _DEAD_STATES and _started_ticks(fields) == started_ticks


def own_started_ticks() -> int:
    """When this process began, in the kernel's ticks; 0 where /proc can't be read."""
    try:
        return _started_ticks(_stat_fields("self"))
    except OSError:
        return 0


def _stat_fields(pid: int | str) -> list[str]:
    """The fields from the third one on: the second is the command's name in parentheses and may hold blanks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _started_ticks(fields: list[str]) -> int:
    return int(fields[_START_TICKS_FIELD - 3])


def _hidden(pid: int) -> bool:
    """Whether a process without a folder in /proc runs all the same: /proc can be mounted so that it hides others'."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
