"""Which run is active in a partition of a workflow? Inline: of two triggers at once, one must be refused.

A second run in a partition breaks the unique constraint, and with it the append that would have begun it: a Conflict
`partition_active`. Runs without a partition and dry runs don't count.
"""

from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Final

from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.paging import Queryable
from rgrid.postgres.pool import Connection
from rgrid.subscriptions.projection import Projection
from rgrid.workflows.events import RunEnded, RunTriggered

CONSTRAINT: Final = "partition_active"


async def project(connection: Connection, batch: Sequence[AnyRecorded]) -> None:
    """In the order of the log: a partition may be left and entered within one batch."""
    ended: list[str] = []
    for at in batch:
        if isinstance(at.event, RunEnded):
            ended.append(at.entity_id)
        elif at.event.partition is not None and not at.event.dry_run:
            await _leave(connection, ended)
            ended = []
            await connection.execute(
                "insert into active_partitions (run_id, workflow_name, partition_sha256) values ($1, $2, $3)",
                at.entity_id,
                at.event.workflow_name,
                _hash(at.event.partition),
            )
    await _leave(connection, ended)


async def _leave(connection: Connection, run_ids: Sequence[str]) -> None:
    if run_ids:
        await connection.execute("delete from active_partitions where run_id = any($1)", run_ids)


def _hash(partition: str) -> bytes:
    return sha256(partition.encode()).digest()


PROJECTION: Final = Projection(
    name="active_partitions",
    version=1,
    on=(RunTriggered, RunEnded),
    ddl=files("projections") / "active_partitions.sql",
    inline=True,
    on_batch=project,
)


async def active(connection: Queryable, workflow_name: str, partition: str) -> str | None:
    """The run that is active in this partition, None when it is free. `partition` is canonical JSON, as in events."""
    run_id: str | None = await connection.fetchval(
        "select run_id from active_partitions where workflow_name = $1 and partition_sha256 = $2",
        workflow_name,
        _hash(partition),
    )
    return run_id
