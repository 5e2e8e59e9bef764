"""The runner pool: claims work while slots are free, makes each attempt a task, renews, drains.

Claim, attempts, log shipping and renewal run side by side: a slot is free again when its box is gone, so the next claim
goes out while results are still on their way. An idle pool waits inside the claim call and so sees new work at once.
"""

import asyncio
import functools
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from rgrid.kernel.errors import Conflict, NotFound, Rejected, RgridError, Unavailable
from rgrid.pool.attempt import Attempt
from rgrid.pool.backoff import delay_s
from rgrid.pool.engines.engine import Engine
from rgrid.pool.identity import describe_worker
from rgrid.pool.installer import Installer
from rgrid.pool.protocol import Assignment, Heartbeat, Lease, Renewal, Work
from rgrid.pool.renewer import Renewer
from rgrid.pool.scratch import hold_scratch
from rgrid.pool.shipper import Shipper
from rgrid.pool.tuning import PoolTuning

HELD_PER_SLOT_MAX: Final = 4  # attempts per slot, one in its box and the others with results on their way
SIGNALS_WAIT_S: Final = 20.0
SIGNALS_REPEAT_S: Final = 0.5  # how often a service that repeats itself is asked
CLAIM_GRACE_S: Final = 0.1  # for a claim that is being answered while the stop comes
HALT_WAIT_S: Final = 15.0
STOPPED_TRIES_MAX: Final = 3

_log = logging.getLogger(__name__)


class RunnerPool:
    """One per process. `run` returns when it was stopped or told to drain, and everything it had is finished."""

    def __init__(self, work: Work, heartbeat: Heartbeat, engine: Engine, tuning: PoolTuning, scratch: Path) -> None:
        self._work = work
        self._engine = engine
        self._tuning = tuning
        self._scratch = scratch
        self._installer = Installer(engine, tuning, scratch)
        self.worker = describe_worker(engine, tuning.slots)
        self._attempts: dict[Lease, Attempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._boxes: set[Lease] = set()  # attempts that occupy a slot
        self._stopping = asyncio.Event()
        self._freed = asyncio.Event()
        self._shipper = Shipper(work, self.worker.worker_id)
        self._renewer = Renewer(
            heartbeat, self.worker.worker_id, tuning.renew_every_s, self._on_renewal, self._on_overdue
        )

    @property
    def worker_id(self) -> str:
        return self.worker.worker_id

    @property
    def busy_slots(self) -> int:
        """Boxes that are being prepared or run."""
        return len(self._boxes)

    def drain(self) -> None:
        """Take nothing new, finish what is there, then end."""
        self._stopping.set()
        self._freed.set()

    def halt(self) -> None:
        """Stop now: kill every box; the service gives the executions to other workers."""
        self.drain()
        for attempt in list(self._attempts.values()):
            attempt.halt()

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set, or until the service asks for a drain."""
        scratch_fd = await asyncio.to_thread(hold_scratch, self._scratch)
        background = [asyncio.ensure_future(self._follow(stop)), asyncio.ensure_future(self._shipper.run())]
        try:
            if not await self._register():
                return
            self._renewer.start()
            background += [asyncio.ensure_future(self._renewer.watch()), asyncio.ensure_future(self._heed_signals())]
            await self._claim_on()
            await self._finish_all()
            await self._say_stopped()
        finally:
            await self._renewer.stop()
            await self._installer.close()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            os.close(scratch_fd)

    async def _follow(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.drain()

    async def _register(self) -> bool:
        """Tries until the service knows this worker; False when the stop came first."""
        tries = 0
        while not self._stopping.is_set():
            try:
                await self._work.register(self.worker)
            except Unavailable as error:
                _log.warning("the worker is not registered yet: %s", error.detail)
                await self._pause(delay_s(self.worker_id, tries))
                tries += 1
            else:
                return True
        return False

    # Claiming

    async def _claim_on(self) -> None:
        """Until the pool stops: claim as much as there are free slots, one request at a time."""
        failures = 0
        while not self._stopping.is_set():
            free = self._free_slots()
            if free <= 0:
                self._freed.clear()
                await self._freed.wait()
                continue
            try:
                assignments = await self._claim(free)
            except Unavailable as error:
                _log.warning("no claim: the service is unavailable (%s)", error.detail)
            except (NotFound, Conflict, Rejected) as error:
                _log.warning("no claim: the service does not know this worker any more (%s)", error.detail)
                await self._register()
            except Exception:  # noqa: BLE001 - one failed claim must not end the pool
                _log.exception("no claim: the request failed")
            else:
                failures = 0
                for assignment in assignments:
                    self._begin(assignment)
                continue
            await self._pause(delay_s(self.worker_id, failures))
            failures += 1

    def _free_slots(self) -> int:
        """Boxes that may start now. Many results on their way also count: the service is slow, so take no more."""
        held_max = self._tuning.slots * HELD_PER_SLOT_MAX
        return min(self._tuning.slots - len(self._boxes), held_max - len(self._attempts))

    async def _claim(self, free: int) -> list[Assignment]:
        """A claim that a stop interrupts. What the service gave away by then is taken and finished all the same."""
        claim = asyncio.ensure_future(self._work.claim(self.worker_id, free, self._tuning.claim_wait_s))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({claim, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not claim.done():
                await asyncio.wait({claim}, timeout=CLAIM_GRACE_S)
        finally:
            stopping.cancel()
            claim.cancel()  # does nothing to one that is done
        try:
            return await claim
        except asyncio.CancelledError:
            if self._stopping.is_set():
                return []
            raise

    def _begin(self, assignment: Assignment) -> None:
        lease = assignment.lease
        attempt = Attempt(
            assignment,
            work=self._work,
            engine=self._engine,
            installer=self._installer,
            shipper=self._shipper,
            scratch=self._scratch,
            tuning=self._tuning,
            box_gone=functools.partial(self._box_gone, lease),
        )
        self._attempts[lease] = attempt
        self._boxes.add(lease)
        self._renewer.hold(lease, assignment.lease_ttl_s)
        task = asyncio.ensure_future(self._see_through(attempt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _see_through(self, attempt: Attempt) -> None:
        try:
            await attempt.run()
        except Exception:  # noqa: BLE001 - whatever goes wrong with one attempt, the pool goes on
            _log.exception("attempt %d of %s broke off", attempt.lease.attempt, attempt.lease.execution_id)
        finally:
            self._renewer.release(attempt.lease)
            self._attempts.pop(attempt.lease, None)
            self._box_gone(attempt.lease)

    def _box_gone(self, lease: Lease) -> None:
        self._boxes.discard(lease)
        self._freed.set()

    # What the service wants

    async def _heed_signals(self) -> None:
        """Cancels and drains come here at once; the heartbeat repeats them in case this channel is down."""
        failures = 0
        last: Renewal | None = None
        while True:
            try:
                news = await self._work.signals(self.worker_id, SIGNALS_WAIT_S)
                self._on_renewal(news)
                failures = 0
                if news == last:
                    await asyncio.sleep(SIGNALS_REPEAT_S)
                last = news
            except RgridError:
                await asyncio.sleep(delay_s(self.worker_id, failures))
                failures += 1
            except Exception:  # noqa: BLE001 - without signals the heartbeat still brings the same news
                _log.exception("signals: the request failed")
                await asyncio.sleep(delay_s(self.worker_id, failures))
                failures += 1

    def _on_renewal(self, renewal: Renewal) -> None:
        for lease in renewal.lost:
            if attempt := self._attempts.get(lease):
                attempt.lose(said_by_service=True)
        for lease in renewal.cancel:
            if attempt := self._attempts.get(lease):
                attempt.cancel()
        if renewal.drain:
            self.drain()

    def _on_overdue(self, lease: Lease) -> None:
        if attempt := self._attempts.get(lease):
            attempt.lose(said_by_service=False)

    # Stopping

    async def _finish_all(self) -> None:
        """Lets running attempts end; after `drain_max_s` their boxes are killed and the service is told."""
        if self._tasks and not await self._ended_within(self._tuning.drain_max_s):
            _log.warning("%d scripts still run after the drain's limit: killed", len(self._boxes))
            for attempt in list(self._attempts.values()):
                attempt.halt()
            if not await self._ended_within(HALT_WAIT_S):
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ended_within(self, wait_s: float) -> bool:
        if not self._tasks:
            return True
        _, pending = await asyncio.wait(self._tasks, timeout=wait_s)
        return not pending

    async def _say_stopped(self) -> None:
        for tries in range(STOPPED_TRIES_MAX):
            try:
                await self._work.stopped(self.worker_id)
                return
            except RgridError as error:
                _log.warning("the service does not know that this worker stopped: %s", error.detail)
            await asyncio.sleep(delay_s(self.worker_id, tries))

    async def _pause(self, wait_s: float) -> None:
        """Sleeps, but not beyond a stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), wait_s)
