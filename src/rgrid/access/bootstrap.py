"""The first admin key of an installation."""

from typing import Final

from rgrid.access import key_secret, keyring
from rgrid.access.commands import CreateFirstAdminKey
from rgrid.eventstore.handle import Handler
from rgrid.kernel.errors import Invalid
from rgrid.kernel.ids import new_command_id, new_id
from rgrid.kernel.messages import Cause

SECRET_LENGTH_MIN: Final = 32
SECRET_LENGTH_MAX: Final = 256


async def ensure_admin_key(handler: Handler, bootstrap_key: str | None) -> str | None:
    """Make sure that an admin key works. Returns the secret of the key that was made for it (the given one, or a new
    one), None when there was one already. Raises Invalid for a given one that is no good."""
    if bootstrap_key is not None:
        check_secret(bootstrap_key)
    secret = bootstrap_key or key_secret.new_secret()
    command = CreateFirstAdminKey(
        key_id=new_id("key"), secret_hash=key_secret.hash_of(secret), prefix=key_secret.prefix_of(secret)
    )
    cause = Cause(actor="system", command_id=new_command_id())
    handled = await handler.handle(keyring.DECIDER, keyring.ENTITY_ID, command, cause)
    return secret if handled.events else None


def check_secret(secret: str) -> None:
    """Whether a secret that somebody chose can be a key. The message never repeats it."""
    visible = all("\x21" <= character <= "\x7e" for character in secret)
    if not visible or not SECRET_LENGTH_MIN <= len(secret) <= SECRET_LENGTH_MAX:
        raise Invalid(
            f"RGRID_BOOTSTRAP_KEY must be {SECRET_LENGTH_MIN} to {SECRET_LENGTH_MAX} visible ASCII characters"
            f" (keys that rgrid makes are {key_secret.HEAD} and 43 letters and digits).",
            code="bad_setting",
        )
