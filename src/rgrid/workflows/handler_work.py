"""Calls handlers, as many side by side as there are places, and sees to it that each try is run by one process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from rgrid.kernel.errors import Conflict, RgridError, Unavailable
from rgrid.kernel.ids import new_id
from rgrid.postgres.pool import GONE
from rgrid.workflows import handler_leases
from rgrid.workflows.beginnings import Work
from rgrid.workflows.commands import CompleteStep, FailStep
from rgrid.workflows.daemon_threads import DaemonThreads
from rgrid.workflows.handler_leases import Held, SignsOfLife, Try
from rgrid.workflows.handlers import HandlerContext, StepError, told

log = logging.getLogger(__name__)

AT_ONCE_MAX: Final = 256
THREADS_MAX: Final = 16
REPORTS_MAX: Final = 60
REPORT_PAUSE_S: Final = 1.0
DRAIN_MAX_S: Final = 5.0

_AWAY: Final[tuple[type[Exception], ...]] = (Unavailable, *GONE)
Result = CompleteStep | FailStep
Report = Callable[[Held, Result], Awaitable[None]]
"""Records a result and starts what follows. Raises Conflict LOST for one that comes too late."""
Resume = Callable[[Held], Awaitable[Work | None]]
"""What is to be called for a try whose start is recorded; None when it has ended otherwise."""


@dataclass(slots=True)
class _Running:
    held: Held
    task: "asyncio.Task[None]"
    is_reporting: bool = False


class HandlerWork:
    """The handlers of one process."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        report: Report,
        resume: Resume,
    ) -> None:
        self.holder = new_id("proc")
        self._pool = pool
        self._report = report
        self._resume = resume
        self._life = SignsOfLife(connect, self.holder)
        self._running: dict[Try, _Running] = {}
        self._places = asyncio.Semaphore(AT_ONCE_MAX)
        self._threads = DaemonThreads(THREADS_MAX)
        self._unseen: set[Held] = set()
        self._is_closing = False

    async def start(self) -> None:
        await self._life.start()

    async def close(self) -> None:
        """Lets what runs end for a while; the rest is another process' then, or this one's after its next start."""
        self._is_closing = True
        tasks = [running.task for running in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=DRAIN_MAX_S)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=DRAIN_MAX_S)
        await self._life.stop(self._pool)

    def begin(self, held: Held, work: Work) -> None:
        """Call the handler; this process holds the try."""
        if held.of in self._running or self._is_closing:
            return
        task = asyncio.create_task(self._run(held, work), name=f"handler {work.handler.name}")
        self._running[held.of] = _Running(held, task)
        task.add_done_callback(lambda _done: self._running.pop(held.of, None))

    def stop(self, of: Try) -> bool:
        """Stop the handler of a try, which then fails as cancelled; whether it runs here."""
        running = self._running.get(of)
        if running is None:
            return False
        if not running.is_reporting:
            running.task.cancel()
        return True

    async def look(self) -> None:
        """Take over what silent processes left, begin again what this one lost sight of, and stop what others have."""
        if self._is_closing:
            return
        held = await handler_leases.own(self._pool, self.holder)
        for running in list(self._running.values()):
            # One that began a moment ago may not have been in the answer.
            if running.held not in held and running.held in self._unseen and not running.is_reporting:
                log.warning("%s is run by another process now", running.held.of)
                running.task.cancel()
        lost = {one for one in held if one.of not in self._running}
        for one in lost & self._unseen:
            await self._begin_again(one)
        self._unseen = lost | {running.held for running in self._running.values() if running.held not in held}
        room = AT_ONCE_MAX - len(self._running)
        if room > 0:
            for one in await handler_leases.take_over(self._pool, self.holder, room):
                await self._begin_again(one)
        await handler_leases.forget_silent(self._pool)

    async def _begin_again(self, held: Held) -> None:
        try:
            work = await self._resume(held)
        except (RgridError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as later:
            log.warning("%s can't begin again yet: %s", held.of, later)
            return
        if work is None:
            await handler_leases.forget(self._pool, [held.of])
        else:
            self.begin(held, work)

    async def _run(self, held: Held, work: Work) -> None:
        result: Result
        try:
            async with self._places:
                outputs = await self._call(held.of, work)
            result = CompleteStep(step=work.step, attempt=work.attempt, outputs=outputs)
        except StepError as failed:
            result = FailStep(step=work.step, attempt=work.attempt, error=str(failed), category=failed.category)
        except asyncio.CancelledError:
            if self._is_closing:
                raise
            result = FailStep(step=work.step, attempt=work.attempt, error="It was cancelled.", category="CANCELLED")
        running = self._running.get(held.of)
        if running is not None:
            running.is_reporting = True
        await self._hand_in(held, result)

    async def _call(self, of: Try, work: Work) -> dict[str, Any]:
        key = f"{of.run_id}/{of.step}/{of.attempt}"
        context = HandlerContext(of.run_id, of.step, of.attempt, key)
        try:
            async with asyncio.timeout(work.limit_s):
                return await work.handler.call(work.params, context, self._threads)
        except TimeoutError:
            raise StepError(f"The step took longer than {work.limit_s:g} s.", "TIMEOUT") from None

    async def _hand_in(self, held: Held, result: Result) -> None:
        for _ in range(REPORTS_MAX):
            try:
                await self._report(held, result)
            except _AWAY as away:
                if self._is_closing:
                    return
                log.warning("the result of %s has to wait: %s", held.of, away)
                await asyncio.sleep(REPORT_PAUSE_S)
                continue
            except Exception as error:  # The supervisor of handlers: a result that can't be recorded is a failure.
                if isinstance(error, Conflict) and error.code == handler_leases.LOST:
                    log.warning("the result of %s comes too late: another process runs it now", held.of)
                    return
                log.exception("the result of %s can't be recorded", held.of)
                if isinstance(result, FailStep):
                    return
                result = FailStep(step=held.of.step, attempt=held.of.attempt, error=told(error), category="INTERNAL")
                continue
            return
