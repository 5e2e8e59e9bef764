"""A token bucket for each caller: it stops runaways, not users."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rgrid.kernel.errors import RateLimited

BUCKETS_MAX: Final = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left after a request: `reset_s` until the bucket is full again."""

    limit: int
    remaining: int
    reset_s: int


class RateLimiter:
    """`rate` requests a second, `burst` at once. Buckets of callers that were quiet longest are forgotten first."""

    def __init__(self, rate: int = 1000, burst: int = 5000, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self.burst = max(burst, 1)
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, caller: str) -> tuple[Allowance, RateLimited | None]:
        """Takes one token; the refusal when there is none."""
        now = self._clock()
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(float(self.burst), now)
            if len(self._buckets) > BUCKETS_MAX:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(caller)
            bucket.tokens = min(self.burst, bucket.tokens + max(0.0, now - bucket.filled_at) * self.rate)
            bucket.filled_at = now
        refused = None
        if bucket.tokens >= 1:
            bucket.tokens -= 1
        else:
            wait_s = max(1, math.ceil((1 - bucket.tokens) / self.rate))
            refused = RateLimited(f"More than {self.rate} requests a second.", retry_after_s=wait_s)
        reset_s = math.ceil((self.burst - bucket.tokens) / self.rate)
        return Allowance(self.burst, int(bucket.tokens), reset_s), refused
