"""Schedules of one service: made, looked at ahead, paused, and filled in for the past.

with Client("http://127.0.0.1:8000", key) as grid:
    made = grid.schedules.create(NewSchedule("weekly", "WORKFLOW", "refresh", cron_expression="0 6 * * 1"))
    for due in grid.schedules.next_runs(made.id):
        print(due.local_time)
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import msgspec

from rgrid.client.answers import Action
from rgrid.client.blocking import Blocking, blocking, iterating
from rgrid.client.calls import PAGE_MAX, Calls
from rgrid.client.workflow_answers import Backfilled, Due, Exclusion, Schedule, ScheduleRun, Triggered
from rgrid.kernel.converting import convert

COUNT: Final = 5


class NewSchedule(msgspec.Struct, omit_defaults=True):
    """What starts when. Exactly one of `cron_expression`, `interval_seconds` and `run_at`; fields that are left alone
    take the service's defaults."""

    name: str
    target_type: str
    target_name: str
    cron_expression: str | None = None
    interval_seconds: int | None = None
    run_at: datetime | None = None
    timezone: str | None = None
    target_params: dict[str, Any] | None = None
    enabled: bool = True
    max_instances: int | None = None
    overlap_policy: str | None = None
    misfire_policy: str | None = None
    misfire_grace_seconds: int | None = None
    catch_up_limit: int | None = None
    dst_gap: str | None = None
    dst_fold: str | None = None
    jitter_seconds: int | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None
    description: str | None = None
    tags: list[str] | None = None
    exclusions: list[Exclusion] = []
    pause_after_failures: int | None = None


class Timing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When something would be due. Exactly one of the first three."""

    cron_expression: str | None = None
    interval_seconds: int | None = None
    run_at: datetime | None = None
    timezone: str | None = None
    dst_gap: str | None = None
    dst_fold: str | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None
    exclusions: list[Exclusion] = []


class Schedules:
    """`grid.schedules`: what a client can do with schedules, written once for both clients."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(self, schedule: NewSchedule) -> Action:
        """Its id is in the answer."""
        return convert(await self._calls.document("POST", "/schedules", body=schedule), Action)

    async def list(self, /, **filters: object) -> AsyncGenerator[Schedule, None]:
        """All schedules that match: name, enabled, target_type, target_name, tag."""
        async for page in self._calls.pages("/schedules", {"limit": PAGE_MAX, **filters}):
            for row in convert(page["data"], list[Schedule]):
                yield row

    async def get(self, schedule_id: str) -> Schedule:
        return convert(await self._calls.document("GET", _path(schedule_id)), Schedule)

    async def patch(self, schedule_id: str, /, **fields: object) -> Schedule:
        """Gives it other values; None clears one."""
        return convert(await self._calls.document("PATCH", _path(schedule_id), body=fields), Schedule)

    async def delete(self, schedule_id: str) -> Action:
        """Nothing fires any more; what it did stays readable."""
        return convert(await self._calls.document("DELETE", _path(schedule_id)), Action)

    async def enable(self, schedule_id: str) -> Action:
        return convert(await self._calls.document("POST", f"{_path(schedule_id)}/enable"), Action)

    async def disable(self, schedule_id: str, note: str | None = None) -> Action:
        """Lets nothing be due; what runs goes on."""
        body = {"note": note} if note else None
        return convert(await self._calls.document("POST", f"{_path(schedule_id)}/disable", body=body), Action)

    async def run_now(self, schedule_id: str, params: Mapping[str, Any] | None = None) -> Triggered:
        """Starts its target at once; `params` are laid over the stored ones."""
        body = {"target_params": dict(params)} if params else None
        answer = await self._calls.document("POST", f"{_path(schedule_id)}/run-now", body=body)
        return convert(answer, Triggered)

    async def backfill(
        self,
        schedule_id: str,
        start: datetime,
        end: datetime,
        *,
        max_parallel: int = 1,
        force: bool = False,
        dry_run: bool = False,
    ) -> Backfilled:
        """Runs the due times of a past range, `end` excluded; with `force` also those that completed already."""
        body = {"start": start, "end": end, "max_parallel": max_parallel, "force": force, "dry_run": dry_run}
        answer = await self._calls.document("POST", f"{_path(schedule_id)}/backfill", body=body)
        return convert(answer, Backfilled)

    async def runs(self, schedule_id: str | None = None, /, **filters: object) -> AsyncGenerator[ScheduleRun, None]:
        """The decisions about due times, newest first, of one schedule or of all: status, trigger, since, until."""
        path = f"{_path(schedule_id)}/runs" if schedule_id else "/schedules/runs"
        async for page in self._calls.pages(path, {"limit": PAGE_MAX, **filters}):
            for row in convert(page["data"], list[ScheduleRun]):
                yield row

    async def next_runs(self, schedule_id: str | None = None, count: int = COUNT) -> Sequence[Due]:
        """The next due times of one schedule, or of all that are enabled."""
        path = f"{_path(schedule_id)}/next-runs" if schedule_id else "/schedules/preview-next"
        page = await self._calls.document("GET", path, query={"count": count})
        found: Sequence[Due] = convert(page["data"], list[Due])
        return found

    async def preview(self, timing: Timing, count: int = COUNT, after: datetime | None = None) -> Sequence[Due]:
        """When this would be due, without saving anything."""
        body = {**msgspec.to_builtins(timing), "count": count}
        if after is not None:
            body["after"] = after
        page = await self._calls.document("POST", "/schedules/preview", body=body)
        found: Sequence[Due] = convert(page["data"], list[Due])
        return found


class BlockingSchedules(Blocking[Schedules]):
    """The same for plain programs. What each call does is written at `Schedules`."""

    create = blocking(Schedules.create)
    list = iterating(Schedules.list)
    get = blocking(Schedules.get)
    patch = blocking(Schedules.patch)
    delete = blocking(Schedules.delete)
    enable = blocking(Schedules.enable)
    disable = blocking(Schedules.disable)
    run_now = blocking(Schedules.run_now)
    backfill = blocking(Schedules.backfill)
    runs = iterating(Schedules.runs)
    next_runs = blocking(Schedules.next_runs)
    preview = blocking(Schedules.preview)


def _path(schedule_id: str) -> str:
    return f"/schedules/{quote(schedule_id, safe='')}"
