"""Time as a driver: APScheduler wakes it, it reads what is due and sends commands."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import asyncpg
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from projections import batches, executions, run_queue, run_timers, workers, workflow_runs
from rgrid.eventstore.handle import Handler
from rgrid.executions.batch_process import end_batches
from rgrid.executions.commands import EndBatch
from rgrid.executions.following import LinesStored
from rgrid.executions.process import expire_inputs, expire_waits, lose_expired
from rgrid.kernel.clock import monotonic_ms, now
from rgrid.postgres.pool import GONE
from rgrid.runners import heartbeats
from rgrid.runners.host import Host
from rgrid.runners.process import settle
from rgrid.settings import Settings
from rgrid.workflows import step_cache
from rgrid.workflows.driving import Driver
from rgrid.workflows.neighbours import Neighbours
from rgrid.workflows.waking import look_again, wake

log = logging.getLogger(__name__)

REAP_EVERY_S: Final = 1
INPUTS_EVERY_S: Final = 5
WAITS_EVERY_S: Final = 1
ENDS_EVERY_S: Final = 1
NOTE_EVERY_S: Final = 1
CLEAN_EVERY_S: Final = 60
WAKE_EVERY_S: Final = 0.25
HANDLERS_EVERY_S: Final = 1
LOOK_EVERY_S: Final = 15
LOOKED_AT_MAX: Final = 500
AWAY: Final = timedelta(seconds=5)
HEARD_WITHIN_S: Final = 2

Chore = Callable[[], Awaitable[object]]


class Ticker:
    """Runs the recurring chores of a service process. Any number of processes may tick: every chore ends in commands
    that are refused or empty when another process was faster."""

    def __init__(
        self,
        *,
        pool: asyncpg.Pool,
        handler: Handler,
        settings: Settings,
        lines_stored: LinesStored,
        host: Host,
        more: Sequence[tuple[Chore, float]],
    ) -> None:
        self._pool = pool
        self._handler = handler
        self._settings = settings
        self._lines_stored = lines_stored
        self._host = host
        self._last_reap: datetime | None = None
        self._patient_until_ms = 0
        self._scheduler = AsyncIOScheduler(timezone="UTC")
        chores: list[tuple[Chore, float]] = [
            (self.reap, REAP_EVERY_S),
            (self._expire_inputs, INPUTS_EVERY_S),
            (self._expire_waits, WAITS_EVERY_S),
            (self._end_batches, ENDS_EVERY_S),
            (self._forget_heartbeats, CLEAN_EVERY_S),
            *more,
        ]
        for chore, every_s in chores:
            self._scheduler.add_job(
                _careful, "interval", args=[chore], seconds=every_s, max_instances=1, coalesce=True,
                misfire_grace_time=None,
            )  # fmt: skip

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)

    async def reap(self) -> None:
        """Notice lost workers, and end what they and any expired lease leave behind."""
        patient = self._patient()
        watched = await workers.watched(self._pool)
        lost = await settle(self._handler, watched, self._settings.lease_ttl_s, self._host, silence_counts=not patient)
        dead = {*lost, *await workers.ended_with_leases(self._pool)}
        await lose_expired(self._pool, self._handler, self._lines_stored, sorted(dead), only_dead=patient)
        self._last_reap = now()

    def _patient(self) -> bool:
        """Whoever was away himself (a start, a suspended machine, a database outage) first gives the workers time to
        be heard: what looks like their silence may be his own. Processes that are known to be dead can't hide so."""
        if self._last_reap is None or now() - self._last_reap > AWAY:
            self._patient_until_ms = monotonic_ms() + round((self._settings.renew_every_s + HEARD_WITHIN_S) * 1000)
        return monotonic_ms() < self._patient_until_ms

    async def _expire_inputs(self) -> None:
        await expire_inputs(self._handler, await executions.overdue_inputs(self._pool, now()))

    async def _expire_waits(self) -> None:
        await expire_waits(self._handler, await run_queue.overdue(self._pool))

    async def _end_batches(self) -> None:
        over = await batches.ended(self._pool)
        await end_batches(self._handler, {str(row.pop("batch_id")): EndBatch(**row) for row in over})

    async def _forget_heartbeats(self) -> None:
        await heartbeats.forget_old(self._pool)


class RunChores:
    """What runs of workflows need of time."""

    def __init__(self, pool: asyncpg.Pool, driver: Driver, neighbours: Neighbours) -> None:
        self._pool = pool
        self._driver = driver
        self._neighbours = neighbours
        self._looked_at = ""

    def chores(self) -> list[tuple[Chore, float]]:
        return [
            (self._wake, WAKE_EVERY_S),
            (self._driver.work.look, HANDLERS_EVERY_S),
            (self._look_again, LOOK_EVERY_S),
            (lambda: step_cache.purge(self._pool), CLEAN_EVERY_S),
        ]

    async def _wake(self) -> None:
        timers = await run_timers.due(self._pool, now())
        await wake(self._driver, [(timer.run_id, timer.kind, timer.step, timer.attempt) for timer in timers])

    async def _look_again(self) -> None:
        """A part of the active runs each time, from the first again after the last."""
        run_ids = await workflow_runs.active(self._pool, self._looked_at, LOOKED_AT_MAX)
        self._looked_at = run_ids[-1] if len(run_ids) == LOOKED_AT_MAX else ""
        await look_again(self._driver, self._neighbours, run_ids)


async def _careful(chore: Chore) -> None:
    """One chore that fails is logged and comes again; it stops no other."""
    try:
        await chore()
    except GONE as away:
        log.warning("a chore waits for the database: %s", type(away).__name__)
    except Exception:  # The supervisor of all chores: it is logged, and the chore comes again.
        log.exception("a chore failed")
