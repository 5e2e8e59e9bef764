"""How the service is: each component asked within a bound, whatever hangs."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from rgrid.kernel.clock import Now
from rgrid.kernel.errors import Unavailable

SLOW_S: Final = 1.0
CHECK_MAX_S: Final = 2.5
DATABASE: Final = "database"

HealthStatus = Literal["ok", "degraded", "down"]


class ComponentHealth(msgspec.Struct, kw_only=True):
    """One component, and how long it took to answer."""

    status: HealthStatus
    message: str | None = None
    latency_ms: int | None = None


class HealthResponse(msgspec.Struct, kw_only=True):
    """The service as a whole; `down` only when the database is gone."""

    status: HealthStatus
    version: str
    timestamp: datetime
    components: dict[str, ComponentHealth]
    position: int | None = None
    projection_lag: int | None = None
    queue_depth: int | None = None
    live_workers: int | None = None


class LiveResponse(msgspec.Struct, kw_only=True):
    """The process answers."""

    status: HealthStatus


class Facts(msgspec.Struct, kw_only=True):
    """Figures shown beside the components."""

    position: int | None = None
    projection_lag: int | None = None
    queue_depth: int | None = None
    live_workers: int | None = None


Check = Callable[[], Awaitable[ComponentHealth | None]]
"""None means ok. An exception means down."""


class Health:
    """Asks the checks, all at once. `ready` says whether this process takes requests (migrated, not stopping)."""

    def __init__(
        self,
        version: str,
        now: Now,
        checks: Mapping[str, Check] | None = None,
        facts: Callable[[], Awaitable[Facts]] | None = None,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._version = version
        self._now = now
        self._checks = dict(checks or {})
        self._facts = facts
        self._ready = ready

    async def report(self) -> HealthResponse:
        """Every component's state. Raises Unavailable, with the report as `health`, when the database is down."""
        return _up(await self._ask(self._checks, with_facts=True))

    async def readiness(self) -> HealthResponse:
        """Raises Unavailable unless requests can be served here and now."""
        checks = {name: check for name, check in self._checks.items() if name == DATABASE}
        report = await self._ask(checks, with_facts=False)
        if not self._ready():
            raise _down("The service is not ready.", report, "not_ready")
        return _up(report)

    async def _ask(self, checks: Mapping[str, Check], *, with_facts: bool) -> HealthResponse:
        asked: dict[str, asyncio.Task[Any]] = {
            name: asyncio.create_task(_timed(check)) for name, check in checks.items()
        }
        figures = asyncio.ensure_future(self._facts()) if with_facts and self._facts else None
        everything = [*asked.values(), *([figures] if figures else [])]
        if everything:
            _, late = await asyncio.wait(everything, timeout=CHECK_MAX_S)
            for task in late:
                # Nobody waits for the cancellation: what hangs may hang in that as well.
                task.cancel()
        components = {name: _outcome(task) for name, task in asked.items()}
        known = figures.result() if figures and figures.done() and not _failed(figures) else Facts()
        return HealthResponse(
            status=_overall(components),
            version=self._version,
            timestamp=self._now(),
            components=components,
            position=known.position,
            projection_lag=known.projection_lag,
            queue_depth=known.queue_depth,
            live_workers=known.live_workers,
        )


async def _timed(check: Check) -> ComponentHealth:
    started = time.monotonic()
    found = await check() or ComponentHealth(status="ok")
    took_s = time.monotonic() - started
    found.latency_ms = round(took_s * 1000)
    if took_s > SLOW_S and found.status == "ok":
        found.status, found.message = "degraded", f"It took {took_s:.1f} s to answer."
    return found


def _failed(task: asyncio.Future[Any]) -> bool:
    return task.cancelled() or task.exception() is not None


def _outcome(task: asyncio.Task[ComponentHealth]) -> ComponentHealth:
    if not task.done():
        return ComponentHealth(status="down", message=f"No answer within {CHECK_MAX_S:g} s.")
    if task.cancelled():
        return ComponentHealth(status="down", message="The check was cancelled.")
    if (error := task.exception()) is not None:
        # The kind of error only: its text may hold addresses or names.
        return ComponentHealth(status="down", message=f"The check failed: {type(error).__name__}.")
    return task.result()


def _overall(components: Mapping[str, ComponentHealth]) -> HealthStatus:
    if DATABASE in components and components[DATABASE].status == "down":
        return "down"
    return "ok" if all(component.status == "ok" for component in components.values()) else "degraded"


def _up(report: HealthResponse) -> HealthResponse:
    if report.status == "down":
        raise _down("The database is down.", report, "unhealthy")
    return report


def _down(detail: str, report: HealthResponse, code: str) -> Unavailable:
    error = Unavailable(detail, code=code)
    error.extra["health"] = msgspec.to_builtins(report)
    return error
