"""The spending limit over HTTP: set it, look at it, remove it."""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from projections import costs
from rgrid.api.grid import Grid
from rgrid.eventstore.append import Rider
from rgrid.executions import spending
from rgrid.executions.budget import DECIDER, ENTITY_ID, THRESHOLD_PERCENT, used_percent
from rgrid.executions.commands import BudgetCommand, RemoveLimit, SetLimit
from rgrid.kernel.clock import now
from rgrid.kernel.errors import Conflict, Malformed, Unavailable
from rgrid.kernel.money import MICROS_PER_EURO, display, display_limit
from rgrid.web.conditional import ANY_VERSION
from rgrid.web.operation import ActionResponse, Call, NoQuery, Operation, Reply

LIMIT_ID: Final = "monthly"
BEGINS_MAX: Final = 3
LIMIT_MAX: Final = (1 << 63) - 1
CAUGHT_UP_S: Final = 5.0
LOCKED_S: Final = 2.0
_TAGS: Final = ("cost",)


class CostLimit(msgspec.Struct, kw_only=True):
    """What the present calendar month (UTC) has cost and may cost."""

    has_limit: bool
    monthly_limit_micros: int | None
    monthly_limit_display: str
    current_usage_micros: int
    current_usage_display: str
    reserved_micros: int
    reserved_display: str
    usage_percent: int | None
    status: Literal["unlimited", "ok", "warning", "blocked"]
    alert_threshold_percent: int
    period_start: datetime
    period_end: datetime
    message: str | None


class CostLimitUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exactly one of the two amounts. To have no limit, remove it."""

    monthly_limit_euros: Annotated[float, Meta(ge=0.01)] | None = None
    monthly_limit_micros: Annotated[int, Meta(ge=1)] | None = None
    alert_threshold_percent: Annotated[int, Meta(ge=1, le=100)] = THRESHOLD_PERCENT


class CostLimitAction(ActionResponse, kw_only=True):
    """The limit as it is now."""

    success: bool
    monthly_limit_micros: int | None
    monthly_limit_display: str


class CostLimits:
    """The controllers."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    async def shown(self, call: Call[NoQuery, None]) -> Reply:
        grid, moment = self._grid, now()
        state, version = await grid.handler.load(DECIDER, ENTITY_ID)
        spent = await spending.spent(grid.pool, moment)
        used, reserved = spent.used_micros, spent.reserved_micros
        if not spent.counting:
            await grid.caught_up()
            used = await costs.used_since(grid.pool, spending.month_of(moment))
            reserved = await costs.reserved(grid.pool)
        start = spending.month_of(moment)
        limit = state.limit_micros
        percent = None if limit is None else used_percent(used, limit)
        status = _status(percent, state.threshold_percent)
        body = CostLimit(
            has_limit=limit is not None,
            monthly_limit_micros=limit,
            monthly_limit_display=display_limit(limit),
            current_usage_micros=used,
            current_usage_display=display(used),
            reserved_micros=reserved,
            reserved_display=display(reserved),
            usage_percent=percent,
            status=status,
            alert_threshold_percent=state.threshold_percent,
            period_start=datetime(start.year, start.month, 1, tzinfo=UTC),
            period_end=_next_month(start.year, start.month),
            message=_message(status, percent),
        )
        return Reply(200, body, etag=version)

    async def set(self, call: Call[NoQuery, CostLimitUpdate]) -> Reply:
        limit = _micros(call.body)
        command = SetLimit(
            limit_micros=limit, threshold_percent=call.body.alert_threshold_percent, set_by=call.actor.actor
        )
        body = CostLimitAction(
            id=LIMIT_ID,
            status="set",
            message=f"A calendar month costs at most {display(limit)}.",
            success=True,
            monthly_limit_micros=limit,
            monthly_limit_display=display_limit(limit),
        )
        for _ in range(BEGINS_MAX):
            await self._begin()
            try:
                return await self._handled(call, command, body, spending.limit_set(limit, command.threshold_percent))
            except Conflict as conflict:
                # Somebody removed the limit since, and with it the counting.
                if conflict.code != spending.NOT_COUNTED:
                    raise
        raise Unavailable("The limit is being changed by somebody else.")

    async def removed(self, call: Call[NoQuery, None]) -> Reply:
        body = CostLimitAction(
            id=LIMIT_ID,
            status="removed",
            message="There is no spending limit.",
            success=True,
            monthly_limit_micros=None,
            monthly_limit_display=display_limit(None),
        )
        return await self._handled(call, RemoveLimit(removed_by=call.actor.actor), body, spending.limit_removed())

    async def _handled(
        self, call: Call[Any, Any], command: BudgetCommand, body: CostLimitAction, rider: Rider
    ) -> Reply:
        handled = await self._grid.handler.handle(
            DECIDER,
            ENTITY_ID,
            command,
            call.cause(),
            expected_version=None if call.if_match == ANY_VERSION else call.if_match,
            riders=lambda _state, _events, _version: [rider, *call.riders(Reply(200, body))],
        )
        return Reply(200, body, etag=handled.version, position=handled.position)

    async def _begin(self) -> None:
        """Has every process count. The figures to count from are those of the read model as soon as it includes the
        whole log, while nobody can append."""
        grid = self._grid
        await grid.spending.announce(grid.pool)
        await grid.reached(await grid.store.head(), {costs.PROJECTION.name}, CAUGHT_UP_S)
        month = spending.month_of(now())
        async with grid.pool.acquire() as connection, connection.transaction():
            await spending.hold(connection)
            if (await spending.spent(connection, now())).counting:
                return
            await grid.reached(await grid.store.head(), {costs.PROJECTION.name}, LOCKED_S)
            used, reserved = await costs.used_since(connection, month), await costs.reserved(connection)
            await spending.begin(connection, month, used, reserved)


def _micros(asked: CostLimitUpdate) -> int:
    """Raises Malformed unless exactly one amount is given. An amount in euros is the decimal that was written."""
    euros, micros = asked.monthly_limit_euros, asked.monthly_limit_micros
    if (euros is None) == (micros is None):
        raise Malformed(
            "Give exactly one of monthly_limit_euros and monthly_limit_micros.",
            [("monthly_limit_euros", "This or monthly_limit_micros."), ("monthly_limit_micros", "Not both, not none.")],
        )
    if micros is None:
        # The shortest text that means this number is the decimal that the client wrote, up to 15 digits.
        micros = int((Decimal(repr(euros)) * MICROS_PER_EURO).to_integral_value(ROUND_HALF_UP))
        if micros > LIMIT_MAX:
            raise Malformed("The limit is too large.", [("monthly_limit_euros", f"At most {LIMIT_MAX} micros.")])
    return micros


def _status(percent: int | None, threshold: int) -> Literal["unlimited", "ok", "warning", "blocked"]:
    if percent is None:
        return "unlimited"
    if percent >= 100:
        return "blocked"
    return "warning" if percent >= threshold else "ok"


def _message(status: str, percent: int | None) -> str | None:
    match status:
        case "blocked":
            return "The limit is reached: nothing new is accepted before the next month. What runs goes on."
        case "warning":
            return f"{percent} % of the limit are used."
    return None


def _next_month(year: int, month: int) -> datetime:
    return (datetime(year, month, 28, tzinfo=UTC) + timedelta(days=4)).replace(day=1)


def operations(grid: Grid) -> list[Operation]:
    controllers = CostLimits(grid)
    path = "/api/v1/cost/limit"
    return [
        Operation(
            method="GET",
            path=path,
            auth="read",
            handler=controllers.shown,
            ok={200: CostLimit},
            flags=frozenset({"etag"}),
            tags=_TAGS,
            summary="Show the spending limit and what counts against it.",
        ),
        Operation(
            method="PUT",
            path=path,
            auth="admin",
            handler=controllers.set,
            body=CostLimitUpdate,
            ok={200: CostLimitAction},
            flags=frozenset({"if_match", "mutates"}),
            tags=_TAGS,
            summary="Set what a calendar month may cost.",
        ),
        Operation(
            method="DELETE",
            path=path,
            auth="admin",
            handler=controllers.removed,
            ok={200: CostLimitAction},
            flags=frozenset({"if_match", "mutates"}),
            tags=_TAGS,
            summary="Remove the spending limit.",
        ),
    ]
