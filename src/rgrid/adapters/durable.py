"""Writing files so that they are whole and there after a crash, or not there at all."""

import errno
import os
import tempfile
from pathlib import Path
from typing import Final

from rgrid.kernel.errors import Unavailable

FULL_RETRY_S: Final = 30
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def fsync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in the folder last."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, each of them to last."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    fsync_folder(folder.parent)


def write_whole(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Write a file (mode 0600) that appears whole or not at all; with `replace=False` FileExistsError when it is
    there already."""
    make_folder(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            Path(name).replace(path)
        else:
            path.hardlink_to(name)
            Path(name).unlink()
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def storage_trouble(problem: OSError) -> Unavailable:
    """What a failed write means to the caller; the path stays out of the sentence, because callers may see it."""
    if problem.errno in _FULL:
        return Unavailable("The object store is full.", code="storage_full", retry_after_s=FULL_RETRY_S)
    return Unavailable(f"The object store can't be used: {problem.strerror}.", code="storage_unavailable")
