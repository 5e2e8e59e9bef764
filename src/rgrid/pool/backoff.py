"""How long to wait before the next try: growing, bounded, and different for every worker."""

import hashlib
from typing import Final

FIRST_S: Final = 0.1
LONGEST_S: Final = 5.0
DOUBLINGS_MAX: Final = 16


def delay_s(who: str, tries: int, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> float:
    """The pause after the `tries`-th failure (from 0). The jitter of ±25 % comes from a hash of who waits and how
    often it did, so that workers spread without a source of chance."""
    digest = hashlib.blake2b(f"{who}:{tries}".encode(), digest_size=4).digest()
    spread = 0.75 + int.from_bytes(digest, "big") / 2**32 / 2
    return min(first_s * 2.0 ** min(tries, DOUBLINGS_MAX), longest_s) * spread
