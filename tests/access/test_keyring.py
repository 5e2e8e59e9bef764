"""The keyring: what may happen to API keys, and that an admin key that works is never the last to go."""

from datetime import timedelta
from typing import Any

from given import NOW, Given, given
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from rgrid.access.commands import CreateFirstAdminKey, CreateKey, RevokeKey, RotateKey
from rgrid.access.events import KeyCreated, KeyRevoked, KeyRotated
from rgrid.access.keyring import DECIDER
from rgrid.kernel.errors import RgridError
from rgrid.kernel.messages import Command

DAY = timedelta(days=1)


def create(key_id: str = "key_1", scopes: Any = ("admin",), **changes: Any) -> CreateKey:
    asked = {"name": "ci", "secret_hash": f"hash of {key_id}", "prefix": "sk_live_abcd", "created_by": "key:key_0"}
    return CreateKey(key_id=key_id, scopes=list(scopes), **(asked | changes))


def first(key_id: str = "key_1", secret_hash: str = "hash of the first") -> CreateFirstAdminKey:
    return CreateFirstAdminKey(key_id=key_id, secret_hash=secret_hash, prefix="sk_live_abcd")


def rotate(key_id: str = "key_1", grace_s: int = 3600) -> RotateKey:
    return RotateKey(
        key_id=key_id, secret_hash="another hash", prefix="sk_live_efgh", grace_s=grace_s, rotated_by="key:key_0"
    )


def revoke(key_id: str = "key_1", expected_version: int | None = None) -> RevokeKey:
    return RevokeKey(key_id=key_id, revoked_by="key:key_0", expected_version=expected_version)


def keys(*commands: Command) -> Given:
    ring = given(DECIDER)
    for command in commands:
        ring = ring.when(command).then(KeyCreated)
    return ring


def test_a_key_is_created_with_the_hash_of_its_secret() -> None:
    given(DECIDER).when(create(scopes=["run", "read"], description="for the build")).then(
        KeyCreated(
            key_id="key_1",
            name="ci",
            description="for the build",
            scopes=["run", "read"],
            secret_hash="hash of key_1",
            prefix="sk_live_abcd",
            created_by="key:key_0",
            created_at=NOW,
        )
    )


def test_a_key_cannot_be_created_expired() -> None:
    given(DECIDER).when(create(expires_at=NOW)).then_refused("past")


def test_creating_the_same_key_again_changes_nothing() -> None:
    keys(create()).when(create()).then_nothing()


def test_rotating_gives_a_new_secret_and_ends_the_old_one_after_the_grace() -> None:
    keys(create()).when(rotate(grace_s=60)).then(
        KeyRotated(
            key_id="key_1",
            secret_hash="another hash",
            prefix="sk_live_efgh",
            previous_valid_until=NOW + timedelta(seconds=60),
            rotated_by="key:key_0",
            rotated_at=NOW,
        )
    )


def test_a_revoked_or_expired_key_cannot_be_rotated() -> None:
    revoked = keys(create("key_1"), create("key_2")).when(revoke("key_1")).after
    assert revoked.when(rotate("key_1")).then_refused("revoked").extra == {"current_status": "revoked"}
    expiring = keys(create(expires_at=NOW + DAY))
    expiring.when(rotate(), NOW + timedelta(hours=23)).then(KeyRotated)
    assert expiring.when(rotate(), NOW + DAY).then_refused("expired").extra == {"current_status": "expired"}


def test_an_unknown_key_is_not_found() -> None:
    given(DECIDER).when(rotate("key_9")).then_refused("not_found")
    given(DECIDER).when(revoke("key_9")).then_refused("not_found")


def test_a_key_is_revoked_once() -> None:
    ring = keys(create("key_1"), create("key_2", ["read"]))
    gone = ring.when(revoke("key_2")).then(KeyRevoked(key_id="key_2", revoked_by="key:key_0", revoked_at=NOW))
    gone.when(revoke("key_2")).then_nothing()


def test_the_last_admin_key_that_works_cannot_be_revoked() -> None:
    keys(create("key_1")).when(revoke("key_1")).then_refused("last_admin_key")
    keys(create("key_1"), create("key_2", ["run"])).when(revoke("key_1")).then_refused("last_admin_key")
    two = keys(create("key_1"), create("key_2"))
    two.when(revoke("key_1")).then(KeyRevoked).when(revoke("key_2")).then_refused("last_admin_key")


def test_an_expired_admin_key_does_not_count_as_one_that_works() -> None:
    ring = keys(create("key_1"), create("key_2", expires_at=NOW + DAY))
    ring.when(revoke("key_1"), NOW + timedelta(hours=1)).then(KeyRevoked)
    ring.when(revoke("key_1"), NOW + DAY).then_refused("last_admin_key")
    ring.when(revoke("key_2"), NOW + DAY).then(KeyRevoked)


def test_a_version_that_is_not_the_keys_own_is_refused() -> None:
    ring = keys(create("key_1"), create("key_2")).when(rotate("key_2")).after
    ring.when(revoke("key_2", expected_version=1)).then_refused("version_mismatch")
    ring.when(revoke("key_1", expected_version=1)).then(KeyRevoked)
    ring.when(revoke("key_2", expected_version=2)).then(KeyRevoked)


def test_the_first_admin_key_is_made_once() -> None:
    ring = given(DECIDER).when(first()).then(KeyCreated)
    ring.when(first()).then_nothing()
    ring.when(first("key_2", "another")).then_nothing()


def test_an_admin_key_is_made_again_when_none_works() -> None:
    ring = keys(create(expires_at=NOW + DAY), create("key_2", ["run"]))
    ring.when(first("key_3"), NOW).then_nothing()
    ring.when(first("key_3"), NOW + DAY).then(KeyCreated)


def test_a_first_secret_that_is_over_does_not_come_back() -> None:
    ring = given(DECIDER).when(first()).after.when(create("key_2", expires_at=NOW + DAY)).after
    ring = ring.when(revoke("key_1")).then(KeyRevoked)
    ring.when(first("key_3"), NOW + DAY).then_refused("secret_reused")
    ring.when(first("key_3", "another"), NOW + DAY).then(KeyCreated)


IDS = st.sampled_from(["key_1", "key_2", "key_3"])
SCOPES = st.lists(st.sampled_from(["read", "run", "admin"]), min_size=1, max_size=3)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(create, IDS, SCOPES, expires_at=st.none() | st.just(NOW + 30 * DAY)),
    st.builds(rotate, IDS),
    st.builds(revoke, IDS),
)


@settings(max_examples=200, deadline=None)
@for_all(st.lists(st.tuples(COMMANDS, st.integers(0, 9)), max_size=20))
def test_revoking_never_leaves_the_grid_without_an_admin_key(steps: list[tuple[Any, int]]) -> None:
    state, now = DECIDER.initial, NOW
    state = DECIDER.fold(state, DECIDER.decide(first("key_0"), state, now))
    for command, days in steps:
        now += days * DAY
        working = _admins(state, now)
        try:
            state = DECIDER.fold(state, DECIDER.decide(command, state, now))
        except RgridError:
            continue
        assert _admins(state, now) or not working, command


def _admins(state: Any, now: Any) -> list[str]:
    return [
        key_id for key_id, key in state.keys.items() if "admin" in key.scopes and key.standing(now) == "active"
    ]  # fmt: skip
