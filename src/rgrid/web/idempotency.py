"""Idempotency-Key: a finished reply is kept in the transaction of its events and replayed byte for byte."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import asyncpg
import msgspec

from rgrid.eventstore.append import Rider
from rgrid.kernel.clock import Now
from rgrid.kernel.errors import Invalid, Rejected

CONSTRAINT: Final = "idempotency_keys_pkey"
PURGE_BATCH_MAX: Final = 1000
PURGE_BATCHES_MAX: Final = 100
_KEY_LENGTH_MAX: Final = 255
_COLUMNS: Final = "actor, method, path, key, request_hash, status, headers, body, expires_at, position"
_INSERT: Final = f"insert into rgrid.idempotency_keys ({_COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"  # noqa: S608 (constants only)
_SLOT: Final = "actor = $1 and method = $2 and path = $3 and key = $4"
_SELECT: Final = f"select {_COLUMNS} from rgrid.idempotency_keys where {_SLOT}"  # noqa: S608 (constants only)
_EXPIRE: Final = f"delete from rgrid.idempotency_keys where {_SLOT} and expires_at = $5"  # noqa: S608 (constants only)


class Slot(msgspec.Struct, frozen=True):
    """What a key belongs to: the same key of another actor, or for another path, is another one."""

    actor: str
    method: str
    path: str
    key: str

    def columns(self) -> tuple[str, str, str, str]:
        return self.actor, self.method, self.path, self.key


class InProgress(Rejected):
    """The first request under this key hasn't ended yet."""

    code = "idempotency_in_progress"
    retry_after_s = 1


class KeptReply(msgspec.Struct, frozen=True):
    """A stored reply. `position` is that of its last event, 0 when it wrote none."""

    request_hash: bytes
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    position: int


def check_key(key: str) -> str:
    """The key, or Invalid when it isn't 1 to 255 visible ASCII characters."""
    if not 1 <= len(key) <= _KEY_LENGTH_MAX or any(not "!" <= char <= "~" for char in key):
        raise Invalid("Idempotency-Key must be 1 to 255 visible ASCII characters.", code="invalid_idempotency_key")
    return key


def key_of(headers: Mapping[str, str], body: object) -> str | None:
    """The key of a request: in its header, or in a member `idempotency_key` of its body, where it may be any text.
    Raises Invalid when they differ, or the header's isn't one."""
    header, member = headers.get("idempotency-key"), getattr(body, "idempotency_key", None)
    if header is not None and member is not None and header != member:
        raise Invalid(
            "Idempotency-Key and idempotency_key differ.",
            code="conflicting_idempotency_keys",
            fields=[("idempotency_key", "Not the key of the header.")],
        )
    return member if header is None else check_key(header)


def request_hash(query: Sequence[tuple[str, str]], body: bytes) -> bytes:
    """The hash of a request's query and of its body's canonical JSON."""
    canonical = msgspec.json.encode(msgspec.json.decode(body), order="sorted") if body else b""
    return hashlib.sha256(msgspec.json.encode(sorted(query)) + b"\n" + canonical).digest()


class Idempotency:
    """The kept replies of the installation, and the requests that are running in this process."""

    def __init__(self, pool: asyncpg.Pool, now: Now, ttl_s: int = 86_400) -> None:
        self._pool = pool
        self._now = now
        self._ttl = timedelta(seconds=ttl_s)
        self._running: dict[Slot, bytes] = {}

    @contextmanager
    def running(self, slot: Slot, asked: bytes) -> Iterator[None]:
        """Holds the slot in this process. Raises Rejected while another request holds it."""
        held = self._running.get(slot)
        if held is not None:
            if held != asked:
                raise conflict()
            raise InProgress("A request with this Idempotency-Key is still running.")
        self._running[slot] = asked
        try:
            yield
        finally:
            del self._running[slot]

    async def find(self, slot: Slot, asked: bytes) -> KeptReply | None:
        """The reply kept under the slot. Raises Rejected when it answered another request."""
        row = await self._pool.fetchrow(_SELECT, *slot.columns())
        if row is None:
            return None
        if row["expires_at"] <= self._now():
            # A row past its time would make the insert of the new reply fail.
            await self._pool.execute(_EXPIRE, *slot.columns(), row["expires_at"])
            return None
        if row["request_hash"] != asked:
            raise conflict()
        headers = msgspec.json.decode(row["headers"], type=list[tuple[str, str]])
        return KeptReply(row["request_hash"], row["status"], headers, row["body"], row["position"])

    def rider(self, slot: Slot, asked: bytes, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> Rider:
        """The statement that keeps a reply in the transaction of its events."""
        return Rider(_INSERT, self._values(slot, asked, status, headers, body))

    async def keep(self, slot: Slot, reply: KeptReply) -> None:
        """Keeps the reply of a request that wrote no events."""
        values = self._values(slot, reply.request_hash, reply.status, reply.headers, reply.body)
        await self._pool.execute(_INSERT + " on conflict do nothing", *values, reply.position)

    async def purge(self) -> int:
        """Forgets what is past its time, in bounded batches; how many that were."""
        gone = 0
        for _ in range(PURGE_BATCHES_MAX):
            status = await self._pool.execute(
                "delete from rgrid.idempotency_keys where ctid = any(array("
                "select ctid from rgrid.idempotency_keys where expires_at <= $1 limit $2))",
                self._now(),
                PURGE_BATCH_MAX,
            )
            batch = int(status.split()[-1])
            gone += batch
            if batch < PURGE_BATCH_MAX:
                break
        return gone

    def _values(
        self, slot: Slot, asked: bytes, status: int, headers: Sequence[tuple[str, str]], body: bytes
    ) -> tuple[object, ...]:
        return (*slot.columns(), asked, status, msgspec.json.encode(list(headers)), body, self._now() + self._ttl)


def conflict() -> Rejected:
    """The same key for another request."""
    return Rejected("This Idempotency-Key was used for another request.", code="idempotency_conflict")
