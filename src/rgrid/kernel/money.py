"""Money is integer micros: 1 EUR = 1,000,000. No float comes near an amount."""

from decimal import ROUND_HALF_UP, Decimal
from typing import Final

MICROS_PER_EURO: Final = 1_000_000
_CENT: Final = Decimal("0.01")
_TENTH_OF_MILLI: Final = Decimal("0.0001")


def display(micros: int) -> str:
    """`€` and two decimals; four below one cent; `<€0.0001` where it would show as zero."""
    euros = Decimal(micros) / MICROS_PER_EURO
    if micros == 0 or abs(micros) >= MICROS_PER_EURO // 100:
        return f"€{euros.quantize(_CENT, ROUND_HALF_UP)}"
    shown = euros.quantize(_TENTH_OF_MILLI, ROUND_HALF_UP)
    return f"€{shown}" if shown else "<€0.0001"


def display_limit(micros: int | None) -> str:
    """A monthly limit as `€50.00/month`, or `No limit`."""
    return "No limit" if micros is None else f"{display(micros)}/month"
