"""What schedules have started and will start, over HTTP: run now, fill in the past, runs, and what is due next."""

import heapq
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final, Literal

import msgspec
from msgspec import UnsetType

from projections import executions, schedule_runs, schedules
from rgrid.api import lists, schedule_requests, schedule_views
from rgrid.api.grid import Grid
from rgrid.api.schedule_requests import (
    AllRunsFilter,
    BackfillRequest,
    CountQuery,
    NextQuery,
    RunNowRequest,
    SchedulePreviewRequest,
    ScheduleRunFilter,
)
from rgrid.api.schedule_targets import ScheduleTargets
from rgrid.api.schedule_views import BackfillResponse, NextRunPreview, ScheduleRunSummary
from rgrid.api.schedules import LATE, declare, find, load
from rgrid.kernel.clock import now
from rgrid.kernel.errors import Conflict, Invalid, StaleVersion, Unavailable
from rgrid.kernel.ids import new_id
from rgrid.schedules.active_runs import ActiveRun
from rgrid.schedules.commands import Backfill, RunNow
from rgrid.schedules.events import TargetType, run_id_of
from rgrid.schedules.schedule import BACKFILL_MAX, DECIDER
from rgrid.schedules.schedule_state import Schedule
from rgrid.schedules.timing import check, due, occurrences
from rgrid.web.operation import Call, NoQuery, Operation, Reply, missing
from rgrid.web.pages import Page, PageRequest, Pagination

BEATEN_MAX: Final = 5
_TICK: Final = timedelta(microseconds=1)
_PLACES: Final[Mapping[TargetType, str]] = {
    "EXECUTION": "/api/v1/executions",
    "WORKFLOW": "/api/v1/workflows/runs",
    "SOURCE": "/api/v1/sources/fetches",
}


class StartedRun(msgspec.Struct, kw_only=True):
    """What was started: `run_id` is its id, `schedule_run_id` that of the schedule's record of it."""

    run_id: str
    workflow_name: str | None
    status: Literal["PENDING", "STARTED"]
    message: str
    target_type: TargetType
    schedule_run_id: str | None


class ScheduleRuns:
    """The controllers. Each sends one command or runs one query."""

    def __init__(self, grid: Grid, targets: ScheduleTargets) -> None:
        self._grid = grid
        self._targets = targets

    async def run_now(self, call: Call[NoQuery, RunNowRequest | None]) -> Reply:
        params = None if call.body is None else schedule_requests.params_of(call.body)
        assert not isinstance(params, UnsetType)
        state, _ = await load(self._grid, call.path["schedule_id"])
        overlay, _size = await self._targets.params.store(params)
        moment = now()
        run = ActiveRun(
            schedule_run_id=new_id("srun"), due_at=moment, trigger="MANUAL", stage="pending", start_at=moment,
            params_sha256=overlay, requested_by=call.actor.actor,
        )  # fmt: skip
        kind = state.target.type
        target_id = self._targets.new_id(kind)
        stream = await self._targets.begin(state, run, target_id)
        command = RunNow(
            schedule_run_id=run.schedule_run_id, target_id=target_id, params_sha256=overlay,
            requested_by=call.actor.actor,
        )  # fmt: skip
        body = StartedRun(
            run_id=target_id,
            workflow_name=state.target.name if kind == "WORKFLOW" else None,
            status="PENDING",
            message=f"{state.target.name} was started, whatever the schedule says.",
            target_type=kind,
            schedule_run_id=run.schedule_run_id,
        )
        reply = Reply(202, body, location=f"{_PLACES[kind]}/{target_id}")
        handled = await self._grid.handler.handle(
            DECIDER,
            state.schedule_id,
            command,
            call.cause(),
            along=lambda *_: [stream],
            riders=lambda *_: call.riders(reply),
        )
        reply.position = handled.position
        return reply

    async def backfill(self, call: Call[NoQuery, BackfillRequest]) -> Reply:
        asked, schedule_id = call.body, call.path["schedule_id"]
        start, end = schedule_requests.utc(asked.start), schedule_requests.utc(asked.end)
        assert start is not None
        assert end is not None
        _check_range(start, end, now())
        for _ in range(BEATEN_MAX):
            state, version = await load(self._grid, schedule_id)
            times = _times(state, start, end)
            left = times if asked.force else await self._not_done(state, times)
            try:
                return await self._fill_in(call, state, version, left, len(times) - len(left))
            except StaleVersion:
                continue  # It has fired meanwhile: what is done already is looked up again.
        raise Unavailable("The schedule fires too often to be filled in just now.")

    async def _not_done(self, state: Schedule, times: Sequence[datetime]) -> list[datetime]:
        if not times:
            return []
        await self._grid.reached(await self._grid.store.head(), [schedule_runs.PROJECTION.name])
        done = await schedule_runs.done_or_under_way(self._grid.pool, state.schedule_id, times[0], times[-1])
        return [at for at in times if at not in done]

    async def _fill_in(
        self, call: Call[NoQuery, BackfillRequest], state: Schedule, version: int, times: list[datetime], skipped: int
    ) -> Reply:
        backfill_id = new_id("backfill")
        command = Backfill(
            backfill_id=backfill_id, due_at=times, max_parallel=call.body.max_parallel, requested_by=call.actor.actor
        )
        is_dry = call.body.dry_run
        body = BackfillResponse(
            id=state.schedule_id,
            status="dry_run" if is_dry else "accepted",
            message=f"{len(times)} due times {'would run' if is_dry else 'run'}, oldest first; {skipped} are left out.",
            count=len(times),
            skipped=skipped,
            occurrences=times,
            schedule_run_ids=[] if is_dry else [run_id_of(state.schedule_id, at, backfill_id) for at in times],
        )
        reply = Reply(202, body)
        if is_dry:
            # What would be refused is refused now, too.
            DECIDER.decide(command, state, now())
            return reply
        handled = await self._grid.handler.handle(
            DECIDER,
            state.schedule_id,
            command,
            call.cause(),
            expected_version=version,
            riders=lambda *_: call.riders(reply),
        )
        reply.position = handled.position
        return reply

    async def runs(self, call: Call[ScheduleRunFilter, None]) -> Reply:
        schedule_id = call.path["schedule_id"]
        await self._grid.caught_up()
        if not await schedule_runs.is_known(self._grid.pool, schedule_id):
            raise missing("Schedule", schedule_id)
        wanted = schedule_runs.Filter(schedule_id=schedule_id, **msgspec.structs.asdict(call.query))
        return await self._page(call.page, wanted)

    async def all_runs(self, call: Call[AllRunsFilter, None]) -> Reply:
        await self._grid.caught_up()
        return await self._page(call.page, schedule_runs.Filter(**msgspec.structs.asdict(call.query)))

    async def _page(self, request: PageRequest, wanted: schedule_runs.Filter) -> Reply:
        keys = (schedule_runs.KEYS[request.sort], schedule_runs.KEYS["schedule_run_id"])
        rows = await schedule_runs.page(self._grid.pool, wanted, lists.window(request, keys))
        return Reply(200, lists.page(rows, request, keys, schedule_views.run))

    async def next_runs(self, call: Call[CountQuery, None]) -> Reply:
        row = await find(self._grid, call.path["schedule_id"])
        cost_micros = await self._expected_cost(row)
        return _previews(_next_of(row, call.query.count, cost_micros), call.query.count)

    async def preview_next(self, call: Call[NextQuery, None]) -> Reply:
        count, schedule_id = call.query.count, call.query.schedule_id
        if schedule_id is not None:
            return _previews(_next_of(await find(self._grid, schedule_id), count), count)
        await self._grid.caught_up()
        rows = await schedules.soonest(self._grid.pool, count)
        merged = heapq.merge(*(_next_of(row, count) for row in rows), key=lambda one: one.next_run_at)
        return _previews(list(islice(merged, count)), count)

    async def preview(self, call: Call[NoQuery, SchedulePreviewRequest]) -> Reply:
        moment = now()
        timing = schedule_requests.timing_of(call.body)
        check(timing, moment)
        after = schedule_requests.utc(call.body.after) or moment
        found = occurrences(timing, after, after, call.body.count)
        return _previews([schedule_views.preview(timing, one) for one in found], call.body.count)

    async def _expected_cost(self, row: Mapping[str, Any]) -> int | None:
        """What the last executions of the schedule came to, on average; None while there is nothing to go by."""
        if row["target_type"] != "EXECUTION":
            return None
        last = await schedule_runs.last_targets(self._grid.pool, row["schedule_id"])
        return await executions.average_cost(self._grid.pool, last)


def _check_range(start: datetime, end: datetime, moment: datetime) -> None:
    wrong = [("end", "Later than now.")] if end > moment else []
    if start >= end:
        wrong.append(("start", "Not before the end."))
    if wrong:
        raise Invalid("The range lies in the past and begins before it ends.", code="invalid_range", fields=wrong)


def _times(state: Schedule, start: datetime, end: datetime) -> list[datetime]:
    """The due times of the range. Raises Invalid for too many."""
    if state.timing.run_at is not None:
        raise Conflict("A schedule with one date has nothing to fill in.", code="not_repeating")
    found = due(state.timing, state.interval_anchor, start - _TICK, end - _TICK)
    times = [one.at for one in islice(found, BACKFILL_MAX + 1)]
    if len(times) > BACKFILL_MAX:
        why = f"There are more than {BACKFILL_MAX} due times between start and end."
        raise Invalid(why, code="too_many_occurrences", fields=[("end", "Nearer to the start.")])
    return times


def _next_of(row: Mapping[str, Any], count: int, cost_micros: int | None = None) -> list[NextRunPreview]:
    """What is due next, the due time that is to be decided first included; nothing of a disabled schedule."""
    if row["next_run_at"] is None:
        return []
    timing = schedule_views.timing_in(row)
    found = occurrences(timing, row["anchored_at"], row["next_run_at"] - _TICK, count)
    return [schedule_views.preview(timing, one, row, cost_micros) for one in found]


def _previews(found: list[NextRunPreview], count: int) -> Reply:
    pagination = Pagination(offset=0, limit=count, total=len(found), has_more=False, next_cursor=None)
    return Reply(200, Page(found, pagination))


def operations(grid: Grid, targets: ScheduleTargets) -> list[Operation]:
    controllers = ScheduleRuns(grid, targets)
    one, by_time = "/{schedule_id}", ("scheduled_at", "started_at")
    return [
        declare(
            "GET", "/runs", "read", controllers.all_runs, {200: Page[ScheduleRunSummary]}, "page",
            query=AllRunsFilter, sort=by_time, summary="List what became of the due times of all schedules.",
        ),
        declare(
            "GET", "/preview-next", "read", controllers.preview_next, {200: Page[NextRunPreview]}, query=NextQuery,
            errors=(404, *LATE), summary="Show what is due next, over all enabled schedules.",
        ),
        declare(
            "POST", "/preview", "read", controllers.preview, {200: Page[NextRunPreview]}, body=SchedulePreviewRequest,
            summary="Show when something would be due, without saving it.",
        ),
        declare(
            "POST", one + "/run-now", "run", controllers.run_now, {202: StartedRun}, "idem", "mutates",
            body=RunNowRequest, body_optional=True, errors=(402, 410),
            summary="Start the target of a schedule now, whatever its times and rules say.",
        ),
        declare(
            "POST", one + "/backfill", "run", controllers.backfill, {202: BackfillResponse}, "idem", "mutates",
            body=BackfillRequest, errors=LATE, summary="Run due times of the past, oldest first.",
        ),
        declare(
            "GET", one + "/runs", "read", controllers.runs, {200: Page[ScheduleRunSummary]}, "page",
            query=ScheduleRunFilter, sort=by_time, summary="List what became of the due times of a schedule.",
        ),
        declare(
            "GET", one + "/next-runs", "read", controllers.next_runs, {200: Page[NextRunPreview]}, query=CountQuery,
            errors=LATE, summary="Show when a schedule is due next.",
        ),
    ]  # fmt: skip
