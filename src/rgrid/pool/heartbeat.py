"""Renewal straight on the database, from a thread with a loop and a connection of its own."""

import asyncio
from collections.abc import Sequence
from typing import Final

import asyncpg

from projections import workers
from rgrid.executions.leases import RENEW
from rgrid.kernel.errors import Unavailable
from rgrid.pool.protocol import Lease, Renewal
from rgrid.runners import heartbeats

ANSWER_MAX_S: Final = 5.0


class InProcessHeartbeat:
    """Implements `protocol.Heartbeat`. Every call must come from the same thread."""

    def __init__(self, dsn: str, lease_ttl_s: float) -> None:
        self._dsn = dsn
        self._lease_ttl_s = lease_ttl_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: asyncpg.Connection | None = None

    def renew(self, worker_id: str, leases: Sequence[Lease]) -> Renewal:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        try:
            return self._loop.run_until_complete(asyncio.wait_for(self._renew(worker_id, leases), ANSWER_MAX_S))
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as fault:
            if self._connection is not None:
                self._connection.terminate()
                self._connection = None
            raise Unavailable("The database does not answer the heartbeat.") from fault

    def close(self) -> None:
        """From the same thread, at its end."""
        if self._loop is not None:
            if self._connection is not None:
                self._connection.terminate()
            self._loop.close()

    async def _renew(self, worker_id: str, held: Sequence[Lease]) -> Renewal:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self._dsn, server_settings={"search_path": "rgrid, rm"})
        connection = self._connection
        await heartbeats.record(connection, worker_id)
        rows = await connection.fetch(
            RENEW,
            worker_id,
            [lease.execution_id for lease in held],
            [lease.fencing_token for lease in held],
            self._lease_ttl_s,
        )
        kept = {(row["execution_id"], row["fencing_token"]): row["cancel_requested"] for row in rows}
        return Renewal(
            lost=[lease for lease in held if (lease.execution_id, lease.fencing_token) not in kept],
            cancel=[lease for lease in held if kept.get((lease.execution_id, lease.fencing_token))],
            drain=await workers.shall_drain(connection, worker_id),
        )
