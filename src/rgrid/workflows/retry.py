"""Whether a failed try is followed by another one, and when. Pure: the same run, step and try give the same wait."""

import hashlib
from datetime import datetime, timedelta
from typing import Final

from rgrid.workflows.document import ErrorCategory, Outline, RetryPolicy

_DRAWN_BITS: Final = 53  # as many as a float holds exactly


def next_attempt_at(
    outline: Outline, category: ErrorCategory, *, run_id: str, attempt: int, now: datetime
) -> datetime | None:
    """When the try after `attempt` may begin; None: there is none."""
    policy = policy_of(outline)
    if policy is None or category not in policy.retry_on or attempt >= policy.max_attempts:
        return None
    return now + timedelta(seconds=wait_seconds(policy, run_id=run_id, step=outline.name, attempt=attempt))


def policy_of(outline: Outline) -> RetryPolicy | None:
    """How a step is retried: as it says, or as usual when it only says that it is."""
    return outline.retry or (RetryPolicy() if outline.on_error == "RETRY" else None)


def attempts_max(outline: Outline) -> int:
    """How many tries a step has in all."""
    policy = policy_of(outline)
    return policy.max_attempts if policy else 1


def wait_seconds(policy: RetryPolicy, *, run_id: str, step: str, attempt: int) -> float:
    """The wait after the n-th failed try: it grows, is bounded, then spread by the jitter."""
    grown = min(policy.initial_seconds * policy.multiplier ** (attempt - 1), policy.max_seconds)
    return grown * (1 + policy.jitter * (2 * _drawn(run_id, step, attempt) - 1))


def _drawn(*parts: str | int) -> float:
    """A number in [0, 1) that follows from the parts."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> (64 - _DRAWN_BITS)) / (1 << _DRAWN_BITS)
