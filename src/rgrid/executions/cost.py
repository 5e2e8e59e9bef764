"""What an attempt costs: exact integer arithmetic from a rate per vCPU-hour to micros."""

from decimal import ROUND_HALF_UP, Decimal
from typing import Final

MS_PER_HOUR: Final = 3_600_000


def hourly_micros(rate_micros: int, cpu: float) -> int:
    """The price of an hour with `cpu` vCPUs, rounded half up. `cpu` is read as the decimal that it prints as."""
    return int((rate_micros * Decimal(str(cpu))).to_integral_value(ROUND_HALF_UP))


def attempt_micros(duration_ms: int, hourly: int) -> int:
    """The cost of so many milliseconds, rounded half up: 120,000 ms at 8,000 an hour cost 267."""
    return (duration_ms * hourly + MS_PER_HOUR // 2) // MS_PER_HOUR


def reserve_micros(timeout_s: int, cpu: float, rate_micros: int) -> int:
    """The cost of one attempt that runs for its whole timeout: what a spending limit keeps aside."""
    return attempt_micros(timeout_s * 1000, hourly_micros(rate_micros, cpu))
