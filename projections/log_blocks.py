"""Which lines of which execution lie in which block of the archive? Inline: the rows of archived lines go soon after,
and whoever no longer finds them must find the block."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from rgrid.executions.events import LogBlock, LogsArchived, LogsExpired
from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.paging import Queryable
from rgrid.postgres.pool import Connection
from rgrid.subscriptions.projection import Projection


async def archived(connection: Connection, event: LogsArchived, at: AnyRecorded) -> None:
    blocks = event.blocks
    await connection.execute(
        "insert into log_blocks (execution_id, first_sequence, last_sequence, attempt, stdout_lines, stderr_lines,"
        " stdout_bytes, stderr_bytes, sha256, size_bytes) select $1, * from unnest($2::bigint[], $3::bigint[],"
        " $4::int[], $5::int[], $6::int[], $7::bigint[], $8::bigint[], $9::text[], $10::bigint[])",
        at.entity_id,
        [block.first for block in blocks],
        [block.last for block in blocks],
        [block.attempt for block in blocks],
        [block.stdout_lines for block in blocks],
        [block.stderr_lines for block in blocks],
        [block.stdout_bytes for block in blocks],
        [block.stderr_bytes for block in blocks],
        [block.sha256 for block in blocks],
        [block.size_bytes for block in blocks],
    )


async def expired(connection: Connection, _event: LogsExpired, at: AnyRecorded) -> None:
    await connection.execute("delete from log_blocks where execution_id = $1", at.entity_id)


PROJECTION: Final = Projection(
    name="log_blocks",
    version=1,
    on={LogsArchived: archived, LogsExpired: expired},
    ddl=files("projections") / "log_blocks.sql",
    inline=True,
)


async def of(connection: Queryable, execution_id: str) -> Sequence[LogBlock]:
    """The blocks of an execution in the order of their lines."""
    rows = await connection.fetch(
        "select sha256, size_bytes, attempt, first_sequence, last_sequence, stdout_lines, stderr_lines, stdout_bytes,"
        " stderr_bytes from log_blocks where execution_id = $1 order by first_sequence",
        execution_id,
    )
    return [
        LogBlock(
            sha256=row["sha256"],
            size_bytes=row["size_bytes"],
            attempt=row["attempt"],
            first=row["first_sequence"],
            last=row["last_sequence"],
            stdout_lines=row["stdout_lines"],
            stderr_lines=row["stderr_lines"],
            stdout_bytes=row["stdout_bytes"],
            stderr_bytes=row["stderr_bytes"],
        )
        for row in rows
    ]
