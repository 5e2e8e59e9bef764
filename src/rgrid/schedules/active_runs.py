"""The runs of a schedule that haven't ended: what each of them waits for, and which may begin or must stop. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

import msgspec

from rgrid.schedules.events import RunTrigger

Stage = Literal["waiting", "pending", "running"]


class ActiveRun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A schedule run that hasn't ended. `waiting` for a place, `pending` with a place until its target begins at
    `start_at`, then `running`. `stopping`: it makes way for another one."""

    schedule_run_id: str
    due_at: datetime
    trigger: RunTrigger
    stage: Stage
    start_at: datetime
    target_id: str | None = None
    params_sha256: str | None = None
    requested_by: str | None = None
    backfill_id: str | None = None
    stopping: bool = False
    terminated: bool = False


Runs = Mapping[str, ActiveRun]
"""By id, in the order in which they came up."""


def holding(runs: Runs) -> list[ActiveRun]:
    """Those that take a place, oldest first."""
    return [run for run in runs.values() if run.stage != "waiting"]


def waiting(runs: Runs, backfill_id: str | None = None) -> list[ActiveRun]:
    """Those that wait for a place of the schedule, or of one backfill, in the order in which they are to get it."""
    return [run for run in runs.values() if run.stage == "waiting" and run.backfill_id == backfill_id]


def startable(runs: Runs, now: datetime) -> list[ActiveRun]:
    """Whose target is to begin now."""
    return [run for run in runs.values() if run.stage == "pending" and run.start_at <= now]


def to_stop(runs: Runs) -> list[ActiveRun]:
    """Whose target is to be stopped, `terminated` without grace, because another run takes the place."""
    return [run for run in runs.values() if run.stopping and run.stage == "running"]


def droppable(runs: Runs) -> list[str]:
    """What doesn't begin any more when the schedule is disabled. What somebody asked for by hand does."""
    return [run.schedule_run_id for run in runs.values() if run.stage != "running" and run.trigger != "MANUAL"]


def without(runs: Runs, gone: Iterable[str]) -> dict[str, ActiveRun]:
    """The runs but these."""
    left = set(gone)
    return {run_id: run for run_id, run in runs.items() if run_id not in left}
