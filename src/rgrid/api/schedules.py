"""Schedules over HTTP: make, list, look at, change, enable, disable, take away."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import UnsetType

from projections import schedule_names, schedules
from rgrid.api import as_of, lists, schedule_requests, schedule_views
from rgrid.api.grid import Grid
from rgrid.api.schedule_requests import NoteRequest, ScheduleCreate, ScheduleFilter, ScheduleUpdate
from rgrid.api.schedule_targets import ScheduleTargets
from rgrid.api.schedule_views import ScheduleResponse
from rgrid.eventstore.handle import Handled
from rgrid.kernel.clock import now
from rgrid.kernel.errors import Conflict, StaleVersion, Unavailable
from rgrid.kernel.ids import is_id, new_id
from rgrid.schedules.commands import (
    CreateSchedule,
    DeleteSchedule,
    DisableSchedule,
    EnableSchedule,
    ReviseSchedule,
)
from rgrid.schedules.schedule import DECIDER
from rgrid.schedules.schedule_state import Schedule
from rgrid.schedules.timing import check
from rgrid.subscriptions.past import past
from rgrid.web.conditional import ANY_VERSION
from rgrid.web.operation import ActionResponse, Call, NoQuery, Operation, Reply, missing
from rgrid.web.pages import Page

PATH: Final = "/api/v1/schedules"
TAGS: Final = ("schedules",)
LATE: Final = (503,)
BEATEN_MAX: Final = 5
"""So often a schedule may fire between the look at it and the change of it."""


class Schedules:
    """The controllers. Each sends one command or runs one query."""

    def __init__(self, grid: Grid, targets: ScheduleTargets) -> None:
        self._grid = grid
        self._targets = targets

    async def create(self, call: Call[NoQuery, ScheduleCreate]) -> Reply:
        body, schedule_id = call.body, new_id("sched")
        schedule_requests.check_name(body.name)
        kind = schedule_requests.target_type_of(body.target_type)
        params = schedule_requests.params_of(body)
        assert not isinstance(params, UnsetType)
        timing = schedule_requests.timing_of(body)
        check(timing, now())
        await self._targets.check(kind, body.target_name, params)
        command = CreateSchedule(
            schedule_id=schedule_id,
            name=body.name,
            target=await self._targets.target(kind, body.target_name, params),
            timing=timing,
            rules=schedule_requests.rules_of(body),
            enabled=body.enabled,
            description=body.description,
            tags=body.tags,
            created_by=call.actor.actor,
        )
        status = "enabled" if body.enabled else "disabled"
        made = ActionResponse(id=schedule_id, status=status, message=f"The schedule {body.name} was made.")
        reply = Reply(201, made, location=f"{PATH}/{schedule_id}")
        try:
            handled = await self._grid.handler.handle(
                DECIDER, schedule_id, command, call.cause(), new=True, riders=lambda *_: call.riders(reply)
            )
        except Conflict as conflict:
            if conflict.code != schedule_names.TAKEN:
                raise
            raise Conflict(f"There is a schedule called {body.name} already.", code="duplicate_name") from None
        reply.position = handled.position
        return reply

    async def listed(self, call: Call[ScheduleFilter, None]) -> Reply:
        asked = call.query
        wanted = schedules.Filter(
            name=asked.name,
            enabled=asked.enabled,
            target_type=schedule_requests.target_type_of(asked.target_type, "query.target_type")
            if asked.target_type is not None
            else None,
            target_name=asked.target_name,
            tag=asked.tag,
        )
        keys = (schedules.KEYS[call.page.sort], schedules.KEYS["schedule_id"])
        window = lists.window(call.page, keys)
        position = None
        if call.as_of is None:
            await self._grid.caught_up()
            rows = await schedules.page(self._grid.pool, wanted, window)
        else:
            position = await as_of.position(self._grid.store, call.as_of)
            async with past(self._grid.pool, self._grid.store, schedules.PROJECTION, position) as connection:
                rows = await schedules.page(connection, wanted, window)
        hashes = {row["params_sha256"] for row in rows.rows}
        found = dict(zip(hashes, await self._targets.params.load_all(list(hashes)), strict=True))

        def item(row: Mapping[str, Any]) -> ScheduleResponse:
            return schedule_views.schedule(row, found[row["params_sha256"]])

        return Reply(200, lists.page(rows, call.page, keys, item), as_of_position=position)

    async def one(self, call: Call[NoQuery, None]) -> Reply:
        schedule_id = call.path["schedule_id"]
        if call.as_of is None:
            row = await find(self._grid, schedule_id)
            return Reply(200, await self._shown(row), etag=row["version"])
        position = await as_of.position(self._grid.store, call.as_of)
        events = []
        if is_id("sched", schedule_id):
            events = await self._grid.store.read_stream(DECIDER.stream_id(schedule_id), to_position=position)
        earlier = schedules.fold(events)
        if earlier is None:
            raise missing("Schedule", schedule_id)
        return Reply(200, await self._shown(earlier), as_of_position=position)

    async def revise(self, call: Call[NoQuery, ScheduleUpdate]) -> Reply:
        schedule_requests.check_nulls(call.body)
        given = schedule_requests.params_of(call.body)
        for _ in range(BEATEN_MAX):
            state, version = await load(self._grid, call.path["schedule_id"])
            command = await self._revision(call, state, given)
            expected = version if call.if_match in (None, ANY_VERSION) else call.if_match
            try:
                handled = await self._grid.handler.handle(
                    DECIDER, state.schedule_id, command, call.cause(), expected_version=expected
                )
            except StaleVersion:
                if call.if_match in (None, ANY_VERSION):
                    continue  # It has fired meanwhile: what is to stay is read again.
                raise
            row = await self._after(handled, state.schedule_id)
            return Reply(200, await self._shown(row), etag=row["version"], position=handled.position)
        raise Unavailable("The schedule fires too often to be changed just now.")

    async def _revision(
        self, call: Call[NoQuery, ScheduleUpdate], state: Schedule, params: dict[str, Any] | UnsetType | None
    ) -> ReviseSchedule:
        body, target = call.body, state.target
        if not isinstance(params, UnsetType):
            await self._targets.check(target.type, target.name, params)
            target = await self._targets.target(target.type, target.name, params)
        return ReviseSchedule(
            target=target,
            timing=schedule_requests.retimed(body, state.timing),
            rules=schedule_requests.reruled(body, state.rules),
            description=state.description if isinstance(body.description, UnsetType) else body.description,
            tags=state.tags if isinstance(body.tags, UnsetType) or body.tags is None else body.tags,
            enabled=None if isinstance(body.enabled, UnsetType) else body.enabled,
            revised_by=call.actor.actor,
        )

    async def delete(self, call: Call[NoQuery, None]) -> Reply:
        state, _ = await load(self._grid, call.path["schedule_id"])
        expected = None if call.if_match == ANY_VERSION else call.if_match
        handled = await self._grid.handler.handle(
            DECIDER,
            state.schedule_id,
            DeleteSchedule(deleted_by=call.actor.actor),
            call.cause(),
            expected_version=expected,
        )
        body = ActionResponse(id=state.schedule_id, status="deleted", message="Its runs and their history stay.")
        return Reply(200, body, position=handled.position)

    async def enable(self, call: Call[NoQuery, None]) -> Reply:
        state, _ = await load(self._grid, call.path["schedule_id"])
        handled = await self._grid.handler.handle(
            DECIDER, state.schedule_id, EnableSchedule(enabled_by=call.actor.actor), call.cause()
        )
        message = "It fires again." if handled.events else "It was enabled already."
        body = ActionResponse(id=state.schedule_id, status="enabled", message=message)
        return Reply(200, body, position=handled.position)

    async def disable(self, call: Call[NoQuery, NoteRequest | None]) -> Reply:
        state, _ = await load(self._grid, call.path["schedule_id"])
        command = DisableSchedule(disabled_by=call.actor.actor, note=call.body.note if call.body else None)
        handled = await self._grid.handler.handle(DECIDER, state.schedule_id, command, call.cause())
        message = "It fires no more." if handled.events else "It was disabled already."
        body = ActionResponse(id=state.schedule_id, status="disabled", message=message)
        return Reply(200, body, position=handled.position)

    async def _shown(self, row: Mapping[str, Any]) -> ScheduleResponse:
        return schedule_views.schedule(row, await self._targets.params.load(row["params_sha256"]))

    async def _after(self, handled: Handled[Any, Any], schedule_id: str) -> Mapping[str, Any]:
        """The row with what was just written."""
        if handled.position:
            await self._grid.reached(handled.position, [schedules.PROJECTION.name])
        return await find(self._grid, schedule_id)


async def load(grid: Grid, schedule_id: str) -> tuple[Schedule, int]:
    """The schedule as the log has it, and its version. Raises NotFound."""
    if is_id("sched", schedule_id):
        state, version = await grid.handler.load(DECIDER, schedule_id)
        if state.exists:
            return state, version
    raise missing("Schedule", schedule_id)


async def find(grid: Grid, schedule_id: str) -> Mapping[str, Any]:
    """The row of a schedule. Raises NotFound; Unavailable when it was just made and isn't on the read side in time."""
    await grid.caught_up()
    row = await schedules.get(grid.pool, schedule_id)
    if row is None:
        await load(grid, schedule_id)
        raise Unavailable(f"Schedule {schedule_id} was just made; ask again.", code="position_not_reached")
    return row


def declare(
    method: Any, sub: str, auth: Any, handler: Callable[..., Any], ok: Any, *flags: Any, **more: Any
) -> Operation:
    """An operation below the path of schedules."""
    return Operation(
        method=method, path=PATH + sub, auth=auth, handler=handler, ok=ok, flags=frozenset(flags), tags=TAGS, **more
    )


def operations(grid: Grid, targets: ScheduleTargets) -> list[Operation]:
    controllers = Schedules(grid, targets)
    one = "/{schedule_id}"
    return [
        declare(
            "GET", "", "read", controllers.listed, {200: Page[ScheduleResponse]}, "page", "as_of",
            query=ScheduleFilter, sort=("created_at", "name", "next_run_at", "last_run_at"),
            summary="List schedules, newest first.",
        ),
        declare(
            "POST", "", "run", controllers.create, {201: ActionResponse}, "idem", "mutates", body=ScheduleCreate,
            summary="Start something again and again, or once at a time to come.",
        ),
        declare(
            "GET", one, "read", controllers.one, {200: ScheduleResponse}, "etag", "as_of", errors=LATE,
            summary="Look at one schedule.",
        ),
        declare(
            "PATCH", one, "run", controllers.revise, {200: ScheduleResponse}, "if_match", "mutates",
            body=ScheduleUpdate, errors=(409, *LATE),
            summary="Change a schedule. With new times it counts from now on; an old time never fires.",
        ),
        declare(
            "DELETE", one, "run", controllers.delete, {200: ActionResponse}, "if_match", "mutates",
            summary="Take a schedule away. What it has started goes on.",
        ),
        declare(
            "POST", one + "/enable", "run", controllers.enable, {200: ActionResponse}, "mutates", errors=(409,),
            summary="Let a schedule fire again, from now on.",
        ),
        declare(
            "POST", one + "/disable", "run", controllers.disable, {200: ActionResponse}, "mutates", body=NoteRequest,
            body_optional=True, summary="Let a schedule fire no more until it is enabled; with a note that says why.",
        ),
    ]  # fmt: skip
