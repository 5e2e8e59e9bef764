"""Cost over HTTP: what was spent, at which prices, and what running something would take and cost."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from projections import costs
from rgrid.api.grid import Grid
from rgrid.executions.cost import hourly_micros
from rgrid.executions.estimate import SCRIPT_SAMPLES_MIN, estimate
from rgrid.kernel.clock import now
from rgrid.kernel.errors import Invalid, Malformed
from rgrid.kernel.money import display
from rgrid.kernel.rates import Rate
from rgrid.web.operation import Call, NoQuery, Operation, Reply
from rgrid.web.pages import Page, slice_page

DAYS_DEFAULT: Final = 7
DAYS_MAX: Final = 366
HISTORY_DAYS: Final = 30
_TAGS: Final = ("cost",)


class CostQuery(msgspec.Struct, frozen=True, kw_only=True):
    """UTC dates, both included."""

    since: date | None = None
    until: date | None = None
    group_by: Annotated[
        Literal["key", "batch", "script", "runtime", "metadata"] | None,
        Meta(description="also by who submitted it, by batch, script, runtime, or one key of the metadata"),
    ] = None
    metadata_key: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class CostDay(msgspec.Struct, kw_only=True):
    """A day in which attempts ended."""

    date: date
    executions: int
    compute_time_seconds: float
    cost_micros: int
    cost_display: str


class CostGroup(msgspec.Struct, kw_only=True):
    """What the same costs are by something else; `name` is null for what has none."""

    name: str | None
    executions: int
    compute_time_seconds: float
    cost_micros: int
    cost_display: str


class CostResponse(msgspec.Struct, kw_only=True):
    """The parts sum to the total exactly. `other_cost_micros` is what the groups that are not shown cost."""

    start_date: date
    end_date: date
    currency: str
    total_cost_micros: int
    total_cost_display: str
    total_executions: int
    by_date: list[CostDay]
    group_by: str | None
    groups: list[CostGroup] | None
    other_cost_micros: int


class EstimateQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What would be run, and how."""

    runtime: str = "python:3.11"
    files: Annotated[int, Meta(ge=0, le=1_000_000)] = 1
    parallel: Annotated[int, Meta(ge=1, le=1000)] = 1
    cpu: Annotated[float, Meta(ge=0.25, le=16)] = 1
    script_sha256: str | None = None


class EstimateResponse(msgspec.Struct, kw_only=True):
    """The median of what it took before; `p90` says what it is if all were as slow as the slowest tenth."""

    runtime: str
    estimated_executions: int
    estimated_duration_seconds: float
    estimated_p90_seconds: float
    estimated_total_duration_seconds: float
    estimated_wall_seconds: float
    estimated_wall_p90_seconds: float
    estimated_cost_micros: int
    estimated_cost_display: str
    estimated_p90_cost_micros: int
    estimated_p90_cost_display: str
    hourly_micros: int
    basis: Literal["script_history", "runtime_history", "default"]
    sample_size: int
    assumptions: list[str]


class CostRate(msgspec.Struct, kw_only=True):
    """A price and when it holds."""

    runner_kind: str
    hourly_micros: int
    per: str
    currency: str
    valid_from: datetime
    valid_until: datetime | None


class Costs:
    """The controllers. Each runs one query."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    async def spent(self, call: Call[CostQuery, None]) -> Reply:
        asked = call.query
        first, last = _days(asked, now())
        await self._grid.caught_up()
        async with self._grid.pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            days = await costs.by_day(connection, first, last)
            executions = await costs.executions_in(connection, first, last)
            groups = None
            if asked.group_by is not None:
                groups = await costs.by(connection, asked.group_by, asked.metadata_key or "", first, last)
        total = sum(day.cost_micros for day in days)
        body = CostResponse(
            start_date=first,
            end_date=last,
            currency="EUR",
            total_cost_micros=total,
            total_cost_display=display(total),
            total_executions=executions,
            by_date=[_day(day) for day in days],
            group_by=asked.group_by,
            groups=None if groups is None else [_group(group) for group in groups],
            other_cost_micros=0 if groups is None else total - sum(group.cost_micros for group in groups),
        )
        return Reply(200, body)

    async def estimated(self, call: Call[EstimateQuery, None]) -> Reply:
        asked = call.query
        runtime = await self._grid.runtimes.resolve(asked.runtime)
        await self._grid.caught_up()
        basis, samples = await self._samples(runtime, asked.script_sha256)
        hourly = hourly_micros(self._grid.rates.highest(now()), asked.cpu)
        found = estimate(samples, asked.files, asked.parallel, hourly)
        body = EstimateResponse(
            runtime=runtime,
            estimated_executions=asked.files,
            estimated_duration_seconds=float(found.median_ms / 1000),
            estimated_p90_seconds=found.p90_ms / 1000,
            estimated_total_duration_seconds=float(found.total_ms / 1000),
            estimated_wall_seconds=float(found.wall_ms / 1000),
            estimated_wall_p90_seconds=found.wall_p90_ms / 1000,
            estimated_cost_micros=found.cost_micros,
            estimated_cost_display=display(found.cost_micros),
            estimated_p90_cost_micros=found.cost_p90_micros,
            estimated_p90_cost_display=display(found.cost_p90_micros),
            hourly_micros=hourly,
            basis=basis,
            sample_size=len(samples),
            assumptions=_assumptions(basis, len(samples), runtime, asked.parallel),
        )
        return Reply(200, body)

    async def _samples(
        self, runtime: str, script_sha256: str | None
    ) -> tuple[Literal["script_history", "runtime_history", "default"], Sequence[int]]:
        pool, since = self._grid.pool, now() - timedelta(days=HISTORY_DAYS)
        if script_sha256 is not None:
            same = await costs.samples(pool, since, script_sha256=script_sha256)
            if len(same) >= SCRIPT_SAMPLES_MIN:
                return "script_history", same
        alike = await costs.samples(pool, since, runtime=runtime)
        return ("runtime_history", alike) if alike else ("default", [])

    async def rates(self, call: Call[NoQuery, None]) -> Reply:
        return Reply(200, slice_page([_rate(rate) for rate in self._grid.rates.listed()], call.page))


def _days(asked: CostQuery, moment: datetime) -> tuple[date, date]:
    """Raises Invalid for a range that is empty or too long, Malformed for a key of the metadata that nobody uses."""
    if (asked.group_by == "metadata") != (asked.metadata_key is not None):
        raise Malformed(
            "metadata_key goes with group_by=metadata.", [("query.metadata_key", "Needed by group_by=metadata, only.")]
        )
    last = asked.until or max(moment.astimezone(UTC).date(), asked.since or date.min)
    first = asked.since or date.fromordinal(max(1, last.toordinal() - (DAYS_DEFAULT - 1)))
    if first > last:
        raise Invalid("since is after until.", code="invalid_range")
    if (last - first).days >= DAYS_MAX:
        raise Invalid(f"A range has at most {DAYS_MAX} days.", code="invalid_range")
    return first, last


def _day(day: costs.Day) -> CostDay:
    return CostDay(
        date=day.day,
        executions=day.executions,
        compute_time_seconds=day.duration_ms / 1000,
        cost_micros=day.cost_micros,
        cost_display=display(day.cost_micros),
    )


def _group(group: costs.Group) -> CostGroup:
    return CostGroup(
        name=group.name,
        executions=group.executions,
        compute_time_seconds=group.duration_ms / 1000,
        cost_micros=group.cost_micros,
        cost_display=display(group.cost_micros),
    )


def _rate(rate: Rate) -> CostRate:
    return CostRate(
        runner_kind=rate.runner_kind,
        hourly_micros=rate.hourly_micros,
        per="vCPU-hour",
        currency="EUR",
        valid_from=rate.valid_from,
        valid_until=rate.valid_until,
    )


def _assumptions(basis: str, sample_size: int, runtime: str, parallel: int) -> list[str]:
    said = {
        "script_history": f"The last {sample_size} runs of this script that completed within {HISTORY_DAYS} days.",
        "runtime_history": f"The last {sample_size} runs of any script on {runtime} that completed within"
        f" {HISTORY_DAYS} days.",
        "default": "Nothing like it has completed lately, so each run is taken for one minute.",
    }[basis]
    return [
        said,
        f"Basis {basis}, {sample_size} samples; {parallel} at a time, and no wait for a worker.",
        "Prices may change: today's are used.",
    ]


def operations(grid: Grid) -> list[Operation]:
    controllers = Costs(grid)
    return [
        Operation(
            method="GET",
            path="/api/v1/cost",
            auth="read",
            handler=controllers.spent,
            query=CostQuery,
            ok={200: CostResponse},
            errors=(400,),
            tags=_TAGS,
            summary="What was spent, by UTC day.",
        ),
        Operation(
            method="GET",
            path="/api/v1/estimate",
            auth="read",
            handler=controllers.estimated,
            query=EstimateQuery,
            ok={200: EstimateResponse},
            tags=_TAGS,
            summary="What running a script would take and cost.",
        ),
        Operation(
            method="GET",
            path="/api/v1/cost/rates",
            auth="read",
            handler=controllers.rates,
            ok={200: Page[CostRate]},
            flags=frozenset({"page"}),
            tags=_TAGS,
            summary="List the prices and when they hold.",
        ),
    ]
