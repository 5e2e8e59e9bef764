"""Which API keys are there, and whose is a secret? Inline: a revoked key must not open another request."""

from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from typing import Any, Final

import asyncpg
import msgspec

from rgrid.access.events import KeyCreated, KeyRevoked, KeyRotated, Scope
from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.paging import Key, Queryable, Rows, Where, Window, select
from rgrid.subscriptions.projection import Projection

KEYS: Final = {
    "created_at": Key("created_at", "moment"),
    "name": Key("name"),
    "last_used_at": Key("last_used_at", "moment", nullable=True),
    "key_id": Key("key_id"),
}
_COLUMNS: Final = (
    "key_id, name, description, prefix, scopes, status, created_at, created_by, last_used_at, expires_at, revoked_at,"
    " rotating_until, changes"
)
# Time alone makes a key expired, and ends a rotation.
_SEEN: Final = (
    "(select k.*, u.last_used_at,"
    " case when k.revoked_at is not null then 'revoked'"
    " when k.expires_at <= clock_timestamp() then 'expired'"
    " when k.rotating_until > clock_timestamp() then 'rotating'"
    " else 'active' end as status"
    " from api_keys k left join rgrid.key_uses u using (key_id)) as seen"
)


async def created(connection: asyncpg.Connection, event: KeyCreated, at: AnyRecorded) -> None:
    await connection.execute(
        "insert into api_keys (key_id, name, description, scopes, prefix, created_at, created_by, expires_at, changes)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8, 1)",
        event.key_id,
        event.name,
        event.description,
        event.scopes,
        event.prefix,
        event.created_at,
        event.created_by,
        event.expires_at,
    )
    await _add_secret(connection, event.secret_hash, event.key_id)


async def rotated(connection: asyncpg.Connection, event: KeyRotated, at: AnyRecorded) -> None:
    await connection.execute(
        "update api_keys set prefix = $2, rotating_until = $3, changes = changes + 1 where key_id = $1",
        event.key_id,
        event.prefix,
        event.previous_valid_until,
    )
    # No older secret outlives the grace of a newer rotation, and none gains time by it.
    await connection.execute(
        "update api_key_secrets set valid_until = least(coalesce(valid_until, 'infinity'), $2) where key_id = $1",
        event.key_id,
        event.previous_valid_until,
    )
    await connection.execute(
        "delete from api_key_secrets where key_id = $1 and valid_until <= $2", event.key_id, event.rotated_at
    )
    await _add_secret(connection, event.secret_hash, event.key_id)


async def revoked(connection: asyncpg.Connection, event: KeyRevoked, at: AnyRecorded) -> None:
    await connection.execute(
        "update api_keys set revoked_at = $2, changes = changes + 1 where key_id = $1", event.key_id, event.revoked_at
    )
    await connection.execute("delete from api_key_secrets where key_id = $1", event.key_id)


async def _add_secret(connection: asyncpg.Connection, secret_hash: str, key_id: str) -> None:
    await connection.execute(
        "insert into api_key_secrets (secret_hash, key_id) values ($1, $2)", secret_hash, key_id
    )  # fmt: skip


PROJECTION: Final = Projection(
    name="keys",
    version=1,
    on={KeyCreated: created, KeyRotated: rotated, KeyRevoked: revoked},
    ddl=files("projections") / "keys.sql",
    inline=True,
)


class FoundKey(msgspec.Struct, frozen=True, kw_only=True):
    """The key behind a secret. It counts until `ends_at`, for ever when that is None."""

    key_id: str
    name: str
    scopes: tuple[Scope, ...]
    secret_hash: str
    expires_at: datetime | None
    ends_at: datetime | None


async def find_by_hash(connection: Queryable, secret_hash: str) -> FoundKey | None:
    """Whose secret this is, None for an unknown and for a revoked one."""
    row = await connection.fetchrow(
        "select k.key_id, k.name, k.scopes, s.secret_hash, k.expires_at, least(k.expires_at, s.valid_until) as ends_at"
        " from api_key_secrets s join api_keys k using (key_id) where s.secret_hash = $1",
        secret_hash,
    )
    return None if row is None else FoundKey(**{**dict(row), "scopes": tuple(row["scopes"])})


async def page(connection: Queryable, status: str | None, window: Window) -> Rows:
    """Rows of the columns that `get` answers with."""
    where = Where()
    where.equal("status", status)
    return await select(connection, columns=_COLUMNS, source=_SEEN, where=where, window=window)


async def get(connection: Queryable, key_id: str) -> Mapping[str, Any] | None:
    """One key; `changes` is its version."""
    row = await connection.fetchrow(f"select {_COLUMNS} from {_SEEN} where key_id = $1", key_id)  # noqa: S608
    return None if row is None else dict(row)


async def counts(connection: Queryable, key_id: str) -> bool:
    """Whether the key still opens anything."""
    return bool(
        await connection.fetchval(
            f"select true from {_SEEN} where key_id = $1 and status in ('active', 'rotating')",  # noqa: S608
            key_id,
        )
    )
