"""The object store: bytes by their SHA-256. Scripts, inputs and outputs lie here; events hold only the hash.

This is what every store can do; `local_objects` keeps them in a folder, `s3_objects` in a bucket.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

import msgspec

from rgrid.kernel.errors import NotFound

CHUNK_BYTES: Final = 1024 * 1024
KNOWN_MAX: Final = 10_000
KNOWN_FOR_MAX_MS: Final = 600_000
# An object stays at least this long after its last put: far longer than a hash is taken for known, so whoever puts
# equal bytes has the time to record the hash before a clean-up may remove the object.
UNUSED_FOR_S: Final = 3600
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def is_sha256(text: str) -> bool:
    return _SHA256.fullmatch(text) is not None


def checked(sha256: str) -> str:
    """The hash itself. Raises NotFound for what is none: hashes come from callers."""
    if not is_sha256(sha256):
        raise NotFound(f"Object not found: {sha256[:80]}")
    return sha256


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


class Direct(Protocol):
    """A store that clients may reach themselves, under addresses that are signed for one object and one method."""

    def upload_url(self, slot: str, expires_s: int, size_bytes: int | None = None) -> str:
        """With a size, the store refuses whatever is longer or shorter."""
        ...

    def download_url(self, sha256: str, filename: str, content_type: str, expires_s: int) -> str: ...
    async def has_arrived(self, slot: str) -> bool: ...
    async def take(self, slot: str, size_max: int) -> StoredObject | None:
        """Check what was uploaded and make it an object; None when nothing was. Raises TooLarge."""
        ...


class ObjectStore(Protocol):
    """What every store can do. Unknown hashes, and texts that are no hash, are NotFound."""

    @property
    def direct(self) -> Direct | None: ...
    async def put_bytes(self, data: bytes) -> str: ...
    async def put_file(self, path: Path, size_max: int | None = None) -> StoredObject: ...
    def open_write(self, size_max: int) -> Writing: ...
    async def open_read(self, sha256: str) -> Reading: ...
    async def read_bytes(self, sha256: str, size_max: int) -> bytes: ...
    async def copy_to(self, sha256: str, target: Path) -> None:
        """Write the object to a file, verified."""
        ...

    async def exists(self, sha256: str) -> bool: ...
    async def touch(self, sha256: str) -> bool:
        """Whether the object is there; if so, it stays for UNUSED_FOR_S from now on, as if it had just been put."""
        ...

    async def check(self) -> str | None:
        """How the store is: None when well, else a sentence. Raises Unavailable when it can't be used."""
        ...

    def hashes(self) -> AsyncIterator[str]:
        """Every object there is, in no order."""
        ...

    async def size(self, sha256: str) -> int: ...
    async def delete(self, sha256: str, unused_for_s: int = UNUSED_FOR_S) -> bool:
        """Remove the object unless somebody put it (again) in the last `unused_for_s`; whether it is gone now."""
        ...
