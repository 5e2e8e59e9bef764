"""Objects in a bucket, through aiobotocore, which is imported only when a bucket is configured: it takes seconds.

`<prefix>/objects/ab/cdef…` are the objects; `incoming/` and `slots/` hold uploads whose hash isn't known yet.
"""

import asyncio
import base64
import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from rgrid.adapters.objects import (
    CHUNK_BYTES,
    KNOWN_FOR_MAX_MS,
    KNOWN_MAX,
    UNUSED_FOR_S,
    Direct,
    StoredObject,
    checked,
    is_sha256,
)
from rgrid.adapters.s3_addresses import Bucket, DirectAddresses
from rgrid.kernel.clock import monotonic_ms, now
from rgrid.kernel.errors import NotFound, TooLarge, Unavailable
from rgrid.kernel.ids import new_ulid

PART_BYTES: Final = 16 * 1024 * 1024
PARTS_AT_ONCE_MAX: Final = 3
CONNECT_MAX_S: Final = 5
ANSWER_MAX_S: Final = 60
TRIES_MAX: Final = 4
CONNECTIONS_MAX: Final = 32
REFRESHED_AFTER_S: Final = UNUSED_FOR_S // 3
"""An object that was written longer ago than this is written anew, in place, by whoever puts the same bytes."""
T = TypeVar("T")
_MISSING: Final = frozenset({"404", "NoSuchKey", "NotFound"})


class S3Objects:
    """Implements `ObjectStore`. Open it by `async with`. The service checks what it is sent: every put and every part
    carries the SHA-256 of its bytes in the signature."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._known: OrderedDict[str, int] = OrderedDict()
        self._client: Any = None
        self._stack = contextlib.AsyncExitStack()
        addresses = DirectAddresses(bucket) if bucket.public_url is not None else None
        self._direct = _DirectAccess(self, addresses) if addresses is not None else None

    async def __aenter__(self) -> Self:
        from aiobotocore.config import AioConfig
        from aiobotocore.session import AioSession

        config = AioConfig(
            signature_version="s3v4",
            s3={"addressing_style": "path", "payload_signing_enabled": True},
            retries={"mode": "standard", "max_attempts": TRIES_MAX},
            connect_timeout=CONNECT_MAX_S,
            read_timeout=ANSWER_MAX_S,
            max_pool_connections=CONNECTIONS_MAX,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        client = AioSession().create_client(
            "s3",
            region_name=self._bucket.region,
            endpoint_url=self._bucket.endpoint,
            aws_access_key_id=self._bucket.access_key,
            aws_secret_access_key=self._bucket.secret_key,
            config=config,
        )
        self._client = await self._stack.enter_async_context(client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def direct(self) -> Direct | None:
        """Set when clients reach the bucket themselves."""
        return self._direct

    async def put_bytes(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        if not self._is_known(sha256):
            if not await self.touch(sha256):
                await self.put_whole(self.key_of(sha256), data)
            self._remember(sha256)
        return sha256

    async def put_file(self, path: Path, size_max: int | None = None) -> StoredObject:
        """Copy a regular file into the store; links are not followed."""
        from rgrid.adapters.local_objects import open_plain

        file = await asyncio.to_thread(open_plain, path)
        try:
            async with self.open_write(size_max if size_max is not None else 1 << 62) as writing:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    await writing.write(chunk)
                return await writing.finish()
        finally:
            file.close()

    def open_write(self, size_max: int) -> "S3Writing":
        return S3Writing(self, size_max)

    async def open_read(self, sha256: str) -> "S3Reading":
        answer = await self.call("get_object", Key=self.key_of(sha256))
        return S3Reading(answer["Body"], answer["ContentLength"])

    async def read_bytes(self, sha256: str, size_max: int) -> bytes:
        async with await self.open_read(sha256) as reading:
            if reading.size_bytes > size_max:
                raise TooLarge(f"Object {sha256} is larger than {size_max} bytes.")
            return b"".join([chunk async for chunk in reading])

    async def copy_to(self, sha256: str, target: Path) -> None:
        digest = hashlib.sha256()
        async with await self.open_read(sha256) as reading:
            with target.open("xb") as copied:
                async for chunk in reading:
                    digest.update(chunk)
                    await asyncio.to_thread(copied.write, chunk)
        if digest.hexdigest() != sha256:
            target.unlink()
            # What was stored is lost as if it were gone: waiting brings nothing back.
            raise NotFound(f"Object {sha256} is damaged.", code="object_damaged")

    async def exists(self, sha256: str) -> bool:
        return await self.head(self.key_of(sha256)) is not None

    async def touch(self, sha256: str) -> bool:
        """An old object is copied onto itself, which makes it young."""
        key = self.key_of(sha256)
        head = await self.head(key)
        if head is None:
            return False
        if _age_s(head["LastModified"]) > REFRESHED_AFTER_S:
            await self.copy(key, key)
        return True

    async def check(self) -> str | None:
        await self.call("head_bucket")
        return None

    async def hashes(self) -> AsyncIterator[str]:
        prefix = f"{self._bucket.prefix}objects/"
        async for key in self.keys(prefix):
            sha256 = key.removeprefix(prefix).replace("/", "", 1)
            if is_sha256(sha256):
                yield sha256

    async def size(self, sha256: str) -> int:
        head = await self.head(self.key_of(sha256))
        if head is None:
            raise NotFound(f"Object not found: {sha256}")
        size: int = head["ContentLength"]
        return size

    async def delete(self, sha256: str, unused_for_s: int = UNUSED_FOR_S) -> bool:
        key = self.key_of(sha256)
        self._known.pop(sha256, None)
        head = await self.head(key)
        if head is None:
            return True
        if unused_for_s and _age_s(head["LastModified"]) < unused_for_s:
            return False
        await self.remove(key)
        return True

    # ---------------------------------------------------------------- by key

    def key_of(self, sha256: str) -> str:
        return f"{self._bucket.prefix}objects/{checked(sha256)[:2]}/{sha256[2:]}"

    def incoming_key(self) -> str:
        return f"{self._bucket.prefix}incoming/{new_ulid()}"

    async def call(self, operation: str, **parameters: Any) -> Any:
        """One request about the bucket. Raises NotFound and Unavailable; what it says holds no address and no key."""
        return await _translated(getattr(self._client, operation)(Bucket=self._bucket.name, **parameters))

    async def head(self, key: str) -> Mapping[str, Any] | None:
        try:
            answer: Mapping[str, Any] = await self.call("head_object", Key=key)
        except NotFound:
            return None
        return answer

    async def put_whole(self, key: str, data: bytes) -> None:
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        await self.call("put_object", Key=key, Body=data, ChecksumSHA256=checksum)

    async def copy(self, source: str, target: str) -> None:
        """A copy within the bucket, written anew also when both are the same."""
        await self.call(
            "copy_object",
            Key=target,
            CopySource={"Bucket": self._bucket.name, "Key": source},
            MetadataDirective="REPLACE",
            Metadata={"written": now().isoformat()},
        )

    async def remove(self, key: str) -> None:
        with contextlib.suppress(NotFound):
            await self.call("delete_object", Key=key)

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        after: dict[str, str] = {}
        while True:
            page = await self.call("list_objects_v2", Prefix=prefix, **after)
            for found in page.get("Contents", ()):
                yield found["Key"]
            if not page.get("IsTruncated"):
                return
            after = {"ContinuationToken": page["NextContinuationToken"]}

    async def settle(self, incoming: str, sha256: str) -> None:
        """What lies under a name of its own becomes the object of its hash."""
        if not await self.touch(sha256):
            await self.copy(incoming, self.key_of(sha256))
        await self.remove(incoming)
        self._remember(sha256)

    def _is_known(self, sha256: str) -> bool:
        since_ms = self._known.get(sha256)
        return since_ms is not None and monotonic_ms() - since_ms <= KNOWN_FOR_MAX_MS

    def _remember(self, sha256: str) -> None:
        self._known[sha256] = monotonic_ms()
        self._known.move_to_end(sha256)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)


class S3Writing:
    """An upload into a bucket: small ones go in one request, larger ones in parts, a few of them under way at a time,
    so the memory it takes doesn't grow with the size."""

    def __init__(self, store: S3Objects, size_max: int) -> None:
        self._store = store
        self._size_max = size_max
        self._size = 0
        self._digest = hashlib.sha256()
        self._waiting = bytearray()
        self._key = store.incoming_key()
        self._upload_id: str | None = None
        self._parts: list[asyncio.Task[Mapping[str, Any]]] = []
        self._gate = asyncio.Semaphore(PARTS_AT_ONCE_MAX)

    async def __aenter__(self) -> Self:
        return self

    async def write(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._size_max:
            raise TooLarge(f"The upload is larger than {self._size_max} bytes.")
        self._digest.update(chunk)
        self._waiting += chunk
        while len(self._waiting) >= PART_BYTES:
            part = bytes(self._waiting[:PART_BYTES])
            del self._waiting[:PART_BYTES]
            await self._send(part)

    async def finish(self) -> StoredObject:
        sha256 = self._digest.hexdigest()
        if self._upload_id is None:
            await self._store.put_bytes(bytes(self._waiting))
        else:
            if self._waiting:
                await self._send(bytes(self._waiting))
            sent = await asyncio.gather(*self._parts)
            parts = [{"PartNumber": number, "ETag": part["ETag"]} for number, part in enumerate(sent, start=1)]
            await self._store.call(
                "complete_multipart_upload",
                Key=self._key,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": parts},
            )
            self._upload_id = None
            await self._store.settle(self._key, sha256)
        return StoredObject(sha256=sha256, size_bytes=self._size)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in self._parts:
            part.cancel()
        await asyncio.gather(*self._parts, return_exceptions=True)
        if self._upload_id is not None:
            with contextlib.suppress(NotFound, Unavailable):
                await self._store.call("abort_multipart_upload", Key=self._key, UploadId=self._upload_id)

    async def _send(self, data: bytes) -> None:
        if self._upload_id is None:
            begun = await self._store.call("create_multipart_upload", Key=self._key)
            self._upload_id = begun["UploadId"]
        await self._gate.acquire()
        for part in self._parts:
            if part.done():
                part.result()  # a part that failed ends the upload now
        self._parts.append(asyncio.create_task(self._part(len(self._parts) + 1, data)))

    async def _part(self, number: int, data: bytes) -> Mapping[str, Any]:
        try:
            sent: Mapping[str, Any] = await self._store.call(
                "upload_part", Key=self._key, UploadId=self._upload_id, PartNumber=number, Body=data
            )
            return sent
        finally:
            self._gate.release()


class S3Reading:
    """An open object of a bucket."""

    def __init__(self, body: Any, size_bytes: int) -> None:
        self._body = body
        self.size_bytes = size_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await _translated(self._body.read(CHUNK_BYTES)):
            yield chunk

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._body.close()


class _DirectAccess:
    """Implements `Direct`. What clients bring lies in `slots/` until it has been checked."""

    def __init__(self, store: S3Objects, addresses: DirectAddresses) -> None:
        self._store = store
        self._addresses = addresses

    def upload_url(self, slot: str, expires_s: int, size_bytes: int | None = None) -> str:
        return self._addresses.upload_url(self._addresses.slot_key(slot), expires_s, size_bytes)

    def download_url(self, sha256: str, filename: str, content_type: str, expires_s: int) -> str:
        return self._addresses.download_url(self._store.key_of(sha256), filename, content_type, expires_s)

    async def has_arrived(self, slot: str) -> bool:
        return await self._store.head(self._addresses.slot_key(slot)) is not None

    async def take(self, slot: str, size_max: int) -> StoredObject | None:
        key = self._addresses.slot_key(slot)
        head = await self._store.head(key)
        if head is None:
            return None
        if head["ContentLength"] > size_max:
            await self._store.remove(key)
            raise TooLarge(f"The upload is larger than {size_max} bytes.")
        # Moved out of reach of its address first, so that it can't change between the check and its use.
        incoming = self._store.incoming_key()
        await self._store.copy(key, incoming)
        answer = await self._store.call("get_object", Key=incoming)
        digest, size = hashlib.sha256(), 0
        async with S3Reading(answer["Body"], answer["ContentLength"]) as reading:
            async for chunk in reading:
                digest.update(chunk)
                size += len(chunk)
        await self._store.settle(incoming, digest.hexdigest())
        await self._store.remove(key)
        return StoredObject(sha256=digest.hexdigest(), size_bytes=size)


def _age_s(written_at: datetime) -> float:
    return (now() - written_at).total_seconds()


async def _translated(request: Awaitable[T]) -> T:
    from aiobotocore.httpsession import HTTPClientError
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return await request
    except ClientError as refusal:
        code = str(refusal.response.get("Error", {}).get("Code", "unknown"))
        if code in _MISSING:
            raise NotFound("Object not found in the bucket.") from None
        raise Unavailable(f"The object store refuses: {code}.", code="storage_unavailable") from None
    except (BotoCoreError, HTTPClientError, OSError, TimeoutError) as trouble:
        name = type(trouble).__name__
        raise Unavailable(f"The object store can't be reached: {name}.", code="storage_unavailable") from None
