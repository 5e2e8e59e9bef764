"""Who is calling: credentials of a request, the principal behind them, and what a scope allows."""

import re
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Final, Literal

import msgspec

from rgrid.kernel.errors import Forbidden, Invalid, Unauthenticated

Scope = Literal["read", "run", "admin"]
ActorKind = Literal["key", "jwt", "worker", "system"]
Auth = Literal["open", "read", "run", "admin", "worker"]

_RANK: Final = {"read": 1, "run": 2, "admin": 3}
_TOKEN: Final = re.compile(rb"[!-~]{1,8192}")  # as long as a JWT with many claims; more is an attack
_OPEN_PATHS: Final = ("/api/v1/health", "/schema", "/docs")


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The caller behind valid credentials. `subject` says what a worker's token is good for (one execution)."""

    actor: str
    actor_kind: ActorKind
    scopes: tuple[Scope, ...] = ()
    key_id: str | None = None
    name: str | None = None
    expires_at: datetime | None = None
    subject: str | None = None


ANONYMOUS: Final = Principal(actor="anonymous", actor_kind="system")

Authenticate = Callable[[str], Awaitable[Principal | None]]
"""Looks up a token: an API key, a lease token or a JWT, told apart by their form. None when it doesn't count."""


def is_open(path: str) -> bool:
    """Whether a path needs no credentials. Matched on whole segments: `/docsx` is not `/docs`."""
    path = path.rstrip("/")
    return path == "" or any(path == prefix or path.startswith(prefix + "/") for prefix in _OPEN_PATHS)


def token_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The one token that a request carries. Raises Unauthenticated without one, Invalid with two that differ."""
    bearer: str | None = None
    key: str | None = None
    for name, value in headers:
        if name == b"authorization":
            bearer = _one(bearer, _bearer(value))
        elif name == b"x-api-key":
            key = _one(key, _visible(value.strip()))
    if bearer is not None and key is not None and bearer != key:
        raise Invalid("Authorization and X-API-Key carry different credentials.", code="conflicting_credentials")
    token = bearer if bearer is not None else key
    if token is None:
        raise Unauthenticated("This needs credentials: Authorization: Bearer <key>, or X-API-Key: <key>.")
    return token


def check_scope(principal: Principal, auth: Auth) -> None:
    """Raises Forbidden unless the principal may use an operation that asks for `auth`."""
    if auth == "open":
        return
    if auth == "worker":
        if principal.actor_kind == "worker" or "admin" in principal.scopes:
            return
        raise _missing("admin")
    if any(_RANK[scope] >= _RANK[auth] for scope in principal.scopes):
        return
    raise _missing(auth)


def refused() -> Unauthenticated:
    """Unknown, expired, revoked: one and the same answer, so that it tells nothing about which keys exist."""
    return Unauthenticated("The credentials are not valid.", code="credentials_invalid")


def _missing(scope: str) -> Forbidden:
    return Forbidden(f"This needs a key with the scope {scope}.", extra={"scope": scope})


def _bearer(value: bytes) -> str:
    scheme, _, rest = value.strip().partition(b" ")
    if scheme.lower() != b"bearer" or not rest.strip():
        raise _malformed()
    return _visible(rest.strip())


def _visible(token: bytes) -> str:
    if not _TOKEN.fullmatch(token):
        raise _malformed()
    return token.decode("ascii")


def _one(before: str | None, now: str) -> str:
    if before is not None and before != now:
        raise Invalid("A header with credentials comes twice, with different values.", code="conflicting_credentials")
    return now


def _malformed() -> Unauthenticated:
    return Unauthenticated("The credentials are not of the form Bearer <key>.", code="credentials_malformed")
