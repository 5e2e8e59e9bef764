"""The folder of one attempt on this machine: made before it, checked before the script starts, always removed."""

import fcntl
import hashlib
import logging
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from rgrid.pool.protocol import InputRef, Lease

READ_BYTES: Final = 1024 * 1024
LOCK_NAME: Final = ".lock"

_log = logging.getLogger(__name__)


class InputMissing(Exception):
    """An input is absent, partial or another one than declared: the script must not run."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """An input as it lay in the working directory before the script ran."""

    sha256: str
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """`work` is `/work` in the box; `script` holds nothing but the script."""

    root: Path
    work: Path
    script: Path


def folder_of(scratch: Path, lease: Lease) -> Folder:
    """The folder of this attempt and nobody else: the token makes the name unique."""
    root = scratch / f"{lease.execution_id}-{lease.attempt}-{lease.fencing_token}"
    return Folder(root=root, work=root / "work", script=root / "script")


def make_folder(folder: Folder) -> None:
    """Makes it, empty."""
    if folder.root.exists():
        remove_tree(folder.root)
    folder.root.mkdir(mode=0o711)
    folder.work.mkdir(mode=0o700)
    folder.script.mkdir(mode=0o755)


def place(folder: Path, name: str) -> Path:
    """Where a file of this name goes; refuses a name that leads elsewhere, though the service checked it already."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise InputMissing(f"The input {name!r} has a name that leads out of the working directory.")
    target = folder / path
    if len(path.parts) > 1:
        target.parent.mkdir(parents=True, exist_ok=True)
    return target


def verify(folder: Path, refs: Sequence[InputRef]) -> dict[str, Seen]:
    """Size and SHA-256 of every file against its declaration; what was seen, by name."""
    seen: dict[str, Seen] = {}
    for ref in refs:
        try:
            fd = os.open(folder / ref.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise InputMissing(f"The input {ref.name!r} is not there: {error.strerror}.") from error
        with os.fdopen(fd, "rb") as file:
            status = os.fstat(fd)
            if status.st_size != ref.size_bytes:
                raise InputMissing(
                    f"The input {ref.name!r} has {status.st_size} bytes, but {ref.size_bytes} were declared."
                )
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != ref.sha256:
            raise InputMissing(f"The input {ref.name!r} has SHA-256 {digest}, but {ref.sha256} was declared.")
        seen[ref.name] = see(status, digest)
    return seen


def see(status: os.stat_result, sha256: str) -> Seen:
    return Seen(
        sha256=sha256,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        inode=status.st_ino,
    )


def remove_tree(root: Path) -> None:
    """Removes whatever a script left: any depth, any number, folders without permissions. Never follows a link.

    Every folder met is first moved right below `root`, so neither recursion nor open descriptors grow with the depth.
    """
    try:
        shutil.rmtree(root)
        return
    except (OSError, RecursionError):
        pass  # not a plain tree: take it apart by hand
    if not root.exists():
        return
    moved = 0
    folders = [root]
    while folders:
        folder = folders.pop()
        folder.chmod(0o700)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    Path(entry.path).chmod(0o700)
                    flat = root.parent / f"{root.name}.{moved}"
                    moved += 1
                    Path(entry.path).rename(flat)
                    folders.append(flat)
                else:
                    Path(entry.path).unlink(missing_ok=True)
        folder.rmdir()


def hold_scratch(scratch: Path) -> int:
    """Holds the scratch folder for the life of a pool, by a descriptor that the caller closes. The first pool on it
    clears what a killed one left behind."""
    scratch.mkdir(mode=0o711, parents=True, exist_ok=True)
    fd = os.open(scratch / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass  # another pool works here: its folders are its own
    else:
        _clear(scratch)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def _clear(scratch: Path) -> None:
    """Removes the folders of attempts; hidden ones belong to the engine."""
    for entry in scratch.iterdir():
        if not entry.name.startswith(".") and stat.S_ISDIR(entry.lstat().st_mode):
            try:
                remove_tree(entry)
            except OSError as error:
                _log.warning("a left-over folder could not be removed: %s", error)
