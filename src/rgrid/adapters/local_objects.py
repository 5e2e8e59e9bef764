"""Objects in a folder that several processes of one machine may share."""

import asyncio
import contextlib
import fcntl
import functools
import hashlib
import itertools
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self, TypeVar

from rgrid.adapters.durable import fsync_folder, make_folder, storage_trouble
from rgrid.adapters.objects import (
    CHUNK_BYTES,
    KNOWN_FOR_MAX_MS,
    KNOWN_MAX,
    UNUSED_FOR_S,
    StoredObject,
    checked,
    is_sha256,
)
from rgrid.kernel.clock import monotonic_ms, now
from rgrid.kernel.errors import NotFound, TooLarge

THREADS_MAX: Final = 8
FREE_SHARE_MIN: Final = 0.01
T = TypeVar("T")


class LocalObjects:
    """Objects as files `ab/cdef…` below a folder, written beside and renamed, durable on return."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="objects")
        self._known: OrderedDict[str, int] = OrderedDict()
        try:
            make_folder(self._incoming)
            self._remove_leftovers()
        except OSError as problem:
            raise storage_trouble(problem) from problem

    def close(self) -> None:
        self._threads.shutdown()

    @property
    def direct(self) -> None:
        """Clients reach a folder only through the service."""
        return

    def path_of(self, sha256: str) -> Path:
        """Where the object lies, or would lie. Raises NotFound for what is no SHA-256: hashes come from callers."""
        return self._folder / checked(sha256)[:2] / sha256[2:]

    async def put_bytes(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        if not self._is_known(sha256):
            await self.run(lambda: self._put_bytes(sha256, data))
            self._remember(sha256)
        return sha256

    async def put_file(self, path: Path, size_max: int | None = None) -> StoredObject:
        """Copy a regular file into the store; links are not followed."""
        stored = await self.run(lambda: self._put_file(path, size_max))
        self._remember(stored.sha256)
        return stored

    def open_write(self, size_max: int) -> "LocalWriting":
        return LocalWriting(self, size_max)

    async def open_read(self, sha256: str) -> "LocalReading":
        path = self.path_of(sha256)
        file = await self.run(lambda: _open(path, sha256))
        return LocalReading(self, file)

    async def read_bytes(self, sha256: str, size_max: int) -> bytes:
        path = self.path_of(sha256)

        def read() -> bytes:
            with _open(path, sha256) as file:
                return file.read(size_max + 1)

        data = await self.run(read)
        if len(data) > size_max:
            raise TooLarge(f"Object {sha256} is larger than {size_max} bytes.")
        return data

    async def copy_to(self, sha256: str, target: Path) -> None:
        path = self.path_of(sha256)

        def copy() -> None:
            digest = hashlib.sha256()
            with _open(path, sha256) as file, target.open("xb") as copied:
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
                    copied.write(chunk)
            if digest.hexdigest() != sha256:
                target.unlink()
                # What was stored is lost as if it were gone: waiting brings nothing back.
                raise NotFound(f"Object {sha256} is damaged.", code="object_damaged")

        await self.run(copy)

    async def exists(self, sha256: str) -> bool:
        try:
            await self.size(sha256)
        except NotFound:
            return False
        return True

    async def touch(self, sha256: str) -> bool:
        path = self.path_of(sha256)
        return await self.run(lambda: _refreshed(path))

    async def check(self) -> str | None:
        disk = await self.run(lambda: os.statvfs(self._folder))
        free = disk.f_bavail / max(1, disk.f_blocks)
        return f"{free:.1%} of the disk is free." if free < FREE_SHARE_MIN else None

    async def hashes(self) -> AsyncIterator[str]:
        for first in range(256):
            for name in await self.run(functools.partial(_names_in, self._folder / f"{first:02x}")):
                if is_sha256(f"{first:02x}{name}"):
                    yield f"{first:02x}{name}"

    async def size(self, sha256: str) -> int:
        path = self.path_of(sha256)
        return await self.run(lambda: _stat(path, sha256).st_size)

    async def delete(self, sha256: str, unused_for_s: int = UNUSED_FOR_S) -> bool:
        path = self.path_of(sha256)

        def remove() -> bool:
            try:
                if unused_for_s and now().timestamp() - _stat(path, sha256).st_mtime < unused_for_s:
                    return False
                path.unlink()
            except (NotFound, FileNotFoundError):
                return True
            fsync_folder(path.parent)
            return True

        self._known.pop(sha256, None)
        return await self.run(remove)

    async def run(self, work: Callable[[], T]) -> T:
        """Blocking work in the store's own threads; trouble with the disk becomes Unavailable."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except OSError as problem:
            raise storage_trouble(problem) from problem

    def new_file(self) -> tuple[Path, BinaryIO]:
        """A file to write into, locked as long as it is open, so that no clean-up takes it for a leftover."""
        while True:
            path = self._incoming / f"{os.getpid()}-{next(_numbers)}"
            file = path.open("xb")
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                return path, file
            file.close()  # a clean-up was between the two lines above; next number

    def keep(self, path: Path, file: BinaryIO, sha256: str) -> None:
        """Turn a written file into the object of that hash."""
        file.flush()
        os.fsync(file.fileno())
        target = self.path_of(sha256)
        make_folder(target.parent)
        path.replace(target)
        fsync_folder(target.parent)

    def _put_bytes(self, sha256: str, data: bytes) -> None:
        if _refreshed(self.path_of(sha256), len(data)):
            return
        path, file = self.new_file()
        try:
            with file:
                file.write(data)
                self.keep(path, file, sha256)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _put_file(self, source: Path, size_max: int | None) -> StoredObject:
        digest, size = hashlib.sha256(), 0
        path, file = self.new_file()
        try:
            with open_plain(source) as read, file:
                while chunk := read.read(CHUNK_BYTES):
                    size += len(chunk)
                    if size_max is not None and size > size_max:
                        raise TooLarge(f"{source.name} is larger than {size_max} bytes.")
                    digest.update(chunk)
                    file.write(chunk)
                self.keep(path, file, digest.hexdigest())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return StoredObject(sha256=digest.hexdigest(), size_bytes=size)

    def _is_known(self, sha256: str) -> bool:
        since_ms = self._known.get(sha256)
        if since_ms is None or monotonic_ms() - since_ms > KNOWN_FOR_MAX_MS:
            return False
        self._known.move_to_end(sha256)
        return True

    def _remember(self, sha256: str) -> None:
        self._known[sha256] = monotonic_ms()
        self._known.move_to_end(sha256)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    def _remove_leftovers(self) -> None:
        """Files that a killed process was writing: nobody holds their lock."""
        for path in self._incoming.iterdir():
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                path.unlink(missing_ok=True)


class LocalWriting:
    """An upload into a LocalObjects: hashed as it comes, in chunks that are worth a thread."""

    def __init__(self, store: LocalObjects, size_max: int) -> None:
        self._store = store
        self._size_max = size_max
        self._size = 0
        self._digest = hashlib.sha256()
        self._waiting = bytearray()
        self._path: Path | None = None
        self._file: BinaryIO | None = None

    async def __aenter__(self) -> Self:
        self._path, self._file = await self._store.run(self._store.new_file)
        return self

    async def write(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._size_max:
            raise TooLarge(f"The upload is larger than {self._size_max} bytes.")
        self._waiting += chunk
        if len(self._waiting) >= CHUNK_BYTES:
            await self._flush()

    async def finish(self) -> StoredObject:
        await self._flush()
        assert self._path is not None
        assert self._file is not None
        path, file, sha256 = self._path, self._file, self._digest.hexdigest()
        await self._store.run(lambda: self._store.keep(path, file, sha256))
        self._path = None
        return StoredObject(sha256=sha256, size_bytes=self._size)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            # What a full disk refused is tried again by close; the file is dropped anyway, or flushed already.
            with contextlib.suppress(OSError):
                self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    async def _flush(self) -> None:
        data, self._waiting = bytes(self._waiting), bytearray()
        file = self._file
        assert file is not None, "write inside `async with`"

        def write() -> None:
            self._digest.update(data)
            file.write(data)
            file.flush()

        await self._store.run(write)


class LocalReading:
    """An open object of a LocalObjects."""

    def __init__(self, store: LocalObjects, file: BinaryIO) -> None:
        self._store = store
        self._file = file
        self.size_bytes = os.fstat(file.fileno()).st_size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self._store.run(lambda: self._file.read(CHUNK_BYTES)):
            yield chunk

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


_numbers = itertools.count()


def open_plain(path: Path) -> BinaryIO:
    """A file to read, unless it is a link."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def _names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _open(path: Path, sha256: str) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise NotFound(f"Object not found: {sha256}") from None


def _stat(path: Path, sha256: str) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError:
        raise NotFound(f"Object not found: {sha256}") from None


def _refreshed(path: Path, size: int | None = None) -> bool:
    """Whether the object is there, and then with a new time of last use, which keeps clean-ups away."""
    try:
        if size is not None and path.stat().st_size != size:
            return False
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
