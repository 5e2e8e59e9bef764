"""How this installation is: the checks behind `/health`, and the gauges behind `/metrics`."""

from collections.abc import Callable, Mapping
from typing import Final

from projections import run_queue, run_timers, schedules, workers, workflow_runs
from rgrid.api.grid import Grid
from rgrid.executions import leases
from rgrid.kernel.clock import now
from rgrid.subscriptions.daemon import Daemon, Lag
from rgrid.web.health import Check, ComponentHealth, Facts
from rgrid.web.metrics import Metrics

LAG_MAX: Final = 10_000


def checks(
    grid: Grid, daemon: Daemon, ticking: Callable[[], bool], sandbox: Callable[[], str | None]
) -> Mapping[str, Check]:
    """By component. None means ok, an exception means down."""

    async def database() -> None:
        await grid.pool.fetchval("select 1")

    async def object_store() -> ComponentHealth | None:
        trouble = await grid.objects.check()
        return ComponentHealth(status="degraded", message=trouble) if trouble else None

    async def event_log() -> ComponentHealth | None:
        lags = await daemon.lag()
        return _of_log(lags, None if daemon.stall is None else str(daemon.stall))

    async def scheduler() -> ComponentHealth | None:
        return None if ticking() else ComponentHealth(status="down", message="The ticker does not run.")

    async def live_workers() -> ComponentHealth | None:
        count = await workers.live_count(grid.pool)
        if not count:
            return ComponentHealth(status="degraded", message="No worker is alive; start one with `rgrid worker`.")
        level = sandbox()
        return ComponentHealth(status="ok", message=f"sandbox level: {level}") if level else None

    return {
        "database": database,
        "object_store": object_store,
        "event_log": event_log,
        "scheduler": scheduler,
        "workers": live_workers,
    }


def _of_log(lags: list[Lag], stall: str | None) -> ComponentHealth | None:
    if stall is not None:
        return ComponentHealth(status="degraded", message=stall)
    parked = [lag.name for lag in lags if lag.dead_letters]
    if parked:
        return ComponentHealth(status="degraded", message=f"Dead letters wait in: {', '.join(parked)}.")
    late = [lag.name for lag in lags if lag.behind > LAG_MAX]
    if late:
        return ComponentHealth(status="degraded", message=f"Far behind the log: {', '.join(late)}.")
    return None


async def facts(grid: Grid, daemon: Daemon) -> Facts:
    """The figures shown beside the components."""
    lags = await daemon.lag()
    return Facts(
        position=await grid.store.head(),
        projection_lag=max((lag.behind for lag in lags), default=0),
        queue_depth=await run_queue.depth(grid.pool),
        live_workers=await workers.live_count(grid.pool),
    )


def gauge(metrics: Metrics, grid: Grid, daemon: Daemon) -> None:
    """Registers the gauges; they are read when somebody asks."""
    position = metrics.gauge("rgrid_event_position", "Position of the newest event.")
    depth = metrics.gauge("rgrid_queue_depth", "Executions that wait for a worker.")
    running = metrics.gauge("rgrid_running", "Attempts under a lease.")
    live = metrics.gauge("rgrid_live_workers", "Workers that are alive.")
    behind = metrics.gauge("rgrid_projection_lag", "Events that a subscriber has still to see.", ("subscriber",))
    parked = metrics.gauge("rgrid_dead_letters", "Events that a subscriber could not take.", ("subscriber",))
    runs = metrics.gauge("rgrid_workflow_runs", "Workflow runs, those that have ended too.", ("status",))
    timers = metrics.gauge("rgrid_workflow_timers", "Times that workflow runs wait for.")
    late = metrics.gauge("rgrid_workflow_timer_late_seconds", "By how much the oldest of these times has passed.")

    undecided = metrics.gauge(
        "rgrid_scheduler_lag_seconds", "For how long the oldest due time has waited to be decided."
    )

    async def sample() -> None:
        undecided.set(await schedules.lag_s(grid.pool, now()))
        position.set(await grid.store.head())
        depth.set(await run_queue.depth(grid.pool))
        running.set(await leases.held(grid.pool))
        live.set(await workers.live_count(grid.pool))
        for lag in await daemon.lag():
            behind.set(lag.behind, (lag.name,))
            parked.set(lag.dead_letters, (lag.name,))
        by_status = await workflow_runs.by_status(grid.pool)
        for status in workflow_runs.STATUSES:
            runs.set(by_status.get(status, 0), (status,))
        waiting, late_s = await run_timers.waiting(grid.pool, now())
        timers.set(waiting)
        late.set(late_s)

    metrics.sample_with(sample)
