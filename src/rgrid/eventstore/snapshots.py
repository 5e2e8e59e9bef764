"""States of long streams as of a version, so that a load reads the rest only. Never needed for the truth: with all of
them gone the events give the same states."""

import hashlib
import logging
from collections.abc import Hashable
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

import asyncpg
import msgspec

from rgrid.eventstore.store import COLUMNS, PAGE_MAX, Store
from rgrid.kernel.decider import Decider
from rgrid.kernel.messages import AnyRecorded, Command, Event
from rgrid.postgres.pool import GONE

log = logging.getLogger(__name__)

SNAPSHOT_EVERY: Final = 1_000
"""A snapshot is taken after so many events."""
SIZE_BYTES_MAX: Final = 8 * 1024 * 1024
"""A larger state is not worth it."""
TAKE_WAIT_MAX_S: Final = 2.0

C = TypeVar("C", bound=Command)
S = TypeVar("S")
E = TypeVar("E", bound=Event)

_LOST: Final[tuple[type[Exception], ...]] = (*GONE, asyncpg.PostgresError)
_encoder = msgspec.json.Encoder()

# The event is asked for, too: a log that was put back to an earlier state may have lost it.
_LOAD: Final = (
    "with kept as materialized (select version, state from rgrid.snapshots s where stream_id = $1 and shape = $2"  # noqa: S608 -- constants
    " and exists (select from rgrid.stored_events where originator_id = $1 and originator_version = s.version))"
    " select $1 as originator_id, version as originator_version, null as topic, state, null::bigint as notification_id,"
    " null::timestamptz as recorded_at, null::bytea as cause from kept"
    f" union all (select {COLUMNS} from rgrid.stored_events where originator_id = $1"
    " and originator_version > coalesce((select version from kept), 0) order by originator_version limit $3)"
)
"""The snapshot, without a topic, and the events after it, in one round."""
_TAKE: Final = (
    "insert into rgrid.snapshots as s (stream_id, shape, version, state) values ($1, $2, $3, $4)"
    " on conflict (stream_id) do update set shape = excluded.shape, version = excluded.version,"
    " state = excluded.state, taken_at = now() where s.shape <> excluded.shape or s.version < excluded.version"
)


class Snapshots:
    """Those of one database. Only a decider with a `snapshot_version` has any."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def load(self, decider: Decider[C, S, E], stream_id: str) -> tuple[S, int, list[AnyRecorded]]:
        """The newest state that was kept, its version, and a page of the events after it. When none of this shape was
        kept, the initial state, 0, and the first page of all."""
        rows = await self._store.pool.fetch(_LOAD, stream_id, _shape(decider), PAGE_MAX)
        events = [self._store.codec.recorded(row) for row in rows if row["topic"] is not None]
        kept = next((row for row in rows if row["topic"] is None), None)
        if kept is None:
            return decider.initial, 0, events
        try:
            return _decoder(_kind(decider)).decode(kept["state"]), kept["originator_version"], events
        except msgspec.MsgspecError:
            log.warning("the snapshot of %s can't be read and is passed over", stream_id)
            return decider.initial, 0, await self._store.read_stream(stream_id)

    async def take(self, decider: Decider[C, S, E], stream_id: str, state: S, version: int) -> None:
        """Keep a state. Without an answer of the database there is none; the next one will do."""
        data = _encoder.encode(state)
        if len(data) > SIZE_BYTES_MAX:
            return
        shape = _shape(decider)
        try:
            async with self._store.pool.acquire(timeout=TAKE_WAIT_MAX_S) as connection, connection.transaction():
                # Nothing is lost when the server forgets it, so nobody waits for the disk.
                await connection.execute("set local synchronous_commit = off")
                await connection.execute(_TAKE, stream_id, shape, version, data, timeout=TAKE_WAIT_MAX_S)
        except _LOST as trouble:
            log.warning("no snapshot of %s was taken: %s", stream_id, trouble)


def _kind(decider: Decider[Any, Any, Any]) -> Hashable:
    return cast(Hashable, type(decider.initial))


def _shape(decider: Decider[Any, Any, Any]) -> str:
    assert decider.snapshot_version is not None
    return _shape_of(_kind(decider), decider.snapshot_version)


@lru_cache(64)
def _shape_of(kind: Hashable, version: int) -> str:
    """A field more or less makes another shape by itself; another meaning needs another version."""
    schema = _encoder.encode(msgspec.json.schema(kind))
    return f"{version}-{hashlib.sha256(schema).hexdigest()[:16]}"


@lru_cache(64)
def _decoder(kind: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)
