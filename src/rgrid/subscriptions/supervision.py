"""Loops that outlive faults: which errors pass by themselves, and how a loop starts again after any error."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg

from rgrid.kernel.clock import monotonic_ms
from rgrid.kernel.errors import Unavailable

log = logging.getLogger(__name__)

PAUSE_MIN_S: Final = 0.05
PAUSE_MAX_S: Final = 2.0
_STEADY_MS: Final = 5_000  # a loop that ran this long before it failed starts again without delay

TRANSIENT: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
    asyncpg.exceptions.OperatorInterventionError,  # shutdown, crash, cannot connect now, cancelled
    asyncpg.exceptions.InsufficientResourcesError,  # disk full, out of memory, too many connections
    asyncpg.exceptions.TransactionRollbackError,  # deadlock, serialization
    asyncpg.exceptions.PostgresSystemError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby before its promotion
    Unavailable,
)
"""Errors that say nothing about the event at hand: the same event may well succeed later."""


class LeadershipLost(Exception):
    """Another process leads now, or the checkpoint is not where this process left it: load it and begin again."""


async def supervised(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Runs `work` for ever; a fault is logged and followed by a pause that doubles up to PAUSE_MAX_S."""
    pause_s = PAUSE_MIN_S
    while True:
        started_ms = monotonic_ms()
        try:
            await work()
        except LeadershipLost as lost:
            log.info("%s: %s", name, lost)
        except TRANSIENT as fault:
            log.warning("%s: %s: %s; again in %.2f s", name, type(fault).__name__, fault, pause_s)
        except Exception as bug:  # The supervisor: one subscriber's bug must not end the others.
            log.error("%s failed; again in %.2f s", name, pause_s, exc_info=bug)
        if monotonic_ms() - started_ms > _STEADY_MS:
            pause_s = PAUSE_MIN_S
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, PAUSE_MAX_S)
