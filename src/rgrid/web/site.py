"""What the plumbing is given by whoever puts the service together."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from rgrid.kernel.clock import Now, now
from rgrid.web.health import Health
from rgrid.web.idempotency import Idempotency
from rgrid.web.metrics import Metrics
from rgrid.web.outage import Outage
from rgrid.web.principal import Authenticate, Principal
from rgrid.web.rate_limit import RateLimiter

BODY_MAX_BYTES: Final = 16 * 1024 * 1024


async def nobody(token: str) -> Principal | None:
    """Knows no key."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """`reached` waits until the read side includes a log position, or raises Unavailable."""

    version: str
    authenticate: Authenticate = nobody
    limiter: RateLimiter = field(default_factory=RateLimiter)
    metrics: Metrics = field(default_factory=Metrics)
    health: Health
    idempotency: Idempotency | None = None
    outage: Outage | None = None
    reached: Callable[[int], Awaitable[None]] | None = None
    body_max_bytes: int = BODY_MAX_BYTES
    cors_origins: frozenset[str] = frozenset()
    metrics_open: bool = False
    now: Now = now
