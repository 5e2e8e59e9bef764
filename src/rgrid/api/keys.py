"""API keys over HTTP: create, list, look at, rotate, revoke. A secret is shown once, by create and rotate."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from projections import keys
from rgrid.access import key_secret
from rgrid.access.commands import CreateKey, RevokeKey, RotateKey
from rgrid.access.events import KeyRotated
from rgrid.access.keyring import DECIDER, ENTITY_ID
from rgrid.api import lists
from rgrid.api.authenticate import Authenticator
from rgrid.api.grid import Grid
from rgrid.kernel.ids import is_id, new_id
from rgrid.web.conditional import ANY_VERSION
from rgrid.web.decoding import check_moment
from rgrid.web.operation import ActionResponse, Call, NoQuery, Operation, Reply, missing
from rgrid.web.pages import Page
from rgrid.web.principal import Scope

KeyStatus = Literal["active", "rotating", "expired", "revoked"]
_TAGS = ("access",)


class KeyCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new key and what it may do. Scopes nest: admin includes run, run includes read."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=3)]
    description: Annotated[str, Meta(max_length=500)] | None = None
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None

    def __post_init__(self) -> None:
        check_moment(self.expires_at)


class KeyRotate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the old secret goes on."""

    grace_seconds: Annotated[int, Meta(ge=0, le=604_800)] = 3600


class KeySummary(msgspec.Struct, kw_only=True):
    """A key without its secret; `prefix` is how the secret begins."""

    id: str
    name: str
    description: str | None
    prefix: str
    scopes: list[Scope]
    status: KeyStatus
    created_at: datetime
    created_by: str | None
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


class KeyCreated(ActionResponse, kw_only=True):
    """A key with its secret, which is never shown again."""

    key: str | None
    name: str
    prefix: str
    scopes: list[Scope]
    expires_at: datetime | None
    previous_valid_until: datetime | None


class KeyFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Narrows the list of keys."""

    status: KeyStatus | None = None


class Keys:
    """The controllers. Each sends one command or runs one query."""

    def __init__(self, grid: Grid, authenticator: Authenticator) -> None:
        self._grid = grid
        self._authenticator = authenticator

    async def listed(self, call: Call[KeyFilter, None]) -> Reply:
        order = (keys.KEYS[call.page.sort], keys.KEYS["key_id"])
        rows = await keys.page(self._grid.pool, call.query.status, lists.window(call.page, order))
        return Reply(200, lists.page(rows, call.page, order, _summary))

    async def one(self, call: Call[NoQuery, None]) -> Reply:
        row = await self._row(call.path["key_id"])
        return Reply(200, _summary(row), etag=row["changes"])

    async def create(self, call: Call[NoQuery, KeyCreate]) -> Reply:
        key_id, secret, asked = new_id("key"), key_secret.new_secret(), call.body
        expires_at = None if asked.expires_at is None else asked.expires_at.astimezone(UTC)
        command = CreateKey(
            key_id=key_id,
            name=asked.name,
            description=asked.description,
            scopes=asked.scopes,
            secret_hash=key_secret.hash_of(secret),
            prefix=key_secret.prefix_of(secret),
            expires_at=expires_at,
            created_by=call.actor.actor,
        )
        body = KeyCreated(
            id=key_id,
            status="active",
            message="Keep the key now: it is not shown again.",
            key=secret,
            name=asked.name,
            prefix=command.prefix,
            scopes=asked.scopes,
            expires_at=expires_at,
            previous_valid_until=None,
        )
        reply = _shown_once(201, body, location=f"/api/v1/keys/{key_id}")
        handled = await self._grid.handler.handle(
            DECIDER, ENTITY_ID, command, call.cause(), riders=lambda _state, _events, _version: call.riders(reply)
        )
        reply.position = handled.position
        return reply

    async def rotate(self, call: Call[NoQuery, KeyRotate | None]) -> Reply:
        row = await self._row(call.path["key_id"])
        secret, asked = key_secret.new_secret(), call.body or KeyRotate()
        command = RotateKey(
            key_id=row["key_id"],
            secret_hash=key_secret.hash_of(secret),
            prefix=key_secret.prefix_of(secret),
            grace_s=asked.grace_seconds,
            rotated_by=call.actor.actor,
        )

        def reply_of(event: KeyRotated) -> Reply:
            body = KeyCreated(
                id=event.key_id,
                status="rotating" if asked.grace_seconds else "active",
                message="Keep the key now: it is not shown again.",
                key=secret,
                name=row["name"],
                prefix=event.prefix,
                scopes=row["scopes"],
                expires_at=row["expires_at"],
                previous_valid_until=event.previous_valid_until,
            )
            return _shown_once(200, body)

        handled = await self._grid.handler.handle(
            DECIDER,
            ENTITY_ID,
            command,
            call.cause(),
            riders=lambda _state, events, _version: call.riders(reply_of(_rotation(events))),
        )
        self._authenticator.forget()
        reply = reply_of(_rotation(handled.events))
        reply.position = handled.position
        return reply

    async def revoke(self, call: Call[NoQuery, None]) -> Reply:
        key_id = call.path["key_id"]
        await self._row(key_id)
        expected = None if call.if_match == ANY_VERSION else call.if_match
        command = RevokeKey(key_id=key_id, revoked_by=call.actor.actor, expected_version=expected)
        handled = await self._grid.handler.handle(DECIDER, ENTITY_ID, command, call.cause())
        self._authenticator.forget()
        message = "The key opens nothing any more." if handled.events else "The key was revoked before."
        return Reply(
            200, ActionResponse(id=key_id, status="revoked", message=message), position=handled.position
        )  # fmt: skip

    async def _row(self, key_id: str) -> Mapping[str, Any]:
        row = await keys.get(self._grid.pool, key_id) if is_id("key", key_id) else None
        if row is None:
            raise missing("Key", key_id)
        return row


def _rotation(events: Any) -> KeyRotated:
    (event,) = events
    assert isinstance(event, KeyRotated)
    return event


def _shown_once(status: int, body: KeyCreated, location: str | None = None) -> Reply:
    """A repeated request gets the same answer without the secret."""
    return Reply(status, body, location=location, stored=msgspec.structs.replace(body, key=None))


def _summary(row: Mapping[str, Any]) -> KeySummary:
    return KeySummary(
        id=row["key_id"],
        name=row["name"],
        description=row["description"],
        prefix=row["prefix"],
        scopes=row["scopes"],
        status=row["status"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        last_used_at=row["last_used_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )


def operations(grid: Grid, authenticator: Authenticator) -> list[Operation]:
    controllers = Keys(grid, authenticator)
    return [
        Operation(
            method="GET",
            path="/api/v1/keys",
            auth="admin",
            handler=controllers.listed,
            query=KeyFilter,
            ok={200: Page[KeySummary]},
            flags=frozenset({"page"}),
            sort=("created_at", "name", "last_used_at"),
            tags=_TAGS,
            summary="List the API keys.",
        ),
        Operation(
            method="POST",
            path="/api/v1/keys",
            auth="admin",
            handler=controllers.create,
            body=KeyCreate,
            ok={201: KeyCreated},
            flags=frozenset({"idem", "mutates"}),
            tags=_TAGS,
            summary="Create an API key.",
        ),
        Operation(
            method="GET",
            path="/api/v1/keys/{key_id}",
            auth="admin",
            handler=controllers.one,
            ok={200: KeySummary},
            flags=frozenset({"etag"}),
            tags=_TAGS,
            summary="Show one API key.",
        ),
        Operation(
            method="DELETE",
            path="/api/v1/keys/{key_id}",
            auth="admin",
            handler=controllers.revoke,
            ok={200: ActionResponse},
            flags=frozenset({"if_match", "mutates"}),
            errors=(409,),
            tags=_TAGS,
            summary="Revoke an API key at once.",
        ),
        Operation(
            method="POST",
            path="/api/v1/keys/{key_id}/rotate",
            auth="admin",
            handler=controllers.rotate,
            body=KeyRotate,
            body_optional=True,
            ok={200: KeyCreated},
            flags=frozenset({"idem", "mutates"}),
            tags=_TAGS,
            summary="Give an API key a new secret; the old one goes on for a while.",
        ),
    ]
