"""Leadership over a name by a Postgres session lock: at most one process leads, and its death frees the name.

All names of a process share one connection, because each session costs the server some megabytes. Who leads must
still commit effect and checkpoint together: a session can end a moment before its process notices.
"""

import asyncio
import hashlib
from typing import Final

import asyncpg

from rgrid.postgres.pool import GONE, connect

ANSWER_WAIT_MAX_S: Final = 5.0


class LockSession:
    """The one connection that holds this process' session locks; opened when first needed, and again when lost."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._turn = asyncio.Lock()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    @property
    def connection(self) -> "asyncpg.Connection[asyncpg.Record] | None":
        """The live session, by whose identity a leadership knows that its lock is still there."""
        alive = self._connection is not None and not self._connection.is_closed()
        return self._connection if alive else None

    async def lock(self, key: int) -> "asyncpg.Connection[asyncpg.Record] | None":
        """Take the lock without waiting; the session that holds it, or None when another one does."""
        async with self._turn:
            if self.connection is None:
                self._connection = await connect(self._dsn, name="rgrid leases")
            assert self._connection is not None
            try:
                taken = await self._connection.fetchval(
                    "select pg_try_advisory_lock($1)", key, timeout=ANSWER_WAIT_MAX_S
                )
            except GONE:
                # Whether the lock was taken is unknown: end the session, and every lock with it.
                self._connection.terminate()
                raise
            return self._connection if taken else None

    async def unlock(self, key: int) -> None:
        async with self._turn:
            if (connection := self.connection) is not None:
                await connection.execute("select pg_advisory_unlock($1)", key, timeout=ANSWER_WAIT_MAX_S)

    async def answers(self) -> bool:
        """Ask the server whether the session is alive; a silent one is given up, and its locks with it."""
        async with self._turn:
            if (connection := self.connection) is None:
                return False
            try:
                await connection.fetchval("select 1", timeout=ANSWER_WAIT_MAX_S)
            except GONE:
                connection.terminate()
                return False
            return True

    async def close(self) -> None:
        """End the session: every name it led is free."""
        async with self._turn:
            connection, self._connection = self._connection, None
            if connection is not None:
                try:
                    await connection.close(timeout=ANSWER_WAIT_MAX_S)
                except GONE:
                    connection.terminate()


class Leadership:
    """This process' claim on one name."""

    def __init__(self, session: LockSession, name: str) -> None:
        self.name = name
        self._session = session
        self._key = lock_key(name)
        self._holder: asyncpg.Connection[asyncpg.Record] | None = None

    @property
    def held(self) -> bool:
        """Whether this process leads, as far as it knows: false as soon as the session has ended."""
        return self._holder is not None and self._holder is self._session.connection

    async def try_acquire(self) -> bool:
        """Lead if nobody else does. Raises one of pool.GONE while the server is away."""
        if not self.held:
            self._holder = await self._session.lock(self._key)
        return self.held

    async def confirm(self) -> bool:
        """Whether this process still leads, asked of the server: for leaders that have nothing else to ask it."""
        return self.held and await self._session.answers() and self.held

    async def release(self) -> None:
        """Stop leading; releasing what isn't held is fine."""
        if self.held:
            self._holder = None
            await self._session.unlock(self._key)


def lock_key(name: str) -> int:
    """The 64-bit key of a name, equal in every process."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
