"""Figures of one run: printed as a table, kept as JSON. Ratios against a peer or a limit; no verdicts."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One measured thing. `against` names the peer or limit measured in the same run, `ratio` is ours over its."""

    benchmark: str
    what: str
    value: float
    unit: str
    against: str = ""
    peer: float | None = None
    ratio: float | None = None
    aim: str = ""


def compared(benchmark: str, what: str, unit: str, ours: float, against: str, peer: float, aim: str) -> Figure:
    return Figure(benchmark, what, ours, unit, against, peer, ours / peer if peer else None, aim)


def in_turn(rounds: int, *measures: Callable[[], float]) -> list[float]:
    """Each measure once a round, one after the other, so that a drift of the machine meets all alike; medians."""
    taken: list[list[float]] = [[] for _ in measures]
    for _ in range(rounds):
        for values, measure in zip(taken, measures, strict=True):
            values.append(measure())
    return [statistics.median(values) for values in taken]


def percentile(values: Sequence[float], share: float) -> float:
    """By nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def table(figures: Sequence[Figure]) -> str:
    rows = [("benchmark", "what", "value", "unit", "against", "peer", "ratio", "aim")]
    for one in figures:
        peer = "" if one.peer is None else f"{one.peer:,.1f}"
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
        rows.append((one.benchmark, one.what, f"{one.value:,.1f}", one.unit, one.against, peer, ratio, one.aim))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def write(figures: Sequence[Figure], path: Path) -> None:
    """The figures and the machine they were taken on."""
    machine = {
        "cores": os.cpu_count(),
        "load_before": os.getloadavg(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "figures": [asdict(one) for one in figures]}, indent=1) + "\n")
