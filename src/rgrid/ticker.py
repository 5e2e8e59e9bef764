"""Time as a driver: APScheduler wakes it, it reads what is due and sends commands."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from projections import batches, executions, run_queue, run_timers, schedule_runs, schedules, workers, workflow_runs
from rgrid.eventstore.handle import Handler
from rgrid.executions.batch_process import end_batches
from rgrid.executions.commands import EndBatch
from rgrid.executions.following import LinesStored
from rgrid.executions.process import expire_inputs, expire_waits, lose_expired
from rgrid.kernel.clock import Now, monotonic_ms, now
from rgrid.kernel.errors import Unavailable
from rgrid.postgres.pool import GONE, Pool
from rgrid.runners import heartbeats
from rgrid.runners.host import Host
from rgrid.runners.process import settle
from rgrid.schedules.firing import Firing
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
FIRE_EVERY_S: Final = 0.5
REPAIR_EVERY_S: Final = 15
DECIDED_AT_ONCE_MAX: Final = 2_000
"""More than fit one append of the writer, so that the next one forms while it is under way."""
IN_FLIGHT_MAX: Final = 20_000
DUE_PAGES_MAX: Final = 40
START_BY_S: Final = 10
RUNNING_S: Final = 30

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


class ScheduleChores:
    """What schedules need of time: decisions about what is due, starts that were put off, and repairs. A schedule whose
    target takes its time keeps no other one waiting."""

    def __init__(self, pool: Pool, firing: Firing, reached: Callable[..., Awaitable[None]], clock: Now = now) -> None:
        self._pool = pool
        self._firing = firing
        self._reached = reached
        self._now = clock
        self._free = asyncio.Semaphore(DECIDED_AT_ONCE_MAX)
        self._in_flight: dict[str, asyncio.Task[None]] = {}
        self._position = 0
        self._looked_at = ""

    def chores(self) -> list[tuple[Chore, float]]:
        return [(self.fire, FIRE_EVERY_S), (self.start_late, FIRE_EVERY_S), (self.repair, REPAIR_EVERY_S)]

    async def fire(self) -> None:
        """Begin to decide about everything that is due."""
        if self._position:
            # What this process has decided is not looked at again.
            with contextlib.suppress(Unavailable):
                await self._reached(self._position, [schedules.PROJECTION.name])
        after: schedules.Due | None = None
        for _ in range(DUE_PAGES_MAX):
            page = await schedules.due(self._pool, self._now(), after)
            for due in page:
                self._begin(due.schedule_id, self._decide(due.schedule_id))
            if len(page) < schedules.DUE_MAX:
                break
            after = page[-1]

    async def settled(self) -> None:
        """Returns when nothing is in flight."""
        while self._in_flight:
            await asyncio.gather(*self._in_flight.values())

    async def start_late(self) -> None:
        """Begin what was put off, and what somebody should have begun a while ago."""
        moment = self._now()
        for schedule_id, run_id in await schedule_runs.late(self._pool, moment, moment - timedelta(seconds=START_BY_S)):
            self._begin(f"{schedule_id} {run_id}", self._firing.start(schedule_id, run_id, version=1))

    async def repair(self) -> None:
        """Look at a part of the runs that have been going on for a while, from the first again after the last."""
        before = self._now() - timedelta(seconds=RUNNING_S)
        rows = await schedule_runs.running_since(self._pool, before, self._looked_at)
        for row in rows:
            run_id = row["schedule_run_id"]
            self._begin(f"again {run_id}", self._firing.look_again(row["schedule_id"], run_id))
        self._looked_at = rows[-1]["schedule_run_id"] if len(rows) == schedule_runs.OPEN_MAX else ""

    def _begin(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        if name in self._in_flight or len(self._in_flight) >= IN_FLIGHT_MAX:
            work.close()
            return
        task = self._in_flight[name] = asyncio.create_task(self._one(work), name=name)
        task.add_done_callback(lambda _: self._in_flight.pop(name, None))

    async def _one(self, work: Coroutine[Any, Any, object]) -> None:
        async with self._free:
            await _careful(lambda: work)

    async def _decide(self, schedule_id: str) -> None:
        self._position = max(self._position, await self._firing.decide(schedule_id))


async def _careful(chore: Chore) -> None:
    """One chore that fails is logged and comes again; it stops no other."""
    try:
        await chore()
    except GONE as away:
        log.warning("a chore waits for the database: %s", type(away).__name__)
    except Exception:  # The supervisor of all chores: it is logged, and the chore comes again.
        log.exception("a chore failed")
