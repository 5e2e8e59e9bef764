"""The keyring aggregate: all API keys together, so that "never without an admin key" is one decision.

A key is active until it is revoked or its time is over. Stream `keyring-main`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

from rgrid.access.commands import CreateFirstAdminKey, CreateKey, KeyCommand, RevokeKey, RotateKey
from rgrid.access.events import KeyCreated, KeyEvent, KeyRevoked, KeyRotated, Scope
from rgrid.kernel.decider import Decider
from rgrid.kernel.errors import Invalid, NotFound, Rejected, StaleVersion

ENTITY_ID: Final = "main"
KEYS_MAX: Final = 10_000
FIRST_ADMIN_NAME: Final = "admin"
SYSTEM: Final = "system"


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """What decisions need to know of one key. `version` counts its events."""

    scopes: tuple[Scope, ...]
    expires_at: datetime | None
    revoked: bool = False
    version: int = 1

    def standing(self, now: datetime) -> Literal["active", "expired", "revoked"]:
        if self.revoked:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


class Keyring(msgspec.Struct, frozen=True, kw_only=True):
    """Every key by its id. `first_hashes` are those of the secrets that an operator may have chosen."""

    keys: Mapping[str, Key] = {}
    first_hashes: frozenset[str] = frozenset()


INITIAL: Final = Keyring()


def decide(command: KeyCommand, state: Keyring, now: datetime) -> Sequence[KeyEvent]:
    """The events that follow, `[]` when it is so already."""
    match command:
        case CreateKey():
            return _create(command, state, now)
        case CreateFirstAdminKey():
            return _create_first(command, state, now)
        case RotateKey():
            return _rotate(command, state, now)
        case RevokeKey():
            return _revoke(command, state, now)


def _create(command: CreateKey, state: Keyring, now: datetime) -> Sequence[KeyEvent]:
    if command.key_id in state.keys:
        return []
    if command.expires_at is not None and command.expires_at <= now:
        raise Invalid("A key can't expire in the past.", fields=[("expires_at", "Must be in the future.")])
    if len(state.keys) >= KEYS_MAX:
        raise Rejected(f"There are {KEYS_MAX} keys already.", code="too_many_keys")
    return [
        KeyCreated(
            key_id=command.key_id,
            name=command.name,
            description=command.description,
            scopes=command.scopes,
            secret_hash=command.secret_hash,
            prefix=command.prefix,
            expires_at=command.expires_at,
            created_by=command.created_by,
            created_at=now,
        )
    ]


def _create_first(command: CreateFirstAdminKey, state: Keyring, now: datetime) -> Sequence[KeyEvent]:
    if _active_admins(state, now):
        return []
    if command.secret_hash in state.first_hashes:
        raise Rejected("This secret was an admin key before and is over; choose another.", code="secret_reused")
    return _create(
        CreateKey(
            key_id=command.key_id,
            name=FIRST_ADMIN_NAME,
            scopes=["admin"],
            secret_hash=command.secret_hash,
            prefix=command.prefix,
            created_by=SYSTEM,
        ),
        state,
        now,
    )


def _rotate(command: RotateKey, state: Keyring, now: datetime) -> Sequence[KeyEvent]:
    key = _known(command.key_id, state)
    if (standing := key.standing(now)) != "active":
        raise Rejected(f"Key {command.key_id} is {standing} and can't be rotated.", extra={"current_status": standing})
    return [
        KeyRotated(
            key_id=command.key_id,
            secret_hash=command.secret_hash,
            prefix=command.prefix,
            previous_valid_until=now + timedelta(seconds=command.grace_s),
            rotated_by=command.rotated_by,
            rotated_at=now,
        )
    ]


def _revoke(command: RevokeKey, state: Keyring, now: datetime) -> Sequence[KeyEvent]:
    key = _known(command.key_id, state)
    if command.expected_version is not None and command.expected_version != key.version:
        raise StaleVersion(f"Key {command.key_id} is at version {key.version}, not {command.expected_version}.")
    if key.revoked:
        return []
    if _active_admins(state, now) == {command.key_id}:
        raise Rejected(
            f"Key {command.key_id} is the last admin key that works; make another one first.", code="last_admin_key"
        )
    return [KeyRevoked(key_id=command.key_id, revoked_by=command.revoked_by, revoked_at=now)]


def _known(key_id: str, state: Keyring) -> Key:
    key = state.keys.get(key_id)
    if key is None:
        raise NotFound(f"Key not found: {key_id}")
    return key


def _active_admins(state: Keyring, now: datetime) -> set[str]:
    return {
        key_id for key_id, key in state.keys.items() if "admin" in key.scopes and key.standing(now) == "active"
    }  # fmt: skip


def evolve(state: Keyring, event: KeyEvent) -> Keyring:
    """The state after a recorded event."""
    match event:
        case KeyCreated():
            key = Key(scopes=tuple(event.scopes), expires_at=event.expires_at)
            chosen = {event.secret_hash} if event.created_by == SYSTEM else set()
            return Keyring(keys={**state.keys, event.key_id: key}, first_hashes=state.first_hashes | chosen)
        case KeyRotated():
            return _changed(state, event.key_id, revoked=False)
        case KeyRevoked():
            return _changed(state, event.key_id, revoked=True)


def _changed(state: Keyring, key_id: str, *, revoked: bool) -> Keyring:
    key = state.keys[key_id]
    changed = msgspec.structs.replace(key, revoked=revoked, version=key.version + 1)
    return msgspec.structs.replace(state, keys={**state.keys, key_id: changed})


DECIDER: Final = Decider[KeyCommand, Keyring, KeyEvent](
    noun="keyring", initial=INITIAL, decide=decide, evolve=evolve
)  # fmt: skip
