"""Secret values in events: sealed under a key of their stream that lies outside the log, so that dropping the key
erases them for good (crypto-shredding)."""

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rgrid.adapters.master_key import MasterKeys
from rgrid.kernel.errors import Gone, Unavailable
from rgrid.postgres.pool import Pool

REWRAP_MAX: Final = 1000
_NONCE_BYTES: Final = 12
_FORMAT: Final = b"\x01"


class Unreadable(Unavailable):
    """A sealed value can't be opened with the keys at hand, or was changed."""

    code = "sealed_value_unreadable"


class DataKeys:
    """Seals and opens values by stream. Keys are made when first needed."""

    def __init__(self, pool: Pool, master: MasterKeys) -> None:
        self._pool = pool
        self._masters = {_fingerprint(key): AESGCM(key) for key in master.keys}
        self._present = _fingerprint(master.keys[0])

    async def check(self) -> None:
        """Raise Unreadable when the database holds keys of a master key that isn't here: called at start."""
        strangers = await self._pool.fetch(
            "select distinct master_id from rgrid.data_keys"
            " where wrapped_key is not null and master_id <> all($1::text[])",
            list(self._masters),
        )
        if strangers:
            raise Unreadable(
                "The database holds secret values under another encryption key than RGRID_ENCRYPTION_KEY or the "
                "key file in the data folder: restore that key (earlier keys go after the present one, with a comma)."
            )

    async def seal(self, stream_id: str, values: Mapping[str, str]) -> dict[str, str]:
        """Each value encrypted, in base64. Raises Gone when the stream was forgotten."""
        if not values:
            return {}
        return _sealed(await self._key(stream_id, make=True), stream_id, values)

    async def seal_new(self, streams: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
        """The values of many streams whose ids were just made, each under a key of its own, in one statement."""
        keys = {stream_id: AESGCM.generate_key(256) for stream_id, values in streams.items() if values}
        if keys:
            await self._pool.execute(
                "insert into rgrid.data_keys (stream_id, master_id, wrapped_key)"
                " select stream_id, $2, wrapped_key from unnest($1::text[], $3::bytea[]) as k(stream_id, wrapped_key)",
                list(keys),
                self._present,
                [self._wrapped(stream_id, key) for stream_id, key in keys.items()],
            )
        return {
            stream_id: _sealed(keys[stream_id], stream_id, values) if values else {}
            for stream_id, values in streams.items()
        }

    async def open(self, stream_id: str, sealed: Mapping[str, str]) -> dict[str, str]:
        """The values in clear. Raises Gone when the stream was forgotten, Unreadable when they don't open."""
        if not sealed:
            return {}
        return _opened(await self._key(stream_id, make=False), stream_id, sealed)

    async def open_many(self, streams: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
        """The values of many streams, with one look for their keys. Raises as `open` does."""
        wanted = [stream_id for stream_id, sealed in streams.items() if sealed]
        rows = await self._pool.fetch(
            "select stream_id, master_id, wrapped_key from rgrid.data_keys where stream_id = any($1)", wanted
        )
        keys = {row["stream_id"]: self._usable(row["stream_id"], row["master_id"], row["wrapped_key"]) for row in rows}
        if missing := [stream_id for stream_id in wanted if stream_id not in keys]:
            raise Unreadable(f"There is no data key of {missing[0]}.")
        return {
            stream_id: _opened(keys[stream_id], stream_id, sealed) if sealed else {}
            for stream_id, sealed in streams.items()
        }

    async def forget(self, stream_id: str) -> None:
        """Drop the stream's key: its sealed values can never be opened again. Forgetting twice is fine."""
        await self._pool.execute(
            "insert into rgrid.data_keys (stream_id, master_id, wrapped_key, forgotten_at)"
            " values ($1, $2, null, clock_timestamp())"
            " on conflict (stream_id) do update set wrapped_key = null, forgotten_at = excluded.forgotten_at"
            " where data_keys.forgotten_at is null",
            stream_id,
            self._present,
        )

    async def rewrap(self, keys_max: int = REWRAP_MAX) -> int:
        """Wrap up to that many keys of earlier master keys anew under the present one; how many it were."""
        rows = await self._pool.fetch(
            "select stream_id, master_id, wrapped_key from rgrid.data_keys"
            " where wrapped_key is not null and master_id <> $1 limit $2",
            self._present,
            keys_max,
        )
        for row in rows:
            key = self._unwrapped(row["stream_id"], row["master_id"], row["wrapped_key"])
            await self._pool.execute(
                # A key that was forgotten or rewrapped in the meantime stays as it is.
                "update rgrid.data_keys set master_id = $2, wrapped_key = $3"
                " where stream_id = $1 and master_id = $4 and wrapped_key is not null",
                row["stream_id"],
                self._present,
                self._wrapped(row["stream_id"], key),
                row["master_id"],
            )
        return len(rows)

    async def _key(self, stream_id: str, *, make: bool) -> bytes:
        find = "select master_id, wrapped_key from rgrid.data_keys where stream_id = $1"
        row = await self._pool.fetchrow(find, stream_id)
        if row is None and make:
            key = AESGCM.generate_key(256)
            made = await self._pool.fetchval(
                "insert into rgrid.data_keys (stream_id, master_id, wrapped_key) values ($1, $2, $3)"
                " on conflict do nothing returning true",
                stream_id,
                self._present,
                self._wrapped(stream_id, key),
            )
            if made:
                return key
            row = await self._pool.fetchrow(find, stream_id)  # somebody else was faster
        if row is None:
            raise Unreadable(f"There is no data key of {stream_id}.")
        return self._usable(stream_id, row["master_id"], row["wrapped_key"])

    def _usable(self, stream_id: str, master_id: str, wrapped: bytes | None) -> bytes:
        if wrapped is None:
            raise Gone(f"The secret values of {stream_id} were erased.", code="forgotten")
        return self._unwrapped(stream_id, master_id, wrapped)

    def _wrapped(self, stream_id: str, key: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._masters[self._present].encrypt(nonce, key, stream_id.encode())

    def _unwrapped(self, stream_id: str, master_id: str, wrapped: bytes) -> bytes:
        master = self._masters.get(master_id)
        if master is None:
            raise Unreadable(f"The data key of {stream_id} is under a master key that isn't here.")
        try:
            return master.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], stream_id.encode())
        except InvalidTag:
            raise Unreadable(f"The data key of {stream_id} was changed.") from None


def _sealed(key: bytes, stream_id: str, values: Mapping[str, str]) -> dict[str, str]:
    cipher = AESGCM(key)
    sealed = {}
    for name, value in values.items():
        nonce = os.urandom(_NONCE_BYTES)
        secret = cipher.encrypt(nonce, value.encode("utf-8", "surrogatepass"), _bound(stream_id, name))
        sealed[name] = base64.b64encode(_FORMAT + nonce + secret).decode()
    return sealed


def _opened(key: bytes, stream_id: str, sealed: Mapping[str, str]) -> dict[str, str]:
    cipher = AESGCM(key)
    values = {}
    for name, text in sealed.items():
        try:
            data = base64.b64decode(text, validate=True)
            nonce, secret = data[1 : 1 + _NONCE_BYTES], data[1 + _NONCE_BYTES :]
            if data[:1] != _FORMAT:
                raise ValueError
            value = cipher.decrypt(nonce, secret, _bound(stream_id, name))
        except (InvalidTag, ValueError, binascii.Error):
            raise Unreadable(f"The sealed value {name} of {stream_id} can't be opened.") from None
        values[name] = value.decode("utf-8", "surrogatepass")
    return values


def _fingerprint(key: bytes) -> str:
    return hashlib.sha256(b"rgrid master key " + key).hexdigest()[:16]


def _bound(stream_id: str, name: str) -> bytes:
    """What a value is bound to, so that it can't be moved to another stream or name."""
    return f"{stream_id}\0{name}".encode()
