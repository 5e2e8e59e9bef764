"""The one place that asks what time it is."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Now = Callable[[], datetime]


def now() -> datetime:
    """The current moment, aware, in UTC, in microseconds."""
    return datetime.now(UTC)


def monotonic_ms() -> int:
    """Milliseconds of this machine's monotonic clock: for durations, never for moments."""
    return time.monotonic_ns() // 1_000_000
