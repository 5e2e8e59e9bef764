"""Calls of the service that are made again until it is there: within a bound, and only while the lease lives."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from rgrid.kernel.errors import Unavailable
from rgrid.pool.backoff import delay_s

CALL_TRIES_MAX: Final = 1000
FULL_S_MAX: Final = 8.0  # a full store is rarely empty soon, and the user waits to hear of it

T = TypeVar("T")


async def persisted(call: Callable[[], Awaitable[T]], wait_s_max: float, lost: asyncio.Event, who: str) -> T:
    """What `call` answers in the end. Raises its last error when the lease is `lost` or after `wait_s_max`; `who`
    spreads the pauses of many callers."""
    begun_at = time.monotonic()
    give_up_at = begun_at + wait_s_max
    for tries in range(CALL_TRIES_MAX):
        try:
            return await call()
        except (Unavailable, ConnectionError) as error:
            if isinstance(error, Unavailable) and error.code == "storage_full":
                give_up_at = min(give_up_at, begun_at + FULL_S_MAX)
            if lost.is_set() or time.monotonic() >= give_up_at:
                raise
        with suppress(TimeoutError):
            await asyncio.wait_for(lost.wait(), delay_s(who, tries))
    raise Unavailable("the service did not come back")
