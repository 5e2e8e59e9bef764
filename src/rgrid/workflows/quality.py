"""Quality gates: what a step's output says about itself, and whether that is enough. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from rgrid.workflows.document import QualityGate


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """What an output reports: `row_count`, and under `quality` the rates of valid rows and of nulls."""

    row_count: int | None = None
    valid_rate: float | None = None
    null_rate: float | None = None


def measures(outputs: Mapping[str, Any], row_count: int | None = None) -> Measures:
    """What the output reports, a script's by what it printed last; `row_count` when it is known otherwise."""
    reports = [outputs, outputs["stdout_json"]] if isinstance(outputs.get("stdout_json"), dict) else [outputs]
    rates = [report["quality"] for report in reports if isinstance(report.get("quality"), dict)]
    counted = [row_count, *(report.get(name) for report in reports for name in ("row_count", "rows"))]
    return Measures(
        row_count=next((number for number in counted if type(number) is int), None),
        valid_rate=_rate(rates, "valid_rate"),
        null_rate=_rate(rates, "null_rate"),
    )


def _rate(rates: Sequence[Mapping[str, Any]], name: str) -> float | None:
    return next((rate[name] for rate in rates if type(rate.get(name)) in (int, float)), None)


def complaints(gate: QualityGate, found: Measures) -> Sequence[str]:
    """What is not as the gate wants it. A number that is wanted and not there is not as wanted."""
    return [
        *_compared("row_count", found.row_count, gate.min_records, gate.max_records),
        *_compared("quality.valid_rate", found.valid_rate, gate.min_valid_rate, None),
        *_compared("quality.null_rate", found.null_rate, None, gate.max_null_rate),
    ]


def _compared(name: str, number: float | None, least: float | None, most: float | None) -> Iterable[str]:
    if least is None and most is None:
        return
    if number is None:
        yield f"The output reports no {name}."
    elif least is not None and number < least:
        yield f"{name} is {number}, less than {least}."
    elif most is not None and number > most:
        yield f"{name} is {number}, more than {most}."
