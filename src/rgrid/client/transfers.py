"""Files on their way to the service and back: hashed, streamed, checked, and never written where they don't belong."""

import contextlib
import hashlib
import http.client
import os
import re
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from rgrid.client.problems import BadTransfer
from rgrid.client.transport import BLOCK_BYTES, Transport

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


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def upload(
    transport: Transport, url: str, path: Path, size_bytes: int, progress: Progress, stop: threading.Event
) -> None:
    """One file to its signed address."""
    body = FileBody(path, size_bytes, progress, stop)
    try:
        transport.exchange("PUT", url, {"Content-Type": "application/octet-stream"}, body)
    finally:
        body.close()


def upload_all(
    transport: Transport,
    files: Mapping[str, tuple[str, Path, int]],
    progress: Progress,
    once_more: Callable[[str], str],
) -> None:
    """Several files (name: address, path, size) at once; the first failure ends them all and is raised.

    `once_more` gives a fresh address for a name whose signed one is over.
    """
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    stop = threading.Event()

    def one(name: str, url: str, path: Path, size_bytes: int) -> None:
        from rgrid.client.problems import Refused

        try:
            upload(transport, url, path, size_bytes, progress, stop)
        except Refused as error:
            if error.status not in (401, 403, 410):
                raise
            upload(transport, once_more(name), path, size_bytes, progress, stop)

    pool = ThreadPoolExecutor(UPLOADS_AT_ONCE_MAX, thread_name_prefix="upload")
    try:
        futures = [pool.submit(one, name, *parts) for name, parts in files.items()]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


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


def download(
    transport: Transport, url: str, folder: Path, name: str, sha256: str | None, size_bytes: int, progress: Progress
) -> Path:
    """One file into `folder`: to a temporary file first, checked, then under its name, or `name_1` if that is taken."""
    target = _inside(folder, safe_relative(name))
    with _temporary(target) as partial:
        digest, written = _stream(transport, url, partial, progress)
        if written != size_bytes or (sha256 is not None and digest != sha256):
            raise BadTransfer(f"{name} arrived damaged: {written} of {size_bytes} bytes, and it was not kept.")
        return _settle(partial, target)


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
    partial = Path(name)
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _stream(transport: Transport, url: str, partial: Path, progress: Progress) -> tuple[str, int]:
    digest = hashlib.sha256()
    written = 0

    def consume(response: http.client.HTTPResponse) -> None:
        nonlocal digest, written
        progress(-written)
        digest, written = hashlib.sha256(), 0
        unzip = zlib.decompressobj(31) if response.getheader("Content-Encoding") == "gzip" else None
        with partial.open("wb") as file:
            while block := response.read(BLOCK_BYTES):
                plain = unzip.decompress(block) if unzip else block
                file.write(plain)
                digest.update(plain)
                written += len(plain)
                progress(len(plain))
            if unzip:
                plain = unzip.flush()
                file.write(plain)
                digest.update(plain)
                written += len(plain)

    transport.exchange("GET", url, {}, consume=consume)
    return digest.hexdigest(), written


def _settle(partial: Path, target: Path) -> Path:
    """Gives the file its name. A link fails where a rename would overwrite, so a race can't lose a file either."""
    partial.chmod(0o666 & ~_umask())
    for number in range(COPIES_MAX):
        wanted = target if number == 0 else target.with_name(f"{target.stem}_{number}{target.suffix}")
        try:
            os.link(partial, wanted)
        except FileExistsError:
            continue
        except OSError:
            # Some file systems have no hard links.
            if wanted.exists():
                continue
            partial.rename(wanted)
        return wanted
    raise BadTransfer(f"There are {COPIES_MAX} copies of {target} already.")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
