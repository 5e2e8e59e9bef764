"""When keys were last used: noted in memory at each request, written for all of them together."""

from datetime import datetime
from typing import Final

from rgrid.kernel.clock import Now
from rgrid.postgres.pool import Pool

WRITE_EVERY_S: Final = 15
"""How often whoever runs the service should write, so that `last_used_at` is exact to a minute."""
PENDING_MAX: Final = 10_000


class KeyUses:
    """The uses of this process that are not yet in the database."""

    def __init__(self, pool: Pool, now: Now) -> None:
        self._pool = pool
        self._now = now
        self._pending: dict[str, datetime] = {}

    def note(self, key_id: str) -> None:
        """The key was used now. With too many keys at once some uses go unnoted until the next write."""
        if key_id in self._pending or len(self._pending) < PENDING_MAX:
            self._pending[key_id] = self._now()

    async def write(self) -> None:
        """Bring the database up to date, in one statement. What can't be written stays for the next time."""
        writing, self._pending = self._pending, {}
        if not writing:
            return
        ordered = sorted(writing.items())  # in one order everywhere, so that two processes never wait for each other
        try:
            await self._pool.execute(
                "insert into rgrid.key_uses as u (key_id, last_used_at)"
                " select * from unnest($1::text[], $2::timestamptz[])"
                " on conflict (key_id) do update set last_used_at = greatest(u.last_used_at, excluded.last_used_at)",
                [key_id for key_id, _ in ordered],
                [used_at for _, used_at in ordered],
            )
        except BaseException:
            self._pending = writing | self._pending
            raise
