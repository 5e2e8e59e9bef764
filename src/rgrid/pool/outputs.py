"""Which files did the script leave: the regular ones below its working directory that are new or changed.

The script is gone by now, so nothing moves. What it left is still not trusted: folders are opened one below the other
without following links, files are opened without following links or blocking, and every count has a bound.
"""

import hashlib
import mimetypes
import os
import stat
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from rgrid.pool.scratch import Seen

DEPTH_MAX: Final = 64
ENTRIES_MAX: Final = 200_000
NAME_BYTES_MAX: Final = 1024
NAMED_CHARACTERS_MAX: Final = 2000
_TYPES: Final = mimetypes.MimeTypes(filenames=())  # the built-in table: the same answer on every machine
for _type, _ending in (
    ("application/vnd.apache.parquet", ".parquet"),
    ("application/vnd.apache.arrow.file", ".arrow"),
    ("application/x-ndjson", ".ndjson"),
    ("application/x-ndjson", ".jsonl"),
    ("application/yaml", ".yaml"),
    ("application/yaml", ".yml"),
    ("text/markdown", ".md"),
    ("text/plain", ".log"),
    ("image/webp", ".webp"),
):
    _TYPES.add_type(_type, _ending)
_ENCODINGS: Final = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


class OutputLimits(msgspec.Struct, frozen=True, kw_only=True):
    files_max: int = 1000
    bytes_max: int = 1024 * 1024 * 1024


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """An output that is still only on this machine."""

    filename: str
    path: Path
    size_bytes: int


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """`dropped` holds printable names of what could not be taken: over the limits, or with a name nobody can use."""

    files: list[Found]
    dropped: list[str]


def content_type_of(filename: str) -> str:
    """By the name's ending, else `application/octet-stream`."""
    kind, encoding = _TYPES.guess_type(filename.rpartition("/")[2])
    if encoding is not None:
        return _ENCODINGS.get(encoding, "application/octet-stream")
    return kind or "application/octet-stream"


def collect(work_dir: Path, before: Mapping[str, Seen], limits: OutputLimits) -> Collected:
    """New and changed files in order of their names, as many as the limits allow; the others are named."""
    walk = _Walk(work_dir, before)
    walk.run()
    files: list[Found] = []
    dropped = walk.dropped
    size = 0
    for found in sorted(walk.found, key=lambda found: found.filename):
        if len(files) < limits.files_max and size + found.size_bytes <= limits.bytes_max:
            files.append(found)
            size += found.size_bytes
        else:
            dropped.append(found.filename)
    return Collected(files=files, dropped=sorted(dropped))


def name_dropped(dropped: list[str]) -> str:
    """The names as one text of bounded length, ending in how many more there are."""
    shown: list[str] = []
    length = 0
    for name in dropped:
        length += len(name) + 2
        if length > NAMED_CHARACTERS_MAX:
            break
        shown.append(name)
    more = len(dropped) - len(shown)
    return ", ".join(shown) + (f"{' and ' if shown else ''}{more} more" if more else "")


class _Walk:
    """One pass over the working directory."""

    def __init__(self, work_dir: Path, before: Mapping[str, Seen]) -> None:
        self._work_dir = work_dir
        self._before = before
        self._entries = 0
        self.found: list[Found] = []
        self.dropped: list[str] = []

    def run(self) -> None:
        fd = os.open(self._work_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            self._device, self._owner = status.st_dev, status.st_uid
            self._folder(fd, "", 1)
        finally:
            os.close(fd)

    def _folder(self, fd: int, prefix: str, depth: int) -> None:
        with os.scandir(fd) as entries:
            for entry in entries:
                self._entries += 1
                if self._entries > ENTRIES_MAX:
                    if self._entries == ENTRIES_MAX + 1:
                        self.dropped.append(f"(everything beyond {ENTRIES_MAX:,} entries)")
                    return
                is_folder = entry.is_dir(follow_symlinks=False)
                if not is_folder and not entry.is_file(follow_symlinks=False):
                    continue  # a link, device, socket or FIFO is not even opened
                name = prefix + entry.name
                if not _usable(name) or (is_folder and depth >= DEPTH_MAX):
                    self.dropped.append(_printable(name))
                elif is_folder:
                    self._inner_folder(fd, entry.name, name, depth)
                else:
                    self._file(fd, entry.name, name)

    def _inner_folder(self, parent: int, base: str, name: str, depth: int) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = self._open(parent, base, flags, 0o700)
        if fd is None:
            self.dropped.append(name)
            return
        try:
            if os.fstat(fd).st_dev == self._device:
                self._folder(fd, name + "/", depth + 1)
        finally:
            os.close(fd)

    def _file(self, parent: int, base: str, name: str) -> None:
        fd = self._open(parent, base, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        if fd is None:
            self.dropped.append(name)
            return
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return
            if status.st_nlink > 1 and status.st_uid != self._owner:
                self.dropped.append(name)  # a second name of somebody else's file is not the script's to give away
            elif not self._is_unchanged_input(fd, name, status):
                self.found.append(Found(filename=name, path=self._work_dir / name, size_bytes=status.st_size))
        finally:
            os.close(fd)

    def _open(self, parent: int, base: str, flags: int, mode: int) -> int | None:
        try:
            return os.open(base, flags, dir_fd=parent)
        except PermissionError:
            pass  # the script took its own permission away: give it back
        except OSError:
            return None
        try:
            os.chmod(base, mode, dir_fd=parent)
            return os.open(base, flags, dir_fd=parent)
        except OSError:
            return None

    def _is_unchanged_input(self, fd: int, name: str, status: os.stat_result) -> bool:
        """A script can set a file's mtime back, but not its ctime; when in doubt, the content decides."""
        seen = self._before.get(name)
        if seen is None or seen.size_bytes != status.st_size:
            return False
        same_inode = seen.inode == status.st_ino
        if same_inode and seen.mtime_ns == status.st_mtime_ns and seen.ctime_ns == status.st_ctime_ns:
            return True
        with open(fd, "rb", closefd=False) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == seen.sha256


def _usable(name: str) -> bool:
    """UTF-8, no control characters, no backslash (inputs may have none either), of a length that others can store."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return size <= NAME_BYTES_MAX and not any(
        character == "\\" or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name
    )


def _printable(name: str) -> str:
    shown = os.fsencode(name).decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return shown if len(shown) <= 200 else shown[:200] + "…"
