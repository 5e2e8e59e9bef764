"""Facts about API keys. Public: projections may import this. All keys share the stream `keyring-main`.

Events hold the SHA-256 and the first characters of a secret, never the secret itself.
"""

from datetime import datetime
from typing import Final, Literal

from rgrid.kernel.messages import Event

Scope = Literal["read", "run", "admin"]


class KeyCreated(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A new key. `secret_hash` is the SHA-256 of its secret in hex, `prefix` the secret's first characters."""

    key_id: str
    name: str
    description: str | None = None
    scopes: list[Scope]
    secret_hash: str
    prefix: str
    expires_at: datetime | None = None
    created_by: str
    created_at: datetime


class KeyRotated(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A key got a new secret. Every older one ends at `previous_valid_until`, or before when it was to end before."""

    key_id: str
    secret_hash: str
    prefix: str
    previous_valid_until: datetime
    rotated_by: str
    rotated_at: datetime


class KeyRevoked(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A key is over for good, with all of its secrets."""

    key_id: str
    revoked_by: str
    revoked_at: datetime


KeyEvent = KeyCreated | KeyRotated | KeyRevoked

TOPICS: Final[dict[str, type[Event]]] = {
    "key.created.v1": KeyCreated,
    "key.rotated.v1": KeyRotated,
    "key.revoked.v1": KeyRevoked,
}
