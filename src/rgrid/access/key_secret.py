"""The secret of an API key: how it is made, and what of it may be kept."""

import hashlib
import secrets
import string
from typing import Final

HEAD: Final = "sk_live_"
PREFIX_LENGTH: Final = 12
_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_TAIL_LENGTH: Final = 43  # 256 bits in base 62


def new_secret(head: str = HEAD) -> str:
    """`sk_live_` and 43 base-62 characters from the system's secure source."""
    return head + "".join(secrets.choice(_ALPHABET) for _ in range(_TAIL_LENGTH))


def hash_of(secret: str) -> str:
    """SHA-256 in hex. Enough for a secret of 256 random bits; a password would need more."""
    return hashlib.sha256(secret.encode()).hexdigest()


def prefix_of(secret: str) -> str:
    """The first characters, by which people tell keys apart."""
    return secret[:PREFIX_LENGTH]


def equal(one: str, other: str) -> bool:
    """Whether two hashes are the same, in constant time."""
    return secrets.compare_digest(one, other)
