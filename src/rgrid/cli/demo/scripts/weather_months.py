"""Four years of weather in Seattle by month: rain as bars, the span of temperatures as a band.

Usage: weather_months.py seattle-weather.csv
Data: NOAA (public domain), packaged as vega_datasets.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def months_of(path: str) -> list[tuple[str, float, float, float]]:
    """Month, rain in an average year (mm), mean of the lowest and of the highest temperatures (°C)."""
    rain: defaultdict[int, float] = defaultdict(float)
    low: defaultdict[int, list[float]] = defaultdict(list)
    high: defaultdict[int, list[float]] = defaultdict(list)
    years = set()
    with Path(path).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            year, month, _ = row["date"].split("/")
            years.add(year)
            rain[int(month)] += float(row["precipitation"])
            low[int(month)].append(float(row["temp_min"]))
            high[int(month)].append(float(row["temp_max"]))
    return [
        (
            NAMES[month - 1],
            rain[month] / len(years),
            sum(low[month]) / len(low[month]),
            sum(high[month]) / len(high[month]),
        )
        for month in sorted(rain)
    ]


def chart(months: list[tuple[str, float, float, float]]) -> str:
    """Bars and a band as SVG."""
    width, height, floor = 640, 320, 280
    wettest = max(rain for _, rain, _, _ in months)
    warmest = max(high for _, _, _, high in months)

    def y_of(temperature: float) -> float:
        return floor - temperature / warmest * (floor - 60)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        '<text x="20" y="28" font-size="16">Seattle, 2012 to 2015: rain and temperature</text>',
    ]
    for number, (name, rain, _, _) in enumerate(months):
        tall = rain / wettest * (floor - 60)
        x = 30 + number * 50
        parts.append(f'<rect x="{x}" y="{floor - tall:.1f}" width="38" height="{tall:.1f}" fill="#93c5fd"/>')
        parts.append(f'<text x="{x + 19}" y="{floor + 16}" font-size="11" text-anchor="middle">{name}</text>')
    upper = [f"{49 + number * 50},{y_of(high):.1f}" for number, (_, _, _, high) in enumerate(months)]
    lower = [f"{49 + number * 50},{y_of(low):.1f}" for number, (_, _, low, _) in enumerate(months)]
    parts.append(f'<polygon points="{" ".join(upper + lower[::-1])}" fill="#f97316" fill-opacity="0.45"/>')
    parts.append(
        f'<text x="20" y="{height - 6}" font-size="11" fill="#666">bars: rain, up to {wettest:.0f} mm a month;'
        f" band: mean lowest to mean highest temperature, up to {warmest:.0f} °C</text></svg>"
    )
    return "\n".join(parts)


def main() -> None:
    months = months_of(sys.argv[1])
    with Path("weather-months.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("month", "rain_mm", "mean_low_c", "mean_high_c"))
        writer.writerows((name, f"{rain:.1f}", f"{low:.1f}", f"{high:.1f}") for name, rain, low, high in months)
    Path("weather-months.svg").write_text(chart(months), encoding="utf-8")
    wettest = max(months, key=lambda month: month[1])
    driest = min(months, key=lambda month: month[1])
    print(f"wettest month: {wettest[0]} with {wettest[1]:.0f} mm, driest: {driest[0]} with {driest[1]:.0f} mm")


if __name__ == "__main__":
    main()
