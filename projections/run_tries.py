"""How long did the steps of a workflow take, and which executions did a run start, with the runs below it?"""

from collections.abc import Sequence
from importlib.resources import files
from typing import Final

import msgspec

from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.paging import Queryable
from rgrid.postgres.pool import Connection
from rgrid.subscriptions.projection import Projection
from rgrid.workflows.events import RunTriggered, StepCompleted, StepStarted

SAMPLES_MAX: Final = 50
CHILD_SAMPLES_MAX: Final = 3
CHILD_EXECUTIONS_MAX: Final = 100_000
EXECUTIONS_MAX: Final = 20_000


async def project(connection: Connection, batch: Sequence[AnyRecorded]) -> None:
    """At most three statements a batch, whatever its size."""
    runs = [at for at in batch if isinstance(at.event, RunTriggered)]
    if runs:
        await connection.execute(
            "insert into run_tries_runs (run_id, workflow_name, parent_run_id, parent_step, parent_attempt)"
            " select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[])",
            [at.entity_id for at in runs],
            [at.event.workflow_name for at in runs],
            *([getattr(at.event.parent, name, None) for at in runs] for name in ("run_id", "step", "attempt")),
        )
    begun = [at for at in batch if isinstance(at.event, StepStarted)]
    if begun:
        await connection.execute(
            "insert into run_tries (run_id, step, attempt, workflow_name, execution_id, position, started_at)"
            " select u.run_id, u.step, u.attempt, r.workflow_name, u.execution_id, u.position, u.started_at"
            " from unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::bigint[], $6::timestamptz[])"
            " as u(run_id, step, attempt, execution_id, position, started_at) join run_tries_runs r using (run_id)",
            [at.entity_id for at in begun],
            [at.event.step for at in begun],
            [at.event.attempt for at in begun],
            [at.event.execution_id for at in begun],
            [at.position for at in begun],
            [at.event.started_at for at in begun],
        )
    ended = [at for at in batch if isinstance(at.event, StepCompleted)]
    if ended:
        await connection.execute(
            "update run_tries t set duration_ms = (extract(epoch from u.ended_at - t.started_at) * 1000)::bigint"
            " from unnest($1::text[], $2::text[], $3::int[], $4::timestamptz[]) as u(run_id, step, attempt, ended_at)"
            " where t.run_id = u.run_id and t.step = u.step and t.attempt = u.attempt",
            [at.entity_id for at in ended],
            [at.event.step for at in ended],
            [at.event.attempt for at in ended],
            [at.event.completed_at for at in ended],
        )


PROJECTION: Final = Projection(
    name="run_tries",
    version=1,
    on=(RunTriggered, StepStarted, StepCompleted),
    ddl=files("projections") / "run_tries.sql",
    on_batch=project,
)


class Lately(msgspec.Struct, frozen=True, kw_only=True):
    """How a step of a workflow did lately: the last tries that completed, their durations in ascending order."""

    step: str
    durations_ms: list[int]
    execution_ids: list[str]


class Below(msgspec.Struct, frozen=True, kw_only=True):
    """What one of the last completed tries of a step with child runs started through them."""

    step: str
    execution_ids: list[str]


class StartedExecution(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that a step of a run started."""

    execution_id: str
    run_id: str
    step: str
    attempt: int


async def lately(connection: Queryable, workflow_name: str, steps: Sequence[str]) -> dict[str, Lately]:
    """By step; those that never completed are left out."""
    rows = await connection.fetch(
        "select s.step, array_agg(t.duration_ms order by t.duration_ms) as durations_ms,"
        " array_remove(array_agg(t.execution_id), null) as execution_ids"
        " from unnest($2::text[]) as s(step) cross join lateral ("
        "select duration_ms, execution_id from run_tries where workflow_name = $1 and step = s.step"
        " and duration_ms is not null order by position desc limit $3) t group by s.step",
        workflow_name,
        list(steps),
        SAMPLES_MAX,
    )
    return {row["step"]: Lately(**dict(row)) for row in rows}


async def below(connection: Queryable, workflow_name: str, steps: Sequence[str]) -> list[Below] | None:
    """The executions of child runs, by try, for the last CHILD_SAMPLES_MAX that completed of each step; None when they
    are more than CHILD_EXECUTIONS_MAX. Tries without any are left out."""
    rows = await connection.fetch(
        "with recursive recent as ("
        "select s.step, t.run_id, t.attempt from unnest($2::text[]) as s(step) cross join lateral ("
        "select run_id, attempt from run_tries where workflow_name = $1 and step = s.step and duration_ms is not null"
        " order by position desc limit $3) t"
        "), below as ("
        "select c.step, c.run_id as top, c.attempt, r.run_id from recent c join run_tries_runs r"
        " on r.parent_run_id = c.run_id and r.parent_step = c.step and r.parent_attempt = c.attempt union all"
        " select b.step, b.top, b.attempt, r.run_id from below b join run_tries_runs r on r.parent_run_id = b.run_id"
        ") select b.step, b.top, b.attempt, t.execution_id from below b join run_tries t on t.run_id = b.run_id"
        " where t.execution_id is not null limit $4",
        workflow_name,
        list(steps),
        CHILD_SAMPLES_MAX,
        CHILD_EXECUTIONS_MAX + 1,
    )
    if len(rows) > CHILD_EXECUTIONS_MAX:
        return None
    tries: dict[tuple[str, str, int], list[str]] = {}
    for row in rows:
        tries.setdefault((row["step"], row["top"], row["attempt"]), []).append(row["execution_id"])
    return [Below(step=step, execution_ids=ids) for (step, _, _), ids in tries.items()]


async def executions(connection: Queryable, run_id: str) -> list[StartedExecution]:
    """Those of a run and of the runs that its steps started, in the order in which they began: the first
    EXECUTIONS_MAX."""
    rows = await connection.fetch(
        "with recursive below as ("
        "select run_id from run_tries_runs where run_id = $1 union all"
        " select r.run_id from below b join run_tries_runs r on r.parent_run_id = b.run_id)"
        " select t.execution_id, t.run_id, t.step, t.attempt from below join run_tries t using (run_id)"
        " where t.execution_id is not null order by t.position, t.execution_id limit $2",
        run_id,
        EXECUTIONS_MAX,
    )
    return [StartedExecution(**dict(row)) for row in rows]
