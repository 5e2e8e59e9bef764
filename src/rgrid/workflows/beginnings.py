"""What a try of a step begins, by the type of the step: its parameters are evaluated and made into commands. Nothing
has begun until these are appended."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import asyncpg
import msgspec

from rgrid.adapters.expressions import ExpressionFailed
from rgrid.eventstore.handle import Handler, NewStream
from rgrid.executions.events import Origin
from rgrid.kernel.clock import now
from rgrid.kernel.errors import Gone, Invalid, Malformed, NotFound, Rejected, RgridError, SpendingLimit, Unavailable
from rgrid.kernel.ids import new_id
from rgrid.kernel.placeholders import holes
from rgrid.workflows.alert_request import DECIDER as ALERT
from rgrid.workflows.alert_request import AlertParams
from rgrid.workflows.commands import (
    CompleteStep,
    FailStep,
    MapItem,
    RequestAlert,
    ReuseStep,
    RunCommand,
    StartMapItems,
    StartStep,
)
from rgrid.workflows.document import Document, ErrorCategory, Outline, Step
from rgrid.workflows.events import Parent
from rgrid.workflows.handlers import Handlers, Registered, StepError
from rgrid.workflows.map_items import size_bytes
from rgrid.workflows.neighbours import Neighbours
from rgrid.workflows.progress import variables
from rgrid.workflows.run import DECIDER as RUN
from rgrid.workflows.run import MAP_ITEMS_MAX
from rgrid.workflows.run_state import Run
from rgrid.workflows.starting import triggered
from rgrid.workflows.step_cache import Inputs, inputs_of, output

DOCUMENT_BYTES_MAX: Final = 64 * 1024 * 1024
ITEMS_BYTES_MAX: Final = 64 * 1024 * 1024
INPUTS_BYTES_MAX: Final = 64 * 1024
DOCUMENTS_KEPT_MAX: Final = 100
LISTS_KEPT_MAX: Final = 20
HANDLER_MAX_S: Final = 3600
NAME_MAX: Final = 200
_UNSHOWN: Final = frozenset({"script_content", "requirements_content", "env_vars", "secret_env"})
_CATEGORIES: Final[tuple[tuple[type[RgridError], ErrorCategory], ...]] = (
    (NotFound, "NOT_FOUND"),
    (Gone, "NOT_FOUND"),
    (SpendingLimit, "RESOURCE"),
    (Rejected, "DEPENDENCY"),
)


@dataclass(frozen=True, slots=True)
class Work:
    """A handler that is to be called once its step has started."""

    step: str
    attempt: int
    handler: Registered
    params: Mapping[str, Any]
    limit_s: float


@dataclass(frozen=True, slots=True)
class Beginning:
    """The commands that begin something, and what begins in their append: `streams` by the id that the run's events
    name (of an ALERT, which names none, its step). `inputs` are those to be remembered for the cache."""

    commands: Sequence[RunCommand]
    streams: Mapping[str, NewStream] = field(default_factory=dict)
    work: Work | None = None
    inputs: Inputs | None = None


class Beginnings:
    """Knows what every type of step begins."""

    def __init__(self, pool: asyncpg.Pool, handler: Handler, handlers: Handlers, neighbours: Neighbours) -> None:
        self._pool = pool
        self._handler = handler
        self._handlers = handlers
        self._neighbours = neighbours
        self._documents: OrderedDict[str, Mapping[str, Step]] = OrderedDict()
        self._lists: OrderedDict[str, list[Any]] = OrderedDict()

    async def step(self, run: Run, name: str, attempt: int) -> Beginning:
        """How this try begins; or, when its parameters make no sense, how it fails."""
        try:
            outline = run.outline(name)
            if outline.type == "CHOICE":
                chosen = await self._neighbours.expressions.condition(outline.condition or "", variables(run))
                return Beginning([CompleteStep(step=name, attempt=attempt, outputs={}, chosen=chosen)])
            if outline.type == "WAIT":
                return Beginning([await self._wait(run, outline, attempt)])
            if outline.type == "MAP":
                return await self._map(run, outline, attempt)
            return await self._of_params(run, outline, attempt, await self.params(run, name))
        except (ExpressionFailed, StepError, RgridError) as error:
            return Beginning([failure(name, attempt, error)])

    async def params(self, run: Run, name: str, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The parameters of a step, evaluated. Raises ExpressionFailed."""
        step = (await self._steps(run.asked.document_sha256))[name]
        seen = {**variables(run), **(more or {})}
        return cast("dict[str, Any]", await self._neighbours.expressions.resolve(step.params, seen))

    async def items(self, run: Run, name: str, free: Sequence[int]) -> Beginning:
        """How these items of a MAP begin. One that can't begin fails the step."""
        state, outline = run.steps[name], run.outline(name)
        try:
            items = await self._list(state.items_sha256 or "")
            streams: dict[str, NewStream] = {}
            begun: list[MapItem] = []
            for index in free:
                own = {outline.item_name: items[index], "index": index}
                params = await self.params(run, name, own)
                own = {key: value for key, value in own.items() if key not in params}
                child_id = new_id("run")
                streams[child_id] = await self._child(run, outline, state.attempt, child_id, params, index, own)
                begun.append(MapItem(index=index, child_run_id=child_id))
        except (ExpressionFailed, RgridError) as error:
            return Beginning([failure(name, state.attempt, error)])
        return Beginning([StartMapItems(step=name, attempt=state.attempt, items=begun)], streams)

    async def work(self, run: Run, name: str, attempt: int) -> Work:
        """The call of a handler whose step has started. Raises ExpressionFailed, StepError."""
        return self._work(run.outline(name), attempt, await self.params(run, name))

    # ------------------------------------------------------------------ by type

    async def _of_params(self, run: Run, outline: Outline, attempt: int, params: dict[str, Any]) -> Beginning:
        inputs = inputs_of(outline, params)
        if inputs is not None and (reused := await self._reused(run, outline, inputs)):
            return reused
        return replace(await self._new(run, outline, attempt, params), inputs=inputs)

    async def _reused(self, run: Run, outline: Outline, inputs: Inputs) -> Beginning | None:
        """The output of an earlier try. Whoever retries a run wants its steps to run, whatever came of them before."""
        if run.asked.retry_of is not None or run.steps[outline.name].attempt:
            return None
        found = await output(self._pool, self._handler, inputs)
        return None if found is None else Beginning([ReuseStep(step=outline.name, outputs=found)])

    async def _new(self, run: Run, outline: Outline, attempt: int, params: dict[str, Any]) -> Beginning:
        name = outline.name
        match outline.type:
            case "EXECUTION":
                execution_id = new_id("exec")
                new = await self._execution(run, outline, attempt, execution_id, params)
                start = StartStep(step=name, attempt=attempt, inputs=_shown(params), execution_id=execution_id)
                return Beginning([start], {execution_id: new})
            case "WORKFLOW":
                child_id = new_id("run")
                new = await self._child(run, outline, attempt, child_id, params)
                start = StartStep(step=name, attempt=attempt, inputs=_shown(params), child_run_id=child_id)
                return Beginning([start], {child_id: new})
            case "HANDLER":
                work = self._work(outline, attempt, params)
                return Beginning([StartStep(step=name, attempt=attempt, inputs=_shown(params))], work=work)
            case "ALERT":
                alert_id = new_id("alert")
                start = StartStep(step=name, attempt=attempt, inputs=_shown(params))
                sent = CompleteStep(step=name, attempt=attempt, outputs={"alert_id": alert_id})
                return Beginning([start, sent], {name: NewStream(ALERT, alert_id, _alert(run, name, attempt, params))})
            case _:
                raise NotFound(f"Source not found: {outline.target_name}")

    def _work(self, outline: Outline, attempt: int, params: Mapping[str, Any]) -> Work:
        handler = self._handlers.get(outline.target_name or "")
        handler.bound(params)
        return Work(outline.name, attempt, handler, params, outline.timeout_seconds or HANDLER_MAX_S)

    async def _execution(
        self, run: Run, outline: Outline, attempt: int, execution_id: str, params: Mapping[str, Any]
    ) -> NewStream:
        asked = run.asked
        origin = Origin(
            workflow_run_id=asked.run_id,
            step=outline.name,
            step_attempt=attempt,
            schedule_id=asked.schedule_id,
            schedule_run_id=asked.schedule_run_id,
            scheduled_at=asked.due_at,
        )
        name = None if "name" in params else f"{asked.workflow_name}.{outline.name}"[:NAME_MAX]
        by = asked.triggered_by
        return await self._neighbours.execution(params, execution_id, origin, name=name, created_by=by)

    async def _child(
        self,
        run: Run,
        outline: Outline,
        attempt: int,
        child_id: str,
        params: Mapping[str, Any],
        index: int | None = None,
        own: Mapping[str, Any] | None = None,
    ) -> NewStream:
        """The child run of a step or, with `index` and its `own` parameters, of one item of a MAP."""
        asked = run.asked
        above = asked.parent.ancestors if asked.parent else []
        ancestors = [*above, asked.workflow_name]
        command = await triggered(
            self._handler,
            child_id,
            outline.target_name or "",
            params,
            trigger="DEPENDENCY",
            triggered_by=asked.triggered_by,
            provided=own,
            parent=Parent(run_id=asked.run_id, step=outline.name, attempt=attempt, index=index, ancestors=ancestors),
        )
        return NewStream(RUN, child_id, command)

    async def _wait(self, run: Run, outline: Outline, attempt: int) -> StartStep:
        wakes_at = None
        if outline.duration_seconds is not None:
            wakes_at = now() + timedelta(seconds=outline.duration_seconds)
        if outline.until is not None:
            wakes_at = _moment(outline.until)
            if wakes_at is None:
                wakes_at = _moment(await self._neighbours.expressions.evaluate(outline.until, variables(run)))
            if wakes_at is None:
                raise StepError(f"`{outline.until}` is no time with its offset.", "CONFIGURATION")
        return StartStep(step=outline.name, attempt=attempt, wakes_at=wakes_at, signal=outline.signal)

    async def _map(self, run: Run, outline: Outline, attempt: int) -> Beginning:
        items = await self._neighbours.expressions.evaluate(outline.items or "", variables(run))
        if not isinstance(items, list):
            raise StepError(f"`{outline.items}` is no list.", "CONFIGURATION")
        params = (await self._steps(run.asked.document_sha256))[outline.name].params
        inputs = inputs_of(outline, {"items": items, "params": params, "seen": _seen(params, run)})
        if inputs is not None and (reused := await self._reused(run, outline, inputs)):
            return reused
        sha256 = None
        if 0 < len(items) <= MAP_ITEMS_MAX:
            sha256 = await self._neighbours.objects.put_bytes(msgspec.json.encode(items))
            _keep(self._lists, sha256, items, LISTS_KEPT_MAX)
        start = StartStep(step=outline.name, attempt=attempt, items_total=len(items), items_sha256=sha256)
        return Beginning([start], inputs=inputs)

    # ------------------------------------------------------------------ what lies in the object store

    async def _steps(self, sha256: str) -> Mapping[str, Step]:
        if sha256 not in self._documents:
            data = await self._neighbours.objects.read_bytes(sha256, DOCUMENT_BYTES_MAX)
            steps = {step.name: step for step in msgspec.json.decode(data, type=Document).steps}
            _keep(self._documents, sha256, steps, DOCUMENTS_KEPT_MAX)
        return self._documents[sha256]

    async def _list(self, sha256: str) -> list[Any]:
        if sha256 not in self._lists:
            data = await self._neighbours.objects.read_bytes(sha256, ITEMS_BYTES_MAX)
            _keep(self._lists, sha256, msgspec.json.decode(data, type=list[Any]), LISTS_KEPT_MAX)
        return self._lists[sha256]


def _keep(kept: OrderedDict[str, Any], key: str, value: Any, entries_max: int) -> None:
    kept[key] = value
    while len(kept) > entries_max:
        kept.popitem(last=False)


def _seen(params: Mapping[str, Any], run: Run) -> Mapping[str, Any]:
    """What the parameters of the items may refer to, beside the items."""
    if not any(holes(params)):
        return {}
    return {name: value for name, value in variables(run).items() if name != "run"}


def _shown(params: Mapping[str, Any]) -> dict[str, Any]:
    """What of the parameters is recorded: nothing long, and no variables, which may be secret."""
    shown = {name: value for name, value in params.items() if name not in _UNSHOWN}
    size = size_bytes(shown)
    return shown if size <= INPUTS_BYTES_MAX else {"omitted": f"{size} bytes"}


def _alert(run: Run, step: str, attempt: int, params: Mapping[str, Any]) -> RequestAlert:
    asked = run.asked
    try:
        wanted = msgspec.convert(params, AlertParams)
    except msgspec.ValidationError as refused:
        raise StepError(f"The parameters of the alert are wrong: {refused}", "CONFIGURATION") from None
    return RequestAlert(
        severity=wanted.severity,
        title=wanted.title,
        message=wanted.message or wanted.title,
        source=wanted.source or f"workflow:{asked.workflow_name}",
        domain=wanted.domain or asked.domain,
        dedup_key=wanted.dedup_key,
        metadata=wanted.metadata,
        run_id=asked.run_id,
        step=step,
        attempt=attempt,
    )


def failure(step: str, attempt: int, error: ExpressionFailed | StepError | RgridError) -> FailStep:
    """The failure of a try that could not begin. Raises the error itself when it will pass."""
    if isinstance(error, Unavailable):
        raise error
    if isinstance(error, RgridError):
        kinds = (category for kind, category in _CATEGORIES if isinstance(error, kind))
        fields = error.fields if isinstance(error, Invalid | Malformed) else []
        told = " ".join([error.detail, *(f"{name}: {why}" for name, why in fields)])
        return FailStep(step=step, attempt=attempt, error=told, category=next(kinds, "CONFIGURATION"))
    return FailStep(step=step, attempt=attempt, error=str(error), category=cast("ErrorCategory", error.category))


def without_streams(beginning: Beginning, refused: RgridError) -> Beginning:
    """What begins something else can't begin; the rest can."""
    first = beginning.commands[0]
    if not beginning.streams or not isinstance(first, StartStep | StartMapItems):
        return beginning
    return Beginning([failure(first.step, first.attempt, refused)])


def _moment(value: object) -> datetime | None:
    """A time with its offset, or a date, which begins at midnight UTC."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC) if len(value) == 10 else None
    return moment
