"""The group writer: one task, one connection; whatever is queued while a commit is in flight forms the next one.

One appended batch is one transaction and one fsync, shared by all commands in it (DeWitt et al. 1984, "group commit").
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import asyncpg

from rgrid.eventstore.append import Append, Appended, Decision, Inline
from rgrid.eventstore.codec import Codec, decode_cause, encode_cause
from rgrid.eventstore.signal import Signal
from rgrid.eventstore.store import STREAM
from rgrid.kernel.errors import Conflict, Unavailable
from rgrid.kernel.messages import AnyRecorded, Recorded
from rgrid.postgres.pool import GONE

log = logging.getLogger(__name__)

QUEUE_MAX: Final = 20_000
BATCH_EVENTS_MAX: Final = 5_000
RECONNECTS_MAX: Final = 40
RECONNECT_WAIT_S: Final = 0.25
COMMIT_MAX_S: Final = 30.0
"""A commit that takes longer has met a dead connection: a new one finds out what became of it."""

_LOCK = "select pg_advisory_xact_lock(824177293)"
_APPEND = "select head, stamped_at, losers from rgrid.append_events($1, $2, $3, $4, $5, $6)"


@dataclass(slots=True, eq=False)
class _Waiting:
    append: Append | None
    done: asyncio.Future[Appended | None]
    states: list[tuple[str, bytes]] = field(default_factory=list)
    decision: Decision | None = None


class GroupWriter:
    """Appends for one process. `append` returns after the commit, raises Conflict when a version was taken,
    Unavailable when the queue is full or the database stays away."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        codec: Codec,
        committed: Signal,
        inline: Inline | None = None,
    ) -> None:
        self._connect = connect
        self._codec = codec
        self._committed = committed
        self._inline = inline
        self._queue: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._connection: asyncpg.Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self.batches = 0
        self.events = 0

    async def start(self) -> None:
        self._connection = await self._connect()
        self._task = asyncio.create_task(self._run(), name="group-writer")

    async def stop(self) -> None:
        """Writes what is queued, then closes."""
        if self._task is not None:
            task, self._task = self._task, None
            self._wake.set()
            await task
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def append(self, append: Append) -> Appended:
        waiting = _Waiting(append, asyncio.get_running_loop().create_future(), self._states(append))
        appended = await self._queued(waiting)
        assert appended is not None
        return appended

    async def decide(self, decision: Decision) -> Appended | None:
        """Decides and appends while nobody else can append; None when there was nothing to append."""
        return await self._queued(_Waiting(None, asyncio.get_running_loop().create_future(), decision=decision))

    def _states(self, append: Append) -> list[tuple[str, bytes]]:
        assert append.events, "an append without events"
        encode, topic = self._codec.encode, self._codec.topic
        return [(topic(new.event), encode(new.event)) for new in append.events]

    async def _queued(self, waiting: _Waiting) -> Appended | None:
        if self._task is None:
            raise Unavailable("The service is shutting down.")
        if len(self._queue) >= QUEUE_MAX:
            raise Unavailable("Too many writes are waiting.", code="write_queue_full")
        self._queue.append(waiting)
        self._wake.set()
        return await waiting.done

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._write(self._take())
            if self._task is None:
                return

    def _take(self) -> list[_Waiting]:
        """The next batch: in order, at least one append, then as many as fit the bound. A decision goes alone."""
        size = count = 0
        for waiting in self._queue:
            size += len(waiting.states)
            if count and (size > BATCH_EVENTS_MAX or waiting.decision is not None):
                break
            count += 1
            if waiting.decision is not None:
                break
        batch, self._queue = self._queue[:count], self._queue[count:]
        return batch

    async def _write(self, batch: list[_Waiting]) -> None:
        for _ in range(RECONNECTS_MAX):
            try:
                if self._connection is None:
                    self._connection = await self._connect()
                    with _bounded(self._connection):
                        batch = await self._settle_ambiguous(batch)
                with _bounded(self._connection):
                    await self._commit(batch)
                return
            except GONE as lost:
                # The commit may have happened: `_settle_ambiguous` finds out on the next connection.
                log.warning("the writer lost its connection: %s", lost)
                self._drop_connection()
                await asyncio.sleep(RECONNECT_WAIT_S)
            except Exception as refused:  # noqa: BLE001 -- what is raised within an append fails it, never the writer
                await self._write_apart(batch, refused)
                return
        for waiting in batch:
            _fail(waiting, Unavailable("The database is not reachable.", code="database_unavailable"))

    async def _write_apart(self, batch: list[_Waiting], refused: Exception) -> None:
        """One append broke the batch: each goes alone, so that only the guilty one fails."""
        if len(batch) == 1:
            _fail(batch[0], _translated(refused))
            return
        for waiting in batch:
            await self._write([waiting])

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _settle_ambiguous(self, batch: list[_Waiting]) -> list[_Waiting]:
        """After a lost connection: an append whose first event stands in the log under its own command id is done."""
        assert self._connection is not None
        open_appends: list[_Waiting] = []
        for waiting in batch:
            if waiting.append is None:
                open_appends.append(waiting)
                continue
            first, last = waiting.append.events[0], waiting.append.events[-1]
            row = await self._connection.fetchrow(
                "select f.cause, l.notification_id, l.recorded_at from rgrid.stored_events f, rgrid.stored_events l"
                " where f.originator_id = $1 and f.originator_version = $2"
                " and l.originator_id = $3 and l.originator_version = $4",
                first.stream_id, first.version, last.stream_id, last.version,
            )  # fmt: skip
            if row and decode_cause(row["cause"]).command_id == waiting.append.cause.command_id:
                await self._done([(waiting, Appended(row["notification_id"], row["recorded_at"]))])
            else:
                open_appends.append(waiting)
        return open_appends

    async def _commit(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        connection = self._connection
        assert connection is not None
        async with connection.transaction():
            if batch[0].decision is not None and not await self._decided(connection, batch[0], batch[0].decision):
                batch[0].done.set_result(None)
                return
            row = await connection.fetchrow(_APPEND, *_columns(batch))
            assert row is not None
            head, stamped_at, beaten = row["head"], row["stamped_at"], frozenset(row["losers"])
            kept = [waiting for index, waiting in enumerate(batch) if index not in beaten]
            done, recorded = self._placed(kept, head, stamped_at)
            for sql, rows in _statements(done):
                if len(rows) == 1:
                    await connection.execute(sql, *rows[0])
                else:
                    await connection.executemany(sql, rows)
            if self._inline is not None and recorded:
                await self._inline(connection, recorded)
        self.batches += 1
        self.events += len(recorded)
        for index in beaten:
            _fail(batch[index], Conflict("Somebody else changed it at the same time."))
        await self._done(done, recorded)

    async def _decided(self, connection: asyncpg.Connection, waiting: _Waiting, decision: Decision) -> bool:
        """Decides under the append lock; whether there is anything to append."""
        await connection.execute(_LOCK)
        rows = await connection.fetch(STREAM, decision.stream_id, decision.after_version, None, None)
        waiting.append = decision.decide([self._codec.recorded(row) for row in rows])
        waiting.states = [] if waiting.append is None else self._states(waiting.append)
        return waiting.append is not None

    def _placed(
        self, kept: Sequence[_Waiting], head: int, stamped_at: datetime
    ) -> tuple[list[tuple[_Waiting, Appended]], list[AnyRecorded]]:
        done, recorded = [], []
        position = head
        for waiting in kept:
            assert waiting.append is not None
            for new, (topic, _) in zip(waiting.append.events, waiting.states, strict=True):
                position += 1
                recorded.append(
                    Recorded(position=position, stream_id=new.stream_id, version=new.version, topic=topic,
                             event=new.event, recorded_at=stamped_at, cause=waiting.append.cause)
                )  # fmt: skip
            done.append((waiting, Appended(position, stamped_at)))
        return done, recorded

    async def _done(self, done: Sequence[tuple[_Waiting, Appended]], recorded: Sequence[AnyRecorded] = ()) -> None:
        if not done:
            return
        for waiting, appended in done:
            if not waiting.done.done():
                waiting.done.set_result(appended)
        await self._committed.advance(max(appended.position for _, appended in done), recorded)


@contextmanager
def _bounded(connection: asyncpg.Connection) -> Iterator[None]:
    """Ends the connection after COMMIT_MAX_S. A timeout won't do: leaving a transaction asks the server again."""
    end = asyncio.get_running_loop().call_later(COMMIT_MAX_S, connection.terminate)
    try:
        yield
    finally:
        end.cancel()


def _statements(done: Sequence[tuple[_Waiting, Appended]]) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """The riders in their order; equal statements that follow each other go to the server as one."""
    found: list[tuple[str, list[tuple[Any, ...]]]] = []
    for waiting, appended in done:
        assert waiting.append is not None
        for rider in waiting.append.riders:
            row = (*rider.args, appended.position) if rider.takes_position else rider.args
            if found and found[-1][0] == rider.sql:
                found[-1][1].append(row)
            else:
                found.append((rider.sql, [row]))
    return found


def _columns(batch: Sequence[_Waiting]) -> tuple[list[Any], ...]:
    commands: list[int] = []
    streams: list[str] = []
    versions: list[int] = []
    topics: list[str] = []
    states: list[bytes] = []
    causes: list[bytes] = []
    for index, waiting in enumerate(batch):
        assert waiting.append is not None
        cause = encode_cause(waiting.append.cause)
        for new, (topic, state) in zip(waiting.append.events, waiting.states, strict=True):
            commands.append(index)
            streams.append(new.stream_id)
            versions.append(new.version)
            topics.append(topic)
            states.append(state)
            causes.append(cause)
    return commands, streams, versions, topics, states, causes


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.done.done():
        waiting.done.set_exception(error)


def _translated(refused: Exception) -> Exception:
    if isinstance(refused, asyncpg.UniqueViolationError):
        return Conflict("It exists already.", code=refused.constraint_name or "duplicate")
    if isinstance(refused, asyncpg.CheckViolationError):
        return Conflict("It does not fit the state of the grid any more.", code=refused.constraint_name or "check")
    if isinstance(refused, asyncpg.DiskFullError):
        return Unavailable("The database's disk is full.", code="disk_full", retry_after_s=30)
    return refused
