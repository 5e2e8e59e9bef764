"""Notices that the database does not answer any more, and answers the requests that wait for it."""

import asyncio
import contextlib
import copy
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, NoReturn

import asyncpg

from rgrid.kernel.errors import Unavailable
from rgrid.postgres.pool import GONE
from rgrid.web.exchange import Exchange, Message
from rgrid.web.problems import problem

log = logging.getLogger(__name__)

ASK_EVERY_S: Final = 1.5
ASK_AGAIN_S: Final = 0.25
"""While it is away: whoever waits for it wants to know soon that it is back."""
UNANSWERED_MAX: Final = 2
"""So many questions in a row, each with its time to answer: a server that only starts again is not away."""
RETRY_AFTER_S: Final = 1

Connect = Callable[[], Awaitable[asyncpg.Connection]]


class Outage:
    """`watch` is its task. A request that hangs on a dead connection can't be ended from outside, because ending it
    hangs as well; so it is answered from here, and what it says later goes nowhere."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connection: asyncpg.Connection | None = None
        self._waiting: set[Exchange] = set()
        self._unanswered = 0

    @property
    def is_on(self) -> bool:
        return self._unanswered >= UNANSWERED_MAX

    @contextlib.contextmanager
    def covering(self, exchange: Exchange) -> Iterator[None]:
        """The request is answered from here when the database goes away under it."""
        self._waiting.add(exchange)
        try:
            yield
        finally:
            self._waiting.discard(exchange)

    async def refuse(self, exchange: Exchange) -> None:
        """Says that the database is away."""
        error = Unavailable("The database does not answer.", code="database_unavailable", retry_after_s=RETRY_AFTER_S)
        await exchange.answer(problem(error, exchange.path, exchange.request_id))

    async def _overtake(self, exchange: Exchange) -> None:
        """Answers in the place of whoever works on the request, unless the answer has begun."""
        if exchange.status:
            return
        other = copy.copy(exchange)
        exchange.send = _nowhere
        exchange.detail = "refused before: the database did not answer"
        try:
            await self.refuse(other)
        except (OSError, RuntimeError) as gone:
            log.warning("a request could not be refused: %r", gone)

    async def watch(self) -> NoReturn:
        try:
            while True:
                asked = asyncio.ensure_future(self._ask())
                await asyncio.sleep(ASK_AGAIN_S if self.is_on else ASK_EVERY_S)
                if asked.done() and not asked.cancelled() and asked.exception() is None:
                    self._is_answered()
                else:
                    self._give_up(asked)
                    await self._is_unanswered()
        finally:
            if self._connection is not None:
                self._connection.terminate()

    def _is_answered(self) -> None:
        if self.is_on:
            log.warning("the database answers again")
        self._unanswered = 0

    async def _is_unanswered(self) -> None:
        self._unanswered += 1
        if self._unanswered == UNANSWERED_MAX:
            log.error("the database does not answer; %d requests wait for it", len(self._waiting))
        if self.is_on:
            for exchange in list(self._waiting):
                await self._overtake(exchange)

    async def _ask(self) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        await self._connection.fetchval("select 1")

    def _give_up(self, asked: "asyncio.Future[None]") -> None:
        if asked.done():
            fault = None if asked.cancelled() else asked.exception()
            if fault is not None and not isinstance(fault, GONE):
                log.error("the database could not be asked", exc_info=fault)
        asked.add_done_callback(_seen)
        asked.cancel()
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


async def _nowhere(message: Message) -> None:
    """Whoever asked has an answer already."""


def _seen(asked: "asyncio.Future[None]") -> None:
    if not asked.cancelled():
        asked.exception()
