"""What a schedule starts: whether there is such a target, its parameters in the object store, and how it begins."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from rgrid.adapters.objects import ObjectStore
from rgrid.api.grid import Grid
from rgrid.api.templates import check_on_grid, execution_from
from rgrid.eventstore.append import Rider
from rgrid.eventstore.handle import NewStream, Riders
from rgrid.executions import leases
from rgrid.executions.commands import CancelExecution, SubmitExecution
from rgrid.executions.events import CancelRequested, ExecutionEvent, Origin
from rgrid.executions.execution import DECIDER as EXECUTION
from rgrid.executions.execution import TERMINAL, Execution
from rgrid.kernel.clock import monotonic_ms
from rgrid.kernel.errors import Invalid, NotFound, Rejected
from rgrid.kernel.ids import new_command_id, new_id
from rgrid.kernel.messages import AnyRecorded, Cause
from rgrid.schedules.active_runs import ActiveRun
from rgrid.schedules.events import Target, TargetType
from rgrid.schedules.process import ENDS, end_of
from rgrid.schedules.schedule_state import Schedule
from rgrid.schedules.targets import End
from rgrid.workflows.commands import CancelRun
from rgrid.workflows.events import RunTrigger, RunTriggered
from rgrid.workflows.run import DECIDER as RUN
from rgrid.workflows.starting import runnable, triggered

PARAMS_BYTES_MAX: Final = 16 * 1024 * 1024
KEPT_MAX: Final = 1_000
KEPT_BYTES_MAX: Final = 256 * 1024
AT_ONCE_MAX: Final = 64
CHECKED_MS: Final = 2_000
OLDEST_MS: Final = 10_000
"""A template that was right counts as right for so long; whether the month has money left is asked with the append."""
LOOKED_BACK_MAX: Final = 100
"""The event that ended something stands so near to the end of its stream."""
PREFIXES: Final[Mapping[TargetType, str]] = {"EXECUTION": "exec", "WORKFLOW": "run", "SOURCE": "fetch"}

Params = dict[str, Any]
_Key = tuple[str | None, str | None, str, str]


class Parameters:
    """Parameters by the hash of their canonical JSON. The small ones that were used last are kept in memory: many
    schedules share them, and they never change."""

    def __init__(self, objects: Callable[[], ObjectStore]) -> None:
        self._objects = objects
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    async def store(self, params: Params | None) -> tuple[str | None, int]:
        """Their hash and size; (None, 0) for none."""
        if params is None:
            return None, 0
        raw = msgspec.json.encode(params, order="sorted")
        return await self._objects().put_bytes(raw), len(raw)

    async def load(self, sha256: str | None) -> Params | None:
        if sha256 is None:
            return None
        raw = self._kept.get(sha256)
        if raw is None:
            raw = await self._objects().read_bytes(sha256, PARAMS_BYTES_MAX)
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


@dataclass(frozen=True, slots=True)
class _Checked:
    """A submission that was found right, without variables and inputs, which each execution has of its own."""

    command: SubmitExecution
    at_ms: int

    @property
    def age_ms(self) -> int:
        return monotonic_ms() - self.at_ms


class ScheduleTargets:
    """Looks targets up, begins them, stops them, and says how they ended."""

    def __init__(self, grid: Callable[[], Grid]) -> None:
        self.params = Parameters(lambda: grid().objects)
        self._checked: OrderedDict[_Key, _Checked] = OrderedDict()
        self._checking: dict[_Key, asyncio.Future[None]] = {}
        self._grid = grid

    async def check(self, kind: TargetType, name: str, params: Params | None) -> None:
        """Raises Invalid `unknown_target`, or with every field of the template that is wrong."""
        if kind == "SOURCE":
            raise _unknown(f"Source not found: {name}")
        if kind == "WORKFLOW":
            try:
                await runnable(self._grid().handler, name)
            except NotFound as missing:
                raise _unknown(missing.detail) from None
            except Rejected as inactive:
                # It is there; whether it runs is decided when the time comes.
                assert inactive.code == "workflow_inactive"
            return
        if wrong := await check_on_grid(self._grid(), params or {}):
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
        by = run.requested_by or "system"
        if target.type == "EXECUTION":
            return await self._execution(schedule, run, target_id, by)
        if target.type == "SOURCE":
            raise _unknown(f"Source not found: {target.name}")
        return await self._workflow(schedule, run, target_id, await self._params(target, run), by)

    async def _params(self, target: Target, run: ActiveRun) -> Params:
        stored = await self.params.load(target.params_sha256) or {}
        overlay = await self.params.load(run.params_sha256) or {}
        return {**stored, **overlay}

    async def _execution(self, schedule: Schedule, run: ActiveRun, execution_id: str, by: str) -> NewStream:
        """Schedules that are due together often run the same: what was checked a moment ago, or is being checked, is
        not checked again."""
        target = schedule.target
        key = (target.params_sha256, run.params_sha256, target.name, by)
        origin = Origin(
            schedule_id=schedule.schedule_id, schedule_run_id=run.schedule_run_id, scheduled_at=run.due_at
        )  # fmt: skip
        template, checking = self._checked.get(key), self._checking.get(key)
        if checking is not None and (template is None or template.age_ms > OLDEST_MS):
            await asyncio.wait({checking})
            template, checking = self._checked.get(key), self._checking.get(key)
        if template is None or template.age_ms > OLDEST_MS or (template.age_ms > CHECKED_MS and checking is None):
            done = self._checking.setdefault(key, asyncio.get_running_loop().create_future())
            try:
                return await self._fresh(key, schedule, run, execution_id, origin)
            finally:
                self._checking.pop(key, None)
                if not done.done():
                    done.set_result(None)
        command = msgspec.structs.replace(template.command, root_execution_id=execution_id, origin=origin)
        return NewStream(EXECUTION, execution_id, command)

    async def _fresh(
        self, key: _Key, schedule: Schedule, run: ActiveRun, execution_id: str, origin: Origin
    ) -> NewStream:
        params, name = await self._params(schedule.target, run), schedule.target.name
        by = run.requested_by or "system"
        stream = await execution_from(self._grid(), params, execution_id, origin, name=name, created_by=by)
        assert isinstance(stream.command, SubmitExecution)
        if not stream.command.env_sealed and not stream.command.inputs:
            self._checked[key] = _Checked(stream.command, monotonic_ms())
            self._checked.move_to_end(key)
            if len(self._checked) > KEPT_MAX:
                self._checked.popitem(last=False)
        return stream

    async def _workflow(
        self, schedule: Schedule, run: ActiveRun, run_id: str, params: Params, by: str
    ) -> NewStream:  # fmt: skip
        handler, name = self._grid().handler, schedule.target.name
        causes: dict[str, RunTrigger] = {"SCHEDULE": "SCHEDULE", "BACKFILL": "SCHEDULE", "MANUAL": "MANUAL"}
        # A backfill tells which time it is about; otherwise who wants to know declares it.
        due = {"scheduled_at": shown(run.due_at)}
        declared = {one.name for one in (await runnable(handler, name)).parameters}
        if run.trigger == "SCHEDULE" and "scheduled_at" in declared:
            params = {**due, **params}
        command = await triggered(
            handler,
            run_id,
            name,
            params,
            trigger=causes[run.trigger],
            triggered_by=by,
            provided=due if run.trigger == "BACKFILL" else None,
            schedule_id=schedule.schedule_id,
            schedule_run_id=run.schedule_run_id,
            due_at=run.due_at,
        )
        return NewStream(RUN, run_id, command)

    async def stop(self, target_id: str, reason: str, *, forced: bool) -> None:
        """Ask that it ends. An execution has no grace: it is killed either way."""
        handler, cause = self._grid().handler, Cause(actor="system", command_id=new_command_id())
        try:
            if target_id.startswith("run_"):
                cancel = CancelRun(requested_by="system", reason=reason, forced=forced)
                await handler.handle(RUN, target_id, cancel, cause)
            else:
                command = CancelExecution(requested_by="system", reason=reason)
                await handler.handle(EXECUTION, target_id, command, cause, riders=_asked_to_cancel(target_id))
                self._grid().lines_stored.tell([target_id])
        except (Rejected, NotFound):
            pass  # It ended a moment ago.

    async def ended(self, target_id: str) -> End | None:
        """How it ended by the log, None while it hasn't."""
        if target_id.startswith("run_"):
            run, version = await self._grid().handler.load(RUN, target_id)
            events = await self._last_events(RUN.stream_id(target_id), version) if run.is_ended else []
        else:
            execution, version = await self._grid().handler.load(EXECUTION, target_id)
            is_over = execution.status in TERMINAL
            events = await self._last_events(EXECUTION.stream_id(target_id), version) if is_over else []
        return next((end_of(at.event) for at in reversed(events) if isinstance(at.event, ENDS)), None)

    async def triggered(self, run_id: str, version: int) -> RunTriggered | None:
        """How a run of a workflow was triggered."""
        run, _ = await self._grid().handler.load(RUN, run_id, at_least=version)
        return run.triggered

    async def _last_events(self, stream_id: str, version: int) -> list[AnyRecorded]:
        return await self._grid().store.read_stream(stream_id, max(0, version - LOOKED_BACK_MAX))


def _asked_to_cancel(execution_id: str) -> Riders[Execution, ExecutionEvent]:
    def riders(_state: Execution, events: Sequence[ExecutionEvent], _version: int) -> list[Rider]:
        return [leases.ask_to_cancel(execution_id)] if isinstance(events[0], CancelRequested) else []

    return riders


def shown(moment: datetime) -> str:
    """A moment as the interface writes it."""
    return moment.isoformat().replace("+00:00", "Z")


def _unknown(detail: str) -> Invalid:
    return Invalid(detail, code="unknown_target", fields=[("target_name", "There is no such target.")])
