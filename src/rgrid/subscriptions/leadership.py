"""Which subscribers this process leads: session advisory locks on one dedicated connection.

The locks go with the connection, so when this process dies, its subscribers are free for another at once.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import asyncpg

from rgrid.postgres.pool import Connection, Pool
from rgrid.subscriptions.supervision import LeadershipLost

log = logging.getLogger(__name__)

CLAIM_EVERY_S: Final = 0.5
ANSWER_WITHIN_S: Final = 5.0
LOCK_CLASS: Final = 1_919_247_972
"""The first half of the lock's key; the second is a hash of the subscriber's name and version."""

_CLAIM = "select key from unnest($2::text[]) as key where pg_try_advisory_lock($1, hashtext(key))"
_KEEPALIVE = (
    "select set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '2', false),"
    " set_config('tcp_keepalives_count', '3', false)"
)


class Leadership:
    """Claims each key as soon as it is free and keeps it while the connection lives."""

    def __init__(
        self,
        pool: Pool,
        keys: Sequence[str],
        listeners: dict[str, Callable[[str], None]],
        on_lost: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._keys = list(keys)
        self._listeners = listeners
        self._on_lost = on_lost
        self._held: dict[str, asyncio.Event] = {key: asyncio.Event() for key in keys}

    def holds(self, key: str) -> bool:
        return self._held[key].is_set()

    async def wait(self, key: str) -> None:
        """Returns when this process leads `key`."""
        await self._held[key].wait()

    async def keep(self) -> None:
        """Holds one connection for ever; ends with an error when it is lost, and every leadership with it."""
        broken = asyncio.Event()

        def closed(_: object) -> None:
            self._lose()
            broken.set()

        def notified(_: object, __: int, channel: str, payload: Any) -> None:
            self._listeners[channel](str(payload))

        async with self._pool.acquire() as conn:
            conn.add_termination_listener(closed)
            try:
                await conn.fetch(_KEEPALIVE)
                for channel in self._listeners:
                    await conn.add_listener(channel, notified)
                await self._claim_for_ever(conn, broken)
            finally:
                self._lose()
                with suppress(asyncpg.InterfaceError):  # it is gone already
                    # Closed rather than given back: nothing of a session full of locks and listeners may survive.
                    conn.remove_termination_listener(closed)
                    conn.terminate()

    async def _claim_for_ever(self, conn: Connection, broken: asyncio.Event) -> None:
        while not broken.is_set():
            free = [key for key in self._keys if not self.holds(key)]
            # Asked even when all are held: an answer proves that the session, and so the leadership, is alive.
            for row in await conn.fetch(_CLAIM, LOCK_CLASS, free, timeout=ANSWER_WITHIN_S):
                self._held[row["key"]].set()
            try:
                async with asyncio.timeout(CLAIM_EVERY_S):
                    await broken.wait()
            except TimeoutError:
                continue
        raise LeadershipLost("the connection that holds the leadership was closed")

    def _lose(self) -> None:
        for held in self._held.values():
            held.clear()
        self._on_lost()
