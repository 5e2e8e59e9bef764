"""What running a script so many times will take and cost, from how long it took before. Pure."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import msgspec

from rgrid.executions.cost import attempt_micros

DEFAULT_MS: Final = 60_000
SCRIPT_SAMPLES_MIN: Final = 3


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds; `low` and `high` are the costs if all took the median (p50) or the 90th percentile."""

    median_ms: Fraction
    p90_ms: int
    total_ms: Fraction
    wall_ms: Fraction
    wall_p90_ms: int
    cost_micros: int
    cost_p90_micros: int


def median(samples: Sequence[int]) -> Fraction:
    """The middle one of ascending samples, or the mean of the two middle ones: 10 and 13 give 11.5."""
    middle = len(samples) // 2
    return Fraction(samples[middle]) if len(samples) % 2 else Fraction(samples[middle - 1] + samples[middle], 2)


def p90(samples: Sequence[int]) -> int:
    """The 90th percentile of ascending samples by nearest rank."""
    return samples[-(-len(samples) * 9 // 10) - 1]


def estimate(samples: Sequence[int], files: int, parallel: int, hourly_micros: int) -> Estimate:
    """Of `files` executions, `parallel` at a time. `samples` are ascending; without any each takes a minute."""
    known = samples or (DEFAULT_MS,)
    each, slow = median(known), p90(known)
    rounds = -(-files // parallel)
    total = files * each
    return Estimate(
        median_ms=each,
        p90_ms=slow,
        total_ms=total,
        wall_ms=rounds * each,
        wall_p90_ms=rounds * slow,
        # Half a millisecond goes up, as half a micro does.
        cost_micros=attempt_micros(int(total + Fraction(1, 2)), hourly_micros),
        cost_p90_micros=attempt_micros(files * slow, hourly_micros),
    )
