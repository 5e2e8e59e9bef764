"""Of which executions are files and log lines still kept, which lines are still rows of a table, and since when have
the executions been over?

An execution without files and without output never gets a row, and one whose files and lines have gone loses it.
"""

from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any, Final

from rgrid.executions.events import (
    AttemptEnded,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionTimedOut,
    InputsVerified,
    LogsArchived,
    LogsExpired,
    ObjectsExpired,
    OutputsStored,
)
from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.paging import Queryable
from rgrid.postgres.pool import Connection
from rgrid.subscriptions.projection import Projection

DUE_MAX: Final = 200


async def project(connection: Connection, batch: Sequence[AnyRecorded]) -> None:
    """Three statements a batch at most: what is held or printed, what is over, what has gone."""
    held: dict[str, dict[str, Any]] = {}
    ended: dict[str, datetime] = {}
    gone: dict[str, dict[str, bool]] = {}
    for at in batch:
        match at.event:
            case InputsVerified() | OutputsStored():
                held.setdefault(at.entity_id, {})["objects"] = True
            case AttemptEnded(status=status) as event:
                if event.stdout_size_bytes or event.stderr_size_bytes or status == "lost":
                    held.setdefault(at.entity_id, {})["lines"] = True
            case ObjectsExpired():
                gone.setdefault(at.entity_id, {})["objects"] = True
            case LogsArchived(is_whole=is_whole):
                if is_whole:
                    gone.setdefault(at.entity_id, {})["rows"] = True
            case LogsExpired():
                gone.setdefault(at.entity_id, {}).update(lines=True, rows=True)
            case _:
                ended[at.entity_id] = at.event.completed_at
    if held:
        await connection.execute(
            "insert into retention as r (execution_id, has_objects, has_lines, has_rows)"
            " select *, lines from unnest($1::text[], $2::boolean[], $3::boolean[]) as h(execution_id, objects, lines)"
            " on conflict (execution_id) do update set has_objects = r.has_objects or excluded.has_objects,"
            " has_lines = r.has_lines or excluded.has_lines, has_rows = r.has_rows or excluded.has_rows",
            list(held),
            ["objects" in what for what in held.values()],
            ["lines" in what for what in held.values()],
        )
    if ended:
        await connection.execute(
            "update retention r set completed_at = e.completed_at"
            " from unnest($1::text[], $2::timestamptz[]) as e(execution_id, completed_at)"
            " where r.execution_id = e.execution_id",
            list(ended),
            list(ended.values()),
        )
    if gone:
        await connection.execute(
            "update retention r set has_objects = r.has_objects and not g.objects, has_lines = r.has_lines and not"
            " g.lines, has_rows = r.has_rows and not g.rows from unnest($1::text[], $2::boolean[], $3::boolean[],"
            " $4::boolean[]) as g(execution_id, objects, lines, rows) where r.execution_id = g.execution_id",
            list(gone),
            ["objects" in what for what in gone.values()],
            ["lines" in what for what in gone.values()],
            ["rows" in what for what in gone.values()],
        )
        await connection.execute(
            "delete from retention where execution_id = any($1) and not has_objects and not has_lines", list(gone)
        )


PROJECTION: Final = Projection(
    name="retention",
    version=2,
    on=(
        InputsVerified, OutputsStored, AttemptEnded, ExecutionCompleted, ExecutionFailed, ExecutionTimedOut,
        ExecutionCancelled, ObjectsExpired, LogsArchived, LogsExpired,
    ),
    ddl=files("projections") / "retention.sql",
    on_batch=project,
)  # fmt: skip


async def with_objects(connection: Queryable, ended_before: datetime) -> list[str]:
    """Executions that ended by then and still hold files, the oldest first."""
    rows = await connection.fetch(
        "select execution_id from retention where has_objects and completed_at <= $1 order by completed_at limit $2",
        ended_before,
        DUE_MAX,
    )
    return [row["execution_id"] for row in rows]


async def with_lines(connection: Queryable, ended_before: datetime) -> list[str]:
    """Executions that ended by then and still have log lines, the oldest first."""
    rows = await connection.fetch(
        "select execution_id from retention where has_lines and completed_at <= $1 order by completed_at limit $2",
        ended_before,
        DUE_MAX,
    )
    return [row["execution_id"] for row in rows]


async def with_rows(connection: Queryable, ended_before: datetime) -> list[str]:
    """Executions that ended by then and whose log lines are not yet in the archive, the oldest first."""
    rows = await connection.fetch(
        "select execution_id from retention where has_rows and completed_at <= $1 order by completed_at limit $2",
        ended_before,
        DUE_MAX,
    )
    return [row["execution_id"] for row in rows]
