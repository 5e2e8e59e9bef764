"""Clean-up as a driver: reads what is over, sends the commands that let it go, and removes what nobody holds any more.

Any number of processes may clean up: every command is empty when another process was faster.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from typing import Final

import asyncpg
import msgspec

from projections import input_cache, objects, retention
from rgrid.adapters.objects import ObjectStore, is_sha256
from rgrid.eventstore.handle import Handler
from rgrid.executions import log_archive, releases
from rgrid.executions import retention as rules
from rgrid.executions import uploads as slots
from rgrid.executions.log_reader import LogReader
from rgrid.kernel.clock import now
from rgrid.kernel.errors import Unavailable
from rgrid.settings import Settings

ARCHIVE_EVERY_S: Final = 30
ARCHIVED_A_TURN_MAX: Final = 1_000
EXPIRE_EVERY_S: Final = 60
REMOVE_EVERY_S: Final = 30
DELETES_A_TURN_MAX: Final = 50
ROUNDS_MAX: Final = 100_000
ORPHANS_AT_ONCE: Final = 500
FORGET_UPLOADS_AFTER: Final = timedelta(days=1)
"""Beyond the deadline for inputs, after which no execution takes what was uploaded for it."""


class Purged(msgspec.Struct, kw_only=True):
    """What a clean-up did: how many executions let go of files and of lines, how many blocks of lines moved to
    the object store, and what was removed."""

    executions_without_files: int = 0
    executions_without_lines: int = 0
    log_blocks: int = 0
    cache_entries: int = 0
    uploads: int = 0
    lines: int = 0
    objects: int = 0


class Retention:
    """The chores, each in bounded batches, and all of them at once for `rgrid purge`."""

    def __init__(
        self,
        *,
        pool: asyncpg.Pool,
        handler: Handler,
        settings: Settings,
        object_store: ObjectStore,
        log_reader: LogReader,
        reached_head: Callable[[], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._handler = handler
        self._settings = settings
        self._objects = object_store
        self._log_reader = log_reader
        self._reached_head = reached_head

    def chores(self) -> list[tuple[Callable[[], Awaitable[object]], int]]:
        """For the ticker: what, and every how many seconds."""
        return [
            (self.expire_objects, EXPIRE_EVERY_S),
            (self.expire_logs, EXPIRE_EVERY_S),
            (self._archive_in_time, ARCHIVE_EVERY_S),
            (self.expire_cache, EXPIRE_EVERY_S),
            (self.forget_uploads, EXPIRE_EVERY_S),
            (self._delete_some_lines, REMOVE_EVERY_S),
            (self._remove_in_time, REMOVE_EVERY_S),
        ]

    async def expire_objects(self) -> int:
        before = now() - timedelta(days=self._settings.artifacts_keep_days)
        return await rules.expire_objects(self._handler, await retention.with_objects(self._pool, before), before)

    async def expire_logs(self) -> int:
        before = now() - timedelta(days=self._settings.logs_keep_days)
        due = await retention.with_lines(self._pool, before)
        return await rules.expire_logs(self._log_reader, self._handler, self._objects, due, before)

    async def archive_logs(self) -> int:
        """Move lines of executions that ended a while ago to the object store; how many blocks they made."""
        before = now() - timedelta(seconds=self._settings.logs_archive_after_s)
        blocks = 0
        for execution_id in await retention.with_rows(self._pool, before):
            while made := await log_archive.archive(self._pool, self._handler, self._objects, execution_id, before):
                blocks += made
        return blocks

    async def expire_cache(self) -> int:
        return await rules.expire_cache(self._handler, await input_cache.due(self._pool, now()))

    async def forget_uploads(self) -> int:
        deadline = timedelta(seconds=self._settings.inputs_deadline_s)
        return await slots.forget_old(self._pool, deadline + FORGET_UPLOADS_AFTER)

    async def delete_lines(self) -> int:
        return await rules.delete_lines(self._pool)

    async def remove_objects(self) -> int:
        """Raises Unavailable when the read side is too far behind to say what is held."""
        await self._reached_head()
        return await rules.remove_unheld(self._pool, self._objects, self._held)

    async def purge(self, *, orphans: bool = False) -> Purged:
        """Everything that is due, to the end. With `orphans` also objects of which this log knows nothing: right only
        when no other installation uses the same store."""
        done = Purged()
        done.executions_without_files = await self._all(self.expire_objects)
        done.executions_without_lines = await self._all(self.expire_logs)
        done.log_blocks = await self._all(self.archive_logs)
        done.cache_entries = await self._all(self.expire_cache)
        done.uploads = await self._all(self.forget_uploads)
        done.lines = await self._all(self.delete_lines)
        if orphans:
            await self._release_orphans()
        done.objects = await self._all(self.remove_objects)
        return done

    async def _all(self, chore: Callable[[], Awaitable[int]]) -> int:
        total = 0
        for _ in range(ROUNDS_MAX):
            count = await chore()
            total += count
            if not count:
                break
            await self._reached_head()
        return total

    async def _release_orphans(self) -> None:
        """Objects of which the log knows nothing, left by processes that were killed between two writes."""
        some: list[str] = []
        await self._reached_head()
        async for sha256 in self._objects.hashes():
            assert is_sha256(sha256)
            some.append(sha256)
            if len(some) >= ORPHANS_AT_ONCE:
                await self._release_unknown(some)
                some.clear()
        await self._release_unknown(some)

    async def _release_unknown(self, hashes: Sequence[str]) -> None:
        known = await self._held(hashes)
        await releases.release_now(self._pool, [sha256 for sha256 in hashes if sha256 not in known])

    async def _held(self, hashes: Sequence[str]) -> Collection[str]:
        return await objects.held(self._pool, hashes)

    async def _delete_some_lines(self) -> None:
        for _ in range(DELETES_A_TURN_MAX):
            if not await self.delete_lines():
                return

    async def _archive_in_time(self) -> None:
        """Several rounds while there is a backlog; the read side has to see one before the next."""
        blocks = 0
        try:
            while blocks < ARCHIVED_A_TURN_MAX and (made := await self.archive_logs()):
                blocks += made
                await self._reached_head()
        except Unavailable:
            return  # The read side is behind or the store is away: the lines wait for the next turn.

    async def _remove_in_time(self) -> None:
        try:
            await self.remove_objects()
        except Unavailable:
            return  # The read side is behind or the store is away: the objects wait for the next turn.
