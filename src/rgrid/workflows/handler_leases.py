"""Who runs which handler now. A process that dies is silent, and then others take over what it ran; what it may still
hand in comes under a token that no longer counts."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import asyncpg
import msgspec

from rgrid.eventstore.append import Rider

log = logging.getLogger(__name__)

TTL_S: Final = 6.0
BEAT_EVERY_S: Final = 1.5
BEAT_MAX_S: Final = 4.0
STOP_MAX_S: Final = 5.0
TAKEN_MAX: Final = 100
OWN_MAX: Final = 20_000
LOST: Final = "handler_lease_lost"
"""The code of the Conflict that refuses a result which comes too late."""

_BEAT: Final = (
    "insert into rgrid.handler_holders as h (holder, expires_at)"
    " values ($1, clock_timestamp() + make_interval(secs => $2))"
    " on conflict (holder) do update set expires_at = excluded.expires_at"
)


class Try(msgspec.Struct, frozen=True):
    """A try of a HANDLER step."""

    run_id: str
    step: str
    attempt: int


class Held(msgspec.Struct, frozen=True):
    """A try that this process runs, and the token of its result."""

    of: Try
    token: int


def passing(run_id: str, ended: Held | None, begun: Sequence[Try], holder: str) -> Rider:
    """Commits with the end of one try and the start of others. It breaks the append when the ended one is another
    process' by now: a Conflict with the code LOST."""
    return Rider(
        "select rgrid.pass_handlers($1, $2, $3, $4, $5, $6, $7)",
        (
            run_id,
            ended and ended.of.step,
            ended and ended.of.attempt,
            ended and ended.token,
            [one.step for one in begun],
            [one.attempt for one in begun],
            holder,
        ),
        takes_position=False,
    )


async def forget(pool: asyncpg.Pool, tries: Sequence[Try]) -> None:
    """These have ended otherwise: whoever runs them is to stop."""
    await pool.execute(
        "delete from rgrid.handler_leases l using unnest($1::text[], $2::text[], $3::int[]) as t(run_id, step, attempt)"
        " where l.run_id = t.run_id and l.step = t.step and l.attempt = t.attempt",
        [one.run_id for one in tries],
        [one.step for one in tries],
        [one.attempt for one in tries],
    )


async def own(pool: asyncpg.Pool, holder: str) -> set[Held]:
    """What the process holds, as the database has it."""
    rows = await pool.fetch(
        "select run_id, step, attempt, token from rgrid.handler_leases where holder = $1 limit $2", holder, OWN_MAX
    )
    return {_held(row) for row in rows}


async def take_over(pool: asyncpg.Pool, holder: str, count: int) -> list[Held]:
    """Up to `count` tries of processes that are silent are this one's from now on."""
    rows = await pool.fetch(
        "update rgrid.handler_leases l set holder = $1, token = l.token + 1, taken_at = clock_timestamp()"
        " from (select run_id, step, attempt from rgrid.handler_leases a where not exists"
        " (select from rgrid.handler_holders h where h.holder = a.holder and h.expires_at > clock_timestamp())"
        " order by taken_at limit $2 for update skip locked) as free"
        " where l.run_id = free.run_id and l.step = free.step and l.attempt = free.attempt"
        " returning l.run_id, l.step, l.attempt, l.token",
        holder,
        min(count, TAKEN_MAX),
    )
    return [_held(row) for row in rows]


async def forget_silent(pool: asyncpg.Pool) -> None:
    """Forget processes that have been silent for long and hold nothing."""
    await pool.execute(
        "delete from rgrid.handler_holders h where h.expires_at < clock_timestamp() - interval '1 hour'"
        " and not exists (select from rgrid.handler_leases l where l.holder = h.holder)"
    )


def _held(row: asyncpg.Record) -> Held:
    return Held(Try(row["run_id"], row["step"], row["attempt"]), row["token"])


class SignsOfLife:
    """Says that this process lives, from a thread that no handler can starve."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], holder: str) -> None:
        self._connect = connect
        self._holder = holder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rgrid-handlers-alive", daemon=True)

    async def start(self) -> None:
        """Returns after the first sign, so that nobody takes this process for a silent one."""
        connection = await self._connect()
        try:
            await connection.execute(_BEAT, self._holder, TTL_S)
        finally:
            await connection.close()
        self._thread.start()

    async def stop(self, pool: asyncpg.Pool) -> None:
        """What is still held is free for others at once."""
        self._stop.set()
        await asyncio.to_thread(self._thread.join, STOP_MAX_S)
        await pool.execute("delete from rgrid.handler_holders where holder = $1", self._holder)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            connection: asyncpg.Connection | None = None
            while not self._stop.wait(BEAT_EVERY_S):
                try:
                    connection = runner.run(self._beat(connection))
                except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as fault:
                    log.warning("no sign of life of the handlers: %s", type(fault).__name__)
                    if connection is not None:
                        connection.terminate()
                        connection = None
            if connection is not None:
                connection.terminate()

    async def _beat(self, connection: asyncpg.Connection | None) -> asyncpg.Connection:
        async with asyncio.timeout(BEAT_MAX_S):
            if connection is None or connection.is_closed():
                connection = await self._connect()
            await connection.execute(_BEAT, self._holder, TTL_S)
            return connection
