"""The object store: bytes by their SHA-256. Scripts, inputs and outputs lie here; events hold only the hash.

`LocalObjects` keeps them in a folder that several processes of one machine may share.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import itertools
import os
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Protocol, Self, TypeVar

import msgspec

from rgrid.adapters.durable import fsync_folder, make_folder, storage_trouble
from rgrid.kernel.clock import monotonic_ms, now
from rgrid.kernel.errors import NotFound, TooLarge

CHUNK_BYTES: Final = 1024 * 1024
THREADS_MAX: Final = 8
KNOWN_MAX: Final = 10_000
KNOWN_FOR_MAX_MS: Final = 600_000
# An object stays at least this long after its last put: far longer than a hash is taken for known, so whoever puts
# equal bytes has the time to record the hash before a clean-up may remove the object.
UNUSED_FOR_S: Final = 3600
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
T = TypeVar("T")


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object that the store holds."""

    sha256: str
    size_bytes: int


class Reading(Protocol):
    """An open object, read from front to back; close it by `async with`."""

    size_bytes: int

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Writing(Protocol):
    """An object on its way in. Leaving `async with` without `finish` drops it."""

    async def write(self, chunk: bytes) -> None:
        """Raises TooLarge beyond the limit, Unavailable when the store is full."""
        ...

    async def finish(self) -> StoredObject: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ObjectStore(Protocol):
    """What every store can do. Unknown hashes, and texts that are no hash, are NotFound."""

    async def put_bytes(self, data: bytes) -> str: ...
    async def put_file(self, path: Path, size_max: int | None = None) -> StoredObject: ...
    def open_write(self, size_max: int) -> Writing: ...
    async def open_read(self, sha256: str) -> Reading: ...
    async def read_bytes(self, sha256: str, size_max: int) -> bytes: ...
    async def copy_to(self, sha256: str, target: Path) -> None:
        """Write the object to a file, verified."""
        ...

    async def exists(self, sha256: str) -> bool: ...
    async def size(self, sha256: str) -> int: ...
    async def delete(self, sha256: str, unused_for_s: int = UNUSED_FOR_S) -> bool:
        """Remove the object unless somebody put it (again) in the last `unused_for_s`; whether it is gone now."""
        ...


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

    def path_of(self, sha256: str) -> Path:
        """Where the object lies, or would lie. Raises NotFound for what is no SHA-256: hashes come from callers."""
        if not _SHA256.fullmatch(sha256):
            raise NotFound(f"Object not found: {sha256[:80]}")
        return self._folder / sha256[:2] / sha256[2:]

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
            opened = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(opened, "rb") as read, file:
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


def _refreshed(path: Path, size: int) -> bool:
    """Whether the object is there, and then with a new time of last use, which keeps clean-ups away."""
    try:
        if path.stat().st_size != size:
            return False
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
