"""What time does to what executions leave behind: files and log lines whose days are over go, the record stays."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import Final

import asyncpg

from rgrid.adapters.objects import ObjectStore
from rgrid.eventstore.append import Rider
from rgrid.eventstore.handle import Handler
from rgrid.executions import input_cache, log_archive, releases, uploads
from rgrid.executions.commands import ExpireCachedInputs, ExpireLogs, ExpireObjects
from rgrid.executions.events import CachedInputsExpired, Excerpt, LogsExpired, ObjectsExpired
from rgrid.executions.execution import DECIDER
from rgrid.executions.log_reader import DAMAGED, LogReader
from rgrid.kernel.errors import Unavailable
from rgrid.kernel.ids import new_command_id
from rgrid.kernel.messages import Cause

LINES_MAX: Final = 10_000
REMOVALS_AT_ONCE_MAX: Final = 8
Held = Callable[[Sequence[str]], Awaitable[Collection[str]]]


async def expire_objects(handler: Handler, due: Sequence[str], ended_before: datetime) -> int:
    """Let executions go of their inputs and outputs; how many did. One that hasn't ended never does."""
    count = 0
    for execution_id in due:
        handled = await handler.handle(
            DECIDER,
            execution_id,
            ExpireObjects(ended_before=ended_before),
            _cause(),
            riders=lambda _state, events, _version: [
                releases.release(event.released) for event in events if isinstance(event, ObjectsExpired)
            ],
        )
        count += bool(handled.events)
    return count


async def expire_cache(handler: Handler, due: Sequence[str]) -> int:
    """Drop cache entries whose time is over; how many."""
    count = 0
    for input_hash in due:
        handled = await handler.handle(
            input_cache.DECIDER,
            input_hash,
            ExpireCachedInputs(),
            _cause(),
            riders=lambda _state, events, _version: [
                releases.release(event.released) for event in events if isinstance(event, CachedInputsExpired)
            ],
        )
        count += bool(handled.events)
    return count


async def expire_logs(
    reader: LogReader, handler: Handler, objects: ObjectStore, due: Sequence[str], ended_before: datetime
) -> int:
    """Keep the excerpts of the last attempt as objects and give the lines up; of how many executions."""
    count = 0
    for execution_id in due:
        state, _ = await handler.load(DECIDER, execution_id)
        stdout, stderr = [
            await _excerpt(reader, objects, execution_id, state.attempt, stream) for stream in ("stdout", "stderr")
        ]
        command = ExpireLogs(ended_before=ended_before, stdout=stdout, stderr=stderr)
        handled = await handler.handle(
            DECIDER, execution_id, command, _cause(), riders=functools.partial(_give_up, execution_id)
        )
        count += bool(handled.events)
    return count


def _give_up(execution_id: str, _state: object, events: Sequence[object], _version: int) -> list[Rider]:
    released = [sha256 for event in events if isinstance(event, LogsExpired) for sha256 in event.released]
    return [log_archive.give_up(execution_id), *([releases.release(released)] if released else [])]


async def _excerpt(
    reader: LogReader, objects: ObjectStore, execution_id: str, attempt: int, stream: str
) -> Excerpt | None:
    try:
        text, truncated = await reader.excerpt(execution_id, attempt, stream)
    except Unavailable as trouble:
        if trouble.code != DAMAGED:
            raise
        return None  # What can't be read any more leaves no excerpt, and holds up nobody else.
    data = text.encode()
    if not data:
        return None
    return Excerpt(sha256=await objects.put_bytes(data), size_bytes=len(data), truncated=truncated)


async def delete_lines(pool: asyncpg.Pool) -> int:
    """Delete some of the lines that have moved or were given up; how many. 0 says that none are left."""
    given_up = await pool.fetchrow("select execution_id, to_sequence from rgrid.expired_logs limit 1")
    if given_up is None:
        return 0
    count: int = await pool.fetchval(
        "with gone as (delete from rgrid.execution_logs where execution_id = $1 and sequence_number in ("
        " select sequence_number from rgrid.execution_logs where execution_id = $1 and sequence_number <= $2"
        " order by sequence_number limit $3) returning 1) select count(*) from gone",
        *given_up,
        LINES_MAX,
    )
    if count < LINES_MAX:
        # Unless more have moved in between.
        await pool.execute("delete from rgrid.expired_logs where execution_id = $1 and to_sequence = $2", *given_up)
    return max(1, count)


async def remove_unheld(pool: asyncpg.Pool, objects: ObjectStore, held: Held) -> int:
    """Remove objects that were let go of and that nobody else holds; how many. What was put a moment ago waits, because
    whoever put it may be about to say that it holds it. `held` must know all that is in the log by now."""
    released = await releases.due(pool)
    if not released:
        return 0
    still = {*await held(released), *await uploads.held(pool, released)}
    await releases.settled(pool, sorted(still))
    free = [sha256 for sha256 in released if sha256 not in still]
    gate = asyncio.Semaphore(REMOVALS_AT_ONCE_MAX)

    async def remove(sha256: str) -> bool:
        async with gate:
            return await objects.delete(sha256)

    removed = await asyncio.gather(*(remove(sha256) for sha256 in free))
    gone = [sha256 for sha256, is_gone in zip(free, removed, strict=True) if is_gone]
    await releases.settled(pool, gone)
    await releases.look_again(pool, [sha256 for sha256 in free if sha256 not in set(gone)])
    return len(gone)


def _cause() -> Cause:
    return Cause(actor="system", command_id=new_command_id())
