"""The hash of a set of inputs: which names hold which contents. The service and its clients reckon it alike."""

import hashlib
from collections.abc import Iterable


def input_hash(files: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over the sorted lines `<sha256> <name>` of (name, sha256) pairs, each ended by a newline. A name holds no
    newline and a hash has one length, so no two sets have one text."""
    lines = sorted(f"{sha256} {name}\n" for name, sha256 in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
