"""Stops what tries have begun: executions, child runs, handlers; asks first, and after a grace time waits no longer."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import asyncpg

from rgrid.eventstore.handle import Handler
from rgrid.kernel.errors import NotFound, Rejected
from rgrid.kernel.ids import new_command_id
from rgrid.kernel.messages import Cause
from rgrid.workflows import handler_leases
from rgrid.workflows.commands import CancelRun
from rgrid.workflows.handler_leases import Try
from rgrid.workflows.handler_work import HandlerWork
from rgrid.workflows.neighbours import Neighbours
from rgrid.workflows.progress import Stop
from rgrid.workflows.run import DECIDER as RUN
from rgrid.workflows.run_state import Run

GRACE_S: Final = 30.0
ASKED_MAX: Final = 20_000
AT_ONCE_MAX: Final = 32

Confirm = Callable[[Try], Awaitable[None]]
"""Takes a try for stopped."""


class Stopping:
    """Asks once for each try, and once more when it is to be forced."""

    def __init__(
        self, pool: asyncpg.Pool, handler: Handler, work: HandlerWork, neighbours: Neighbours, confirm: Confirm
    ) -> None:
        self._pool = pool
        self._handler = handler
        self._work = work
        self._neighbours = neighbours
        self._confirm = confirm
        self._asked: OrderedDict[tuple[Try, bool], None] = OrderedDict()
        self._waiting: set[asyncio.Task[None]] = set()

    async def all(self, run: Run, stops: Sequence[Stop]) -> list[Try]:
        """Ask that all of these end; those that need not be waited for."""
        over: list[Try] = []
        for stop in stops:
            of = Try(run.asked.run_id, stop.step, stop.attempt)
            if (of, stop.forced) in self._asked:
                continue
            self._asked[of, stop.forced] = None
            while len(self._asked) > ASKED_MAX:
                self._asked.popitem(last=False)
            if await self.one(run, stop) or stop.forced:
                over.append(of)
            else:
                self._later(of)
        return over

    async def one(self, run: Run, stop: Stop) -> bool:
        """Ask that what this try began ends; True when there is nothing to wait for."""
        reason = f"The step {stop.step} of {run.asked.run_id} is stopped."
        if stop.execution_id is not None:
            await self._neighbours.cancel(stop.execution_id, reason)
        for first in range(0, len(stop.child_run_ids), AT_ONCE_MAX):
            some = stop.child_run_ids[first : first + AT_ONCE_MAX]
            await asyncio.gather(*(self._cancel(child, reason, forced=stop.forced) for child in some))
        if run.outline(stop.step).type == "HANDLER":
            of = Try(run.asked.run_id, stop.step, stop.attempt)
            if self._work.stop(of) and not stop.forced:
                return False
            await handler_leases.forget(self._pool, [of])
            return True
        return stop.execution_id is None and not stop.child_run_ids

    def close(self) -> None:
        for task in self._waiting:
            task.cancel()

    def _later(self, of: Try) -> None:
        async def confirm() -> None:
            await asyncio.sleep(GRACE_S)
            await self._confirm(of)

        task = asyncio.create_task(confirm(), name=f"grace of {of.step}")
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _cancel(self, run_id: str, reason: str, *, forced: bool) -> None:
        command = CancelRun(requested_by="system", reason=reason, forced=forced)
        try:
            await self._handler.handle(RUN, run_id, command, Cause(actor="system", command_id=new_command_id()))
        except (Rejected, NotFound):
            pass  # It ended a moment ago.
