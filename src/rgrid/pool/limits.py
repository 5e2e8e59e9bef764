"""What one run may use: resource limits, and a user of its own when the service is root."""

import itertools
import os
from pathlib import Path
from typing import Final

PROCESSES_MAX: Final = 256
FILES_MAX: Final = 1_024
TMP_BYTES: Final = 100 << 20
SHM_BYTES: Final = 64 << 20
_UID_FIRST: Final = 200_000
_UID_COUNT: Final = 50_000
_MIB: Final = 1 << 20
# An interpreter maps far more address space than it uses; this much is allowed beside the script's own memory.
_ADDRESS_SPACE_EXTRA: Final = 192 * _MIB


def rlimits(*, disk_quota_bytes: int, memory_mb: int | None, family: str, count_processes: bool) -> dict[str, int]:
    """By name of the `resource` module. `memory_mb` is None when a cgroup counts memory exactly."""
    limits = {
        "RLIMIT_NOFILE": FILES_MAX,
        "RLIMIT_FSIZE": disk_quota_bytes,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 64 << 10,
        "RLIMIT_MSGQUEUE": 800 << 10,
    }
    if count_processes:
        limits["RLIMIT_NPROC"] = PROCESSES_MAX
    if memory_mb is not None:
        # node reserves address space by the gigabyte and never touches it, so only its data counts.
        name = "RLIMIT_DATA" if family == "node" else "RLIMIT_AS"
        limits[name] = memory_mb * _MIB + _ADDRESS_SPACE_EXTRA
    return limits


class Users:
    """Hands out a uid per run. There is none to hand out when the service is not root, or when the range that a run
    would need is not mapped here (a rootless container with one uid)."""

    def __init__(self) -> None:
        first = _first_free_uid() if os.geteuid() == 0 else None
        self._first = first
        self._next = itertools.count(os.getpid() * 97)
        self._taken: set[int] = set()
        self.keeper = first
        """Whoever works with what is kept between runs; no run gets this user."""

    @property
    def available(self) -> bool:
        return self._first is not None

    def take(self) -> int | None:
        if self._first is None:
            return None
        for _ in range(_UID_COUNT):
            uid = self._first + 1 + next(self._next) % (_UID_COUNT - 1)
            if uid not in self._taken:
                self._taken.add(uid)
                return uid
        raise AssertionError("more runs at once than uids")

    def give_back(self, uid: int | None) -> None:
        if uid is not None:
            self._taken.discard(uid)


def _first_free_uid(uid_map: Path = Path("/proc/self/uid_map")) -> int | None:
    for line in uid_map.read_text().splitlines():
        inside, _, count = map(int, line.split())
        if inside <= _UID_FIRST and inside + count >= _UID_FIRST + _UID_COUNT:
            return _UID_FIRST
        if count >= 2 * _UID_COUNT // 4 and inside + count > _UID_COUNT:
            # A rootless container maps 65,536 uids: take the upper ones, above every real user of an image.
            return inside + count - _UID_COUNT
    return None


def hand_over(work_dir: Path, script: Path, root: Path, uid: int | None) -> None:
    """Give the work folder to the run's user alone; let it reach that folder below `root` and read the script."""
    if uid is None:
        work_dir.chmod(0o700)
        script.chmod(0o500)
        return
    for folder, folders, files in os.walk(work_dir):
        for name in folders + files:
            os.lchown(f"{folder}/{name}", uid, uid)
    os.lchown(work_dir, uid, uid)
    work_dir.chmod(0o700)
    os.chown(script, 0, uid)
    script.chmod(0o550)
    for inner in {*work_dir.parents, *script.parents}:
        if inner.is_relative_to(root):
            inner.chmod(inner.stat().st_mode & 0o7777 | 0o011)
