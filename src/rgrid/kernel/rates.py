"""Prices of a vCPU-hour with the time in which they hold, and which one counts at a moment."""

import itertools
import json
import tomllib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

KINDS: Final = ("sandbox", "container", "process")
"""The kinds of runner that there is a price for, also when nobody set one."""
RATES_MAX: Final = 1_000
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Rate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price in micros of a vCPU-hour on one kind of runner; without `valid_until` it holds for good."""

    runner_kind: Annotated[str, Meta(min_length=1, max_length=50)]
    hourly_micros: Annotated[int, Meta(ge=0, le=1 << 50)]
    valid_from: Annotated[datetime, Meta(tz=True)]
    valid_until: Annotated[datetime, Meta(tz=True)] | None = None

    def overlaps(self, other: "Rate") -> bool:
        """Whether both hold at some moment."""
        return (self.valid_until is None or other.valid_from < self.valid_until) and (
            other.valid_until is None or self.valid_from < other.valid_until
        )


class RateTable:
    """Every price. `otherwise` counts for a kind of runner before its first one."""

    def __init__(self, rates: Iterable[Rate], otherwise: int) -> None:
        self._rates = sorted(rates, key=lambda rate: rate.valid_from, reverse=True)
        self._otherwise = otherwise

    def at(self, runner_kind: str, moment: datetime) -> int:
        """Micros per vCPU-hour: the one that holds, or in a gap the newest before it."""
        for rate in self._rates:
            if rate.runner_kind == runner_kind and rate.valid_from <= moment:
                return rate.hourly_micros
        return self._otherwise

    def highest(self, moment: datetime) -> int:
        """What a vCPU-hour costs at most: where it will run is not known before it starts."""
        return max(self.at(kind, moment) for kind in self.kinds)

    @property
    def kinds(self) -> list[str]:
        return sorted({*KINDS, *(rate.runner_kind for rate in self._rates)})

    def listed(self) -> list[Rate]:
        """Every price, the newest first; the one for the time before all others closes each kind's row."""
        first = {rate.runner_kind: rate.valid_from for rate in self._rates}
        before = [
            Rate(
                runner_kind=kind,
                hourly_micros=self._otherwise,
                valid_from=BEGINNING,
                valid_until=first.get(kind),
            )
            for kind in self.kinds
            if first.get(kind, datetime.max.replace(tzinfo=UTC)) > BEGINNING
        ]
        return sorted([*self._rates, *before], key=lambda rate: (rate.valid_from, rate.runner_kind), reverse=True)


def parse(text: str) -> tuple[Rate, ...]:
    """Rates from a JSON list, or from TOML with one `[[rates]]` each. Raises ValueError with what is wrong."""
    try:
        found = json.loads(text) if text.lstrip().startswith("[") and "[[" not in text else tomllib.loads(text)["rates"]
        rates = msgspec.convert(found, list[Rate])
    except KeyError:
        raise ValueError("has no [[rates]]") from None
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as problem:
        raise ValueError(f"is no list of rates ({problem})") from None
    if len(rates) > RATES_MAX:
        raise ValueError(f"has more than {RATES_MAX} rates")
    rates = [
        msgspec.structs.replace(
            rate,
            valid_from=rate.valid_from.astimezone(UTC),
            valid_until=None if rate.valid_until is None else rate.valid_until.astimezone(UTC),
        )
        for rate in rates
    ]
    check(rates)
    return tuple(rates)


def check(rates: Sequence[Rate]) -> None:
    """Raises ValueError for a time that ends before it begins, and for two prices that hold at once."""
    ordered = sorted(rates, key=lambda rate: (rate.runner_kind, rate.valid_from))
    for rate in ordered:
        if rate.valid_until is not None and rate.valid_until <= rate.valid_from:
            raise ValueError(f"has a rate for {rate.runner_kind} that ends before it begins ({rate.valid_from})")
    for one, other in itertools.pairwise(ordered):
        if one.runner_kind == other.runner_kind and one.overlaps(other):
            raise ValueError(
                f"has two rates for {one.runner_kind} at {other.valid_from:%Y-%m-%dT%H:%M:%SZ}: the validity overlaps"
            )
