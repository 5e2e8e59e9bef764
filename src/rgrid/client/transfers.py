"""Files on their way to the service and back: hashed, streamed, checked, and never written where they don't belong."""

import contextlib
import hashlib
import os
import re
import tempfile
import threading
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from rgrid.client.delivery import Delivery
from rgrid.client.problems import BadTransfer, Refused

UPLOADS_AT_ONCE_MAX: Final = 4
NAME_BYTES_MAX: Final = 200
COPIES_MAX: Final = 10_000
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f\\]")

Progress = Callable[[int], None]


class Stopped(Exception):
    """Somebody else's failure or Ctrl-C ended this transfer."""


class FileBody:
    """A file as the body of an upload. It must not change on the way."""

    def __init__(self, path: Path, size_bytes: int, progress: Progress, stop: threading.Event) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self._progress = progress
        self._stop = stop
        self._file = path.open("rb")
        self._sent = 0

    def rewind(self) -> None:
        self._file.seek(0)
        self._progress(-self._sent)
        self._sent = 0

    def read(self, size: int = -1, /) -> bytes:
        if self._stop.is_set():
            raise Stopped
        block = self._file.read(min(size, self.size_bytes - self._sent) if size >= 0 else -1)
        if not block and self._sent < self.size_bytes:
            raise BadTransfer(f"{self.path} changed while it was being sent.")
        self._sent += len(block)
        self._progress(len(block))
        return block

    def close(self) -> None:
        self._file.close()


class FileSink:
    """A file that an answer is written to, unpacked and hashed on the way."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self.written = 0
        self._file = path.open("wb")
        self._progress = progress
        self._digest = hashlib.sha256()
        self._unzip: Any = None

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def begin(self, headers: Mapping[str, str]) -> None:
        self._progress(-self.written)
        self._digest, self.written = hashlib.sha256(), 0
        self._file.seek(0)
        self._file.truncate()
        self._unzip = zlib.decompressobj(31) if headers.get("content-encoding") == "gzip" else None

    def write(self, block: bytes) -> None:
        self._keep(self._unzip.decompress(block) if self._unzip else block)

    def end(self) -> None:
        if self._unzip:
            self._keep(self._unzip.flush())
        self._keep(b"", is_last=True)

    def close(self) -> None:
        # What could not be written was said already.
        with contextlib.suppress(OSError):
            self._file.close()

    def _keep(self, plain: bytes, *, is_last: bool = False) -> None:
        try:
            self._file.write(plain)
            if is_last:
                self._file.flush()
        except OSError as error:
            # Not to be taken for a broken connection, which would be tried again.
            raise BadTransfer(f"{self._file.name} can't be written: {error.strerror}.") from None
        self._digest.update(plain)
        self.written += len(plain)
        self._progress(len(plain))


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def upload(
    delivery: Delivery,
    place: tuple[str, Path, int],
    progress: Progress,
    stop: threading.Event,
    once_more: Callable[[], Awaitable[str]],
) -> None:
    """One file (address, path, size) to its signed address; `once_more` gives a fresh one when that is over."""
    url, path, size_bytes = place
    body = FileBody(path, size_bytes, progress, stop)
    headers = {"Content-Type": "application/octet-stream"}
    try:
        try:
            await delivery.exchange("PUT", url, headers, body)
        except Refused as error:
            if error.status not in (401, 403, 410):
                raise
            await delivery.exchange("PUT", await once_more(), headers, body)
    finally:
        body.close()


async def upload_all(
    delivery: Delivery,
    files: Mapping[str, tuple[str, Path, int]],
    progress: Progress,
    once_more: Callable[[str], Awaitable[str]],
) -> None:
    """Several files (name: address, path, size) at once; the first failure ends them all and is raised."""
    stop = threading.Event()

    async def one(name: str) -> None:
        await upload(delivery, files[name], progress, stop, partial(once_more, name))

    await delivery.wire.together([partial(one, name) for name in files], UPLOADS_AT_ONCE_MAX, stop)


def safe_relative(name: str) -> Path:
    """A name that came from elsewhere, as a path that stays below whatever folder it is put into."""
    parts = []
    for part in _UNSAFE.sub("_", name).split("/"):
        if part in ("", ".", ".."):
            continue
        while len(part.encode()) > NAME_BYTES_MAX:
            part = part[:-1]
        parts.append(part)
    return Path(*parts) if parts else Path("unnamed")


async def download(
    delivery: Delivery, url: str, folder: Path, name: str, sha256: str | None, size_bytes: int, progress: Progress
) -> Path:
    """One file into `folder`: to a temporary file first, checked, then under its name, or `name_1` if that is taken."""
    target = _inside(folder, safe_relative(name))
    with _temporary(target) as unfinished:
        sink = FileSink(unfinished, progress)
        try:
            await delivery.exchange("GET", url, {}, sink=sink)
        finally:
            sink.close()
        if sink.written != size_bytes or (sha256 is not None and sink.sha256 != sha256):
            raise BadTransfer(f"{name} arrived damaged: {sink.written} of {size_bytes} bytes, and it was not kept.")
        return _settle(unfinished, target)


def _inside(folder: Path, relative: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / relative
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise BadTransfer(f"{target.parent} should be a folder, but a file of that name is there.") from None
    # A symbolic link among the folders could lead elsewhere.
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise BadTransfer(f"{relative} would be written outside {folder}.")
    return target


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix=".rgrid-", suffix=".part", dir=target.parent)
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
    finally:
        unfinished.unlink(missing_ok=True)


def _settle(unfinished: Path, target: Path) -> Path:
    """Gives the file its name. A link fails where a rename would overwrite, so a race can't lose a file either."""
    unfinished.chmod(0o666 & ~_umask())
    for number in range(COPIES_MAX):
        wanted = target if number == 0 else target.with_name(f"{target.stem}_{number}{target.suffix}")
        try:
            os.link(unfinished, wanted)
        except FileExistsError:
            continue
        except OSError:
            # Some file systems have no hard links.
            if wanted.exists():
                continue
            unfinished.rename(wanted)
        return wanted
    raise BadTransfer(f"There are {COPIES_MAX} copies of {target} already.")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
