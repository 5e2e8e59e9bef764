"""What may be asked of the keyring. Public: drivers may import this. `expected_version` counts one key's events."""

from datetime import datetime

from rgrid.access.events import Scope
from rgrid.kernel.messages import Command


class CreateKey(Command, frozen=True, kw_only=True):
    """A new key under a new id; its secret was made by the caller and stays there."""

    key_id: str
    name: str
    description: str | None = None
    scopes: list[Scope]
    secret_hash: str
    prefix: str
    expires_at: datetime | None = None
    created_by: str


class CreateFirstAdminKey(Command, frozen=True, kw_only=True):
    """A key for the administrator, unless there is one that works."""

    key_id: str
    secret_hash: str
    prefix: str


class RotateKey(Command, frozen=True, kw_only=True):
    """A new secret for the same key; the old one goes on for `grace_s`."""

    key_id: str
    secret_hash: str
    prefix: str
    grace_s: int
    rotated_by: str


class RevokeKey(Command, frozen=True, kw_only=True):
    """An end to a key, at once. The last admin key that works can't be revoked."""

    key_id: str
    revoked_by: str
    expected_version: int | None = None


KeyCommand = CreateKey | CreateFirstAdminKey | RotateKey | RevokeKey
