"""The engine's own folder among the jobs: what boxes show of it. One per engine, removed with it or after it."""

import fcntl
import os
import shutil
from pathlib import Path
from typing import Final

from rgrid.kernel.ids import new_ulid

_PREFIX: Final = ".box-"
_LOCK: Final = "lock"


class BoxFolder:
    """A folder that is held by a lock as long as this process lives. Sweeps those that nobody holds any more."""

    def __init__(self, jobs: Path) -> None:
        _sweep(jobs)
        self.path = jobs / f"{_PREFIX}{new_ulid().lower()}"
        # Hidden from sweepers until it is locked: they look only at finished names.
        young = jobs / f".young{self.path.name}"
        young.mkdir(mode=0o711)
        self._lock = _open_lock(young)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        young.rename(self.path)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _open_lock(folder: Path) -> int:
    return os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _sweep(jobs: Path) -> None:
    for folder in jobs.glob(f"{_PREFIX}*"):
        try:
            lock = _open_lock(folder)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # another engine works with it
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
