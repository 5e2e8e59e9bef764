"""Which workflows are defined, which of them start another one, and how did the last run of each one go?"""

from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from typing import Final

import msgspec

from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.paging import Key, Queryable, Rows, Where, Window, select
from rgrid.postgres.pool import Connection
from rgrid.subscriptions.projection import Projection
from rgrid.workflows.events import (
    RunCancelRequested,
    RunEnded,
    RunTriggered,
    StepStarted,
    WorkflowActivated,
    WorkflowDeactivated,
    WorkflowDefined,
    WorkflowDeleted,
)

KEYS: Final = {
    "workflow_name": Key("workflow_name"),
    "created_at": Key("created_at", "moment"),
    "updated_at": Key("updated_at", "moment"),
}
USERS_MAX: Final = 100
_WITH_LAST_RUN: Final = (
    "workflows left join (select workflow_name as name, triggered_at as last_run_at, status as last_run_status"
    " from workflow_last_runs) r on r.name = workflow_name"
)


async def project(connection: Connection, batch: Sequence[AnyRecorded]) -> None:
    """Definitions one by one, since they are few; of runs, what is left of a page of events."""
    triggered: dict[str, tuple[str, datetime, str]] = {}
    statuses: dict[str, str] = {}
    for at in batch:
        match at.event:
            case RunTriggered(workflow_name=name, triggered_at=moment):
                triggered[name] = at.entity_id, moment, "PENDING"
                statuses.pop(at.entity_id, None)
            case StepStarted():
                statuses.setdefault(at.entity_id, "RUNNING")
            case RunCancelRequested():
                # Before anything began it is over at once, which the next event says.
                statuses[at.entity_id] = "CANCELLING"
            case RunEnded(status=status):
                statuses[at.entity_id] = status
            case _:
                await _definition(connection, at)
    if triggered:
        await connection.executemany(
            "insert into workflow_last_runs values ($1, $2, $3, $4) on conflict (workflow_name)"
            " do update set run_id = excluded.run_id, triggered_at = excluded.triggered_at, status = excluded.status",
            [(name, *run) for name, run in triggered.items()],
        )
    if statuses:
        await connection.execute(
            "update workflow_last_runs r set status = u.status from unnest($1::text[], $2::text[]) as u(run_id, status)"
            " where r.run_id = u.run_id and (u.status <> 'RUNNING' or r.status = 'PENDING')",
            list(statuses),
            list(statuses.values()),
        )


async def _definition(connection: Connection, at: AnyRecorded) -> None:
    name = at.entity_id
    match at.event:
        case WorkflowDefined() as event:
            await connection.execute(
                "insert into workflows values ($1, $2, $3, $4, $5, true, $6, $7, $8, $9, $10, $9)"
                " on conflict (workflow_name) do update set domain = excluded.domain,"
                " description = excluded.description, version = excluded.version, step_count = excluded.step_count,"
                " tags = excluded.tags, parameters = excluded.parameters, targets = excluded.targets,"
                " updated_at = excluded.updated_at",
                name,
                event.domain,
                event.description,
                event.version,
                len(event.outlines),
                event.tags,
                msgspec.json.encode(event.parameters).decode(),
                event.targets,
                event.defined_at,
                event.defined_by,
            )
        case WorkflowActivated(activated_at=moment) | WorkflowDeactivated(deactivated_at=moment):
            is_active = isinstance(at.event, WorkflowActivated)
            query = "update workflows set is_active = $2, updated_at = $3 where workflow_name = $1"
            await connection.execute(query, name, is_active, moment)
        case WorkflowDeleted():
            await connection.execute("delete from workflows where workflow_name = $1", name)


PROJECTION: Final = Projection(
    name="workflows",
    version=1,
    on=(
        WorkflowDefined, WorkflowActivated, WorkflowDeactivated, WorkflowDeleted, RunTriggered, StepStarted,
        RunCancelRequested, RunEnded,
    ),
    ddl=files("projections") / "workflows.sql",
    on_batch=project,
)  # fmt: skip


async def page(
    connection: Queryable, domain: str | None, tag: str | None, is_active: bool | None, window: Window
) -> Rows:
    """Those in a domain, with a tag, that are active or not."""
    where = Where()
    where.equal("domain", domain)
    where.equal("is_active", is_active)
    if tag is not None:
        where.add("tags @> array[{}::text]", tag)
    return await select(connection, columns="*", source=_WITH_LAST_RUN, where=where, window=window)


async def last_run(connection: Queryable, name: str) -> tuple[datetime, str] | None:
    """When a workflow was last triggered, and how that run stands."""
    row = await connection.fetchrow(
        "select triggered_at, status from workflow_last_runs where workflow_name = $1", name
    )
    return None if row is None else (row["triggered_at"], row["status"])


async def users_of(connection: Queryable, name: str) -> list[str]:
    """The other workflows with steps that start this one."""
    rows = await connection.fetch(
        "select workflow_name from workflows where targets @> array[$1::text] and workflow_name <> $1"
        " order by workflow_name limit $2",
        name,
        USERS_MAX,
    )
    return [row["workflow_name"] for row in rows]
