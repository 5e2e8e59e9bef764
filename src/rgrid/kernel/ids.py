"""Ids: a prefix and a ULID (26 characters of Crockford base 32, time-ordered, growing within a process)."""

import hashlib
import os
import re
import threading
import time
import uuid
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ULID: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_PAIRS: Final = [first + second for first in ALPHABET for second in ALPHABET]  # two characters at a time
_RANDOM_BITS: Final = 80
_lock = threading.Lock()
_last = 0


def new_ulid() -> str:
    """A new ULID, greater than every one this process made before (https://github.com/ulid/spec)."""
    global _last  # the last value is what makes ids grow
    with _lock:
        fresh = (time.time_ns() // 1_000_000) << _RANDOM_BITS | int.from_bytes(os.urandom(10), "big")
        _last = fresh if fresh > _last else _last + 1
        return encode_ulid(_last)


def encode_ulid(value: int) -> str:
    """The 26 characters of a 128-bit number."""
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])


def new_id(prefix: str) -> str:
    """A new id such as `exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X`; `prefix` comes without the underscore."""
    return f"{prefix}_{new_ulid()}"


def is_id(prefix: str, text: str) -> bool:
    """Whether `text` has the form of an id of this kind."""
    head, _, tail = text.partition("_")
    return head == prefix and _ULID.fullmatch(tail) is not None


def derived_id(prefix: str, moment_ms: int, *parts: str | int) -> str:
    """An id that is the same whenever it is made from the same moment and parts (log lines have such ids)."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=10).digest()
    # A ULID has no place for a time before 1970.
    return f"{prefix}_{encode_ulid(max(0, moment_ms) << _RANDOM_BITS | int.from_bytes(digest, 'big'))}"


def command_id(*parts: str | int) -> uuid.UUID:
    """The id of a command that a process manager sends: equal parts, equal command, so a redelivery is seen."""
    return uuid.uuid5(uuid.NAMESPACE_URL, "rgrid:" + "\0".join(map(str, parts)))


def new_command_id() -> uuid.UUID:
    """The id of a command that a caller sends for the first time."""
    return uuid.uuid4()
