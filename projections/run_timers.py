"""Which times do runs wait for: the end of a WAIT, the next try of a step, the timeouts of steps and runs?"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from typing import Final

import msgspec

from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.paging import Queryable
from rgrid.postgres.pool import Connection
from rgrid.subscriptions.projection import Projection
from rgrid.workflows.events import (
    RunCancelRequested,
    RunEnded,
    RunTimedOut,
    RunTriggered,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepWoken,
    Wake,
)

PAGE_MAX: Final = 500
_OF_STEPS: Final = (StepStarted, StepCompleted, StepFailed, StepWoken, StepSkipped, StepCancelled)
_STOPS: Final = (RunCancelRequested, RunTimedOut, RunEnded)
"""From then on a run waits for no time."""


class Timer(msgspec.Struct, frozen=True, kw_only=True):
    """A time that a run waits for. `step` and `attempt` are None for that of the whole run; the attempt of a retry is
    the one that failed."""

    run_id: str
    kind: Wake
    step: str | None
    attempt: int | None
    due_at: datetime


_Place = tuple[str, str, str]
"""(run, step, kind): a step has one timer of a kind at a time."""


async def project(connection: Connection, batch: Sequence[AnyRecorded]) -> None:
    """What the batch comes to: timers that begin in it, and those of before that are over."""
    fresh: dict[_Place, tuple[int, datetime]] = {}
    steps: set[tuple[str, str]] = set()
    runs: set[str] = set()
    for at in batch:
        run_id, event = at.entity_id, at.event
        if isinstance(event, _STOPS):
            runs.add(run_id)
            fresh = {place: value for place, value in fresh.items() if place[0] != run_id}
        elif isinstance(event, RunTriggered):
            if event.times_out_at is not None:
                fresh[run_id, "", "run_timeout"] = (0, event.times_out_at)
        else:
            steps.add((run_id, event.step))
            for kind in ("wait", "step_timeout", "retry"):
                fresh.pop((run_id, event.step, kind), None)
            for kind, due_at in _timers(event).items():
                fresh[run_id, event.step, kind] = (event.attempt, due_at)
    await _forget(connection, steps, runs)
    await _insert(connection, fresh)


def _timers(event: object) -> Mapping[Wake, datetime]:
    timers: dict[Wake, datetime | None] = {}
    if isinstance(event, StepStarted):
        timers = {"wait": event.wakes_at, "step_timeout": event.times_out_at}
    elif isinstance(event, StepFailed):
        timers = {"retry": event.next_attempt_at}
    return {kind: due_at for kind, due_at in timers.items() if due_at is not None}


async def _forget(connection: Connection, steps: set[tuple[str, str]], runs: set[str]) -> None:
    if steps:
        await connection.execute(
            "delete from run_timers t using unnest($1::text[], $2::text[]) as u(run_id, step)"
            " where t.run_id = u.run_id and t.step = u.step",
            [run_id for run_id, _ in steps],
            [step for _, step in steps],
        )
    if runs:
        await connection.execute("delete from run_timers where run_id = any($1)", list(runs))


async def _insert(connection: Connection, fresh: Mapping[_Place, tuple[int, datetime]]) -> None:
    if fresh:
        await connection.execute(
            "insert into run_timers (run_id, step, kind, attempt, due_at)"
            " select * from unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::timestamptz[])",
            [run_id for run_id, _, _ in fresh],
            [step for _, step, _ in fresh],
            [kind for _, _, kind in fresh],
            [attempt for attempt, _ in fresh.values()],
            [due_at for _, due_at in fresh.values()],
        )


PROJECTION: Final = Projection(
    name="run_timers",
    version=1,
    on=(RunTriggered, *_OF_STEPS, *_STOPS),
    ddl=files("projections") / "run_timers.sql",
    on_batch=project,
)


async def due(connection: Queryable, moment: datetime, after: Timer | None = None) -> list[Timer]:
    """The first PAGE_MAX timers that are due at that moment, the oldest first; `after` continues behind one of them."""
    place = (None, "", "", "") if after is None else (after.due_at, after.run_id, after.step or "", after.kind)
    rows = await connection.fetch(
        "select run_id, kind, nullif(step, '') as step, nullif(attempt, 0) as attempt, due_at from run_timers"
        " where due_at <= $1 and ($2::timestamptz is null or (due_at, run_id, step, kind) > ($2, $3, $4, $5))"
        " order by due_at, run_id, step, kind limit $6",
        moment,
        *place,
        PAGE_MAX,
    )
    return [Timer(**dict(row)) for row in rows]


async def waiting(connection: Queryable, moment: datetime) -> tuple[int, float]:
    """How many timers there are, and by how many seconds the oldest is late."""
    row = await connection.fetchrow(
        "select count(*) as timers, greatest(0, extract(epoch from $1 - min(due_at)))::float8 as late_s"
        " from run_timers",
        moment,
    )
    assert row is not None
    return row["timers"], row["late_s"] or 0.0
