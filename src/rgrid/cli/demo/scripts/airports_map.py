"""The airports of the United States: how many in each state, and a map that needs no outline to be recognised.

Usage: airports_map.py airports.csv
Data: ourairports.com (public domain), packaged as vega_datasets.
"""

import csv
import math
import sys
from collections import Counter
from pathlib import Path

WEST, EAST, SOUTH, NORTH = -125.5, -66.0, 24.0, 49.8
MIDDLE = math.radians((SOUTH + NORTH) / 2)


def airports_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["country"] == "USA"]


def is_contiguous(row: dict[str, str]) -> bool:
    return WEST < float(row["longitude"]) < EAST and SOUTH < float(row["latitude"]) < NORTH


def chart(rows: list[dict[str, str]]) -> str:
    """One point for each airport as SVG."""
    width = 900
    scale = width / ((EAST - WEST) * math.cos(MIDDLE))
    height = (NORTH - SOUTH) * scale + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height:.0f}" fill="#0f172a"/>',
        f'<text x="20" y="28" font-size="16" fill="#e2e8f0">{len(rows)} airports</text><g fill="#38bdf8">',
    ]
    for row in rows:
        x = (float(row["longitude"]) - WEST) * math.cos(MIDDLE) * scale
        y = (NORTH - float(row["latitude"])) * scale + 30
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.3"/>')
    return "\n".join([*parts, "</g></svg>"])


def main() -> None:
    rows = airports_of(sys.argv[1])
    states = Counter(row["state"] for row in rows)
    with Path("airports-by-state.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("state", "airports"))
        writer.writerows(states.most_common())
    shown = [row for row in rows if is_contiguous(row)]
    Path("airports.svg").write_text(chart(shown), encoding="utf-8")
    most = ", ".join(f"{state} {count}" for state, count in states.most_common(3))
    print(f"{len(rows)} airports in {len(states)} states and territories; most: {most}")


if __name__ == "__main__":
    main()
