"""From a token to its principal: API keys by the hash of their secret, lease tokens by their signature.

A key that was found is remembered for a moment, so that a busy caller costs no query per request; a revocation is
seen at once by the process that did it, and within FRESH_MS by every other.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from projections import keys
from rgrid.access import key_secret
from rgrid.access.key_uses import KeyUses
from rgrid.api.lease_tokens import LeaseTokens
from rgrid.kernel.clock import Now, monotonic_ms
from rgrid.postgres.pool import Pool
from rgrid.web.principal import Principal

FRESH_MS: Final = 2_000
REMEMBERED_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Remembered:
    principal: Principal
    key_id: str
    ends_at: datetime | None
    looked_at_ms: int


class Authenticator:
    """The `Authenticate` of the web plumbing."""

    def __init__(
        self,
        pool: Pool,
        uses: KeyUses,
        lease_tokens: LeaseTokens,
        now: Now,
        ticks_ms: Callable[[], int] = monotonic_ms,
    ) -> None:
        self._pool = pool
        self._uses = uses
        self._lease_tokens = lease_tokens
        self._now = now
        self._ticks_ms = ticks_ms
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()
        self._forgotten = 0

    async def __call__(self, token: str) -> Principal | None:
        """Who shows this token, None when it doesn't count."""
        worker = self._lease_tokens.principal(token)
        if worker is not None:
            return worker
        secret_hash = key_secret.hash_of(token)
        known = self._remembered.get(secret_hash)
        if known is None or self._ticks_ms() - known.looked_at_ms >= FRESH_MS:
            known = await self._look_up(secret_hash)
        if known is None or (known.ends_at is not None and known.ends_at <= self._now()):
            return None
        self._uses.note(known.key_id)
        return known.principal

    async def still_counts(self, principal: Principal) -> bool:
        """Whether somebody who was let in earlier would be let in now: for connections that stay open."""
        if principal.expires_at is not None and principal.expires_at <= self._now():
            return False
        return principal.key_id is None or await keys.counts(self._pool, principal.key_id)

    def forget(self) -> None:
        """Keys have changed: ask the database again, whoever comes."""
        self._forgotten += 1
        self._remembered.clear()

    async def _look_up(self, secret_hash: str) -> _Remembered | None:
        # Counted from before the question: the answer may be as old as that.
        looked_at_ms, forgotten = self._ticks_ms(), self._forgotten
        found = await keys.find_by_hash(self._pool, secret_hash)
        if found is None or not key_secret.equal(found.secret_hash, secret_hash):
            self._remembered.pop(secret_hash, None)
            return None
        principal = Principal(
            actor=f"key:{found.key_id}",
            actor_kind="key",
            scopes=found.scopes,
            key_id=found.key_id,
            name=found.name,
            expires_at=found.expires_at,
        )
        known = _Remembered(principal, found.key_id, found.ends_at, looked_at_ms)
        if forgotten == self._forgotten:
            self._remembered[secret_hash] = known
            self._remembered.move_to_end(secret_hash)
            if len(self._remembered) > REMEMBERED_MAX:
                self._remembered.popitem(last=False)
        return known
