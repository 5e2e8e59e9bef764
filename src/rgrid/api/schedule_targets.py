"""What a schedule starts: whether there is such a target, its parameters in the object store, and how it begins."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from rgrid.api.grid import Grid
from rgrid.api.templates import check_on_grid, execution_from
from rgrid.eventstore.handle import NewStream
from rgrid.executions.events import Origin
from rgrid.kernel.errors import Invalid, NotFound, Rejected
from rgrid.kernel.ids import new_id
from rgrid.schedules.active_runs import ActiveRun
from rgrid.schedules.events import Target, TargetType
from rgrid.schedules.schedule_state import Schedule
from rgrid.workflows.events import RunTrigger
from rgrid.workflows.run import DECIDER as RUN
from rgrid.workflows.starting import runnable, triggered

PARAMS_BYTES_MAX: Final = 16 * 1024 * 1024
KEPT_MAX: Final = 1_000
KEPT_BYTES_MAX: Final = 256 * 1024
AT_ONCE_MAX: Final = 64
PREFIXES: Final[Mapping[TargetType, str]] = {"EXECUTION": "exec", "WORKFLOW": "run", "SOURCE": "fetch"}

Params = dict[str, Any]


class Parameters:
    """Parameters by the hash of their canonical JSON. The small ones that were used last are kept in memory: many
    schedules share them, and they never change."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    async def store(self, params: Params | None) -> tuple[str | None, int]:
        """Their hash and size; (None, 0) for none."""
        if params is None:
            return None, 0
        raw = msgspec.json.encode(params, order="sorted")
        return await self._grid.objects.put_bytes(raw), len(raw)

    async def load(self, sha256: str | None) -> Params | None:
        if sha256 is None:
            return None
        raw = self._kept.get(sha256)
        if raw is None:
            raw = await self._grid.objects.read_bytes(sha256, PARAMS_BYTES_MAX)
            if len(raw) <= KEPT_BYTES_MAX:
                self._kept[sha256] = raw
                if len(self._kept) > KEPT_MAX:
                    self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(sha256)
        params: Params = msgspec.json.decode(raw)
        return params

    async def load_all(self, hashes: Sequence[str | None]) -> list[Params | None]:
        """One for each hash, no more than AT_ONCE_MAX read at a time."""
        found: list[Params | None] = []
        for first in range(0, len(hashes), AT_ONCE_MAX):
            found += await asyncio.gather(*map(self.load, hashes[first : first + AT_ONCE_MAX]))
        return found


class Targets:
    """Looks targets up and begins them."""

    def __init__(self, grid: Grid) -> None:
        self.params = Parameters(grid)
        self._grid = grid

    async def check(self, kind: TargetType, name: str, params: Params | None) -> None:
        """Raises Invalid `unknown_target`, or with every field of the template that is wrong."""
        if kind == "SOURCE":
            raise _unknown(f"Source not found: {name}")
        if kind == "WORKFLOW":
            try:
                await runnable(self._grid.handler, name)
            except NotFound as missing:
                raise _unknown(missing.detail) from None
            except Rejected as inactive:
                # It is there; whether it runs is decided when the time comes.
                assert inactive.code == "workflow_inactive"
            return
        if wrong := await check_on_grid(self._grid, params or {}):
            raise Invalid(
                "target_params are no template of an execution.",
                code="invalid_template",
                fields=[(f"target_params.{field}" if field else "target_params", why) for field, why in wrong],
            )

    async def target(self, kind: TargetType, name: str, params: Params | None) -> Target:
        """The target as the log has it; its parameters are stored."""
        sha256, size = await self.params.store(params)
        return Target(type=kind, name=name, params_sha256=sha256, params_size_bytes=size)

    def new_id(self, kind: TargetType) -> str:
        return new_id(PREFIXES[kind])

    async def begin(self, schedule: Schedule, run: ActiveRun, target_id: str) -> NewStream:
        """What begins the target of a schedule run. Raises what stands in its way: SpendingLimit, NotFound, Rejected,
        Invalid, Malformed, Gone."""
        target = schedule.target
        params = {**(await self.params.load(target.params_sha256) or {})}
        if run.params_sha256 is not None:
            params |= await self.params.load(run.params_sha256) or {}
        by = run.requested_by or "system"
        if target.type == "WORKFLOW":
            return await self._workflow(schedule, run, target_id, params, by)
        if target.type == "SOURCE":
            raise _unknown(f"Source not found: {target.name}")
        origin = Origin(
            schedule_id=schedule.schedule_id,
            schedule_run_id=run.schedule_run_id,
            scheduled_at=run.due_at,
        )
        return await execution_from(self._grid, params, target_id, origin, name=target.name, created_by=by)

    async def _workflow(
        self, schedule: Schedule, run: ActiveRun, run_id: str, params: Params, by: str
    ) -> NewStream:  # fmt: skip
        handler, name = self._grid.handler, schedule.target.name
        causes: dict[str, RunTrigger] = {"SCHEDULE": "SCHEDULE", "BACKFILL": "SCHEDULE", "MANUAL": "MANUAL"}
        declared = [one.name for one in (await runnable(handler, name)).parameters]
        if run.trigger != "MANUAL" and ("scheduled_at" in declared or (run.trigger == "BACKFILL" and not declared)):
            params["scheduled_at"] = shown(run.due_at)
        command = await triggered(
            handler,
            run_id,
            name,
            params,
            trigger=causes[run.trigger],
            triggered_by=by,
            schedule_id=schedule.schedule_id,
            schedule_run_id=run.schedule_run_id,
            due_at=run.due_at,
        )
        return NewStream(RUN, run_id, command)


def shown(moment: datetime) -> str:
    """A moment as the interface writes it."""
    return moment.isoformat().replace("+00:00", "Z")


def _unknown(detail: str) -> Invalid:
    return Invalid(detail, code="unknown_target", fields=[("target_name", "There is no such target.")])
