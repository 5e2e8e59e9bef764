"""What one dollar put into each of five companies in the year 2000 (or when they began) became by 2010.

Usage: stocks_growth.py stocks.csv
Data: monthly closing prices, packaged as vega_datasets.
"""

import csv
import math
import sys
from collections import defaultdict
from pathlib import Path

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
COLOURS = ("#2563eb", "#c2410c", "#15803d", "#7e22ce", "#b45309")

Series = list[tuple[float, float]]


def prices_of(path: str) -> dict[str, Series]:
    """For each company, points of (year with its fraction, price)."""
    prices: defaultdict[str, Series] = defaultdict(list)
    with Path(path).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            month, _, year = row["date"].split()
            prices[row["symbol"]].append((int(year) + MONTHS.index(month) / 12, float(row["price"])))
    return {symbol: sorted(points) for symbol, points in prices.items()}


def growth(points: Series) -> tuple[float, float, float]:
    """Growth in all, growth a year, and the deepest fall from a peak."""
    first, last = points[0], points[-1]
    total = last[1] / first[1]
    peak, fall = first[1], 0.0
    for _, price in points:
        peak = max(peak, price)
        fall = max(fall, 1 - price / peak)
    return total, total ** (1 / (last[0] - first[0])) - 1, fall


def chart(prices: dict[str, Series]) -> str:
    """Lines on a logarithmic scale as SVG: equal slopes are equal growth."""
    width, height, left, right, top, floor = 640, 320, 30, 580, 50, 280
    years = [year for points in prices.values() for year, _ in points]
    grown = {symbol: [(year, price / points[0][1]) for year, price in points] for symbol, points in prices.items()}
    values = [math.log(value) for points in grown.values() for _, value in points]

    def place(year: float, value: float) -> str:
        x = left + (year - min(years)) / (max(years) - min(years)) * (right - left)
        y = floor - (math.log(value) - min(values)) / (max(values) - min(values)) * (floor - top)
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        '<text x="20" y="28" font-size="16">What one dollar became</text>',
    ]
    for colour, (symbol, points) in zip(COLOURS, sorted(grown.items()), strict=False):
        line = " ".join(place(year, value) for year, value in points)
        x, y = place(*points[-1]).split(",")
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{float(x) + 4}" y="{y}" font-size="11" fill="{colour}">{symbol}</text>')
    for year in range(int(min(years)), int(max(years)) + 1, 2):
        x = place(year, 1.0).split(",")[0]
        parts.append(f'<text x="{x}" y="{floor + 16}" font-size="11">{year}</text>')
    parts.append(f'<text x="20" y="{height - 6}" font-size="11" fill="#666">logarithmic scale</text></svg>')
    return "\n".join(parts)


def main() -> None:
    prices = prices_of(sys.argv[1])
    table = sorted(((symbol, *growth(points)) for symbol, points in prices.items()), key=lambda line: -line[1])
    with Path("stocks-growth.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("symbol", "times", "growth_a_year", "deepest_fall"))
        writer.writerows((symbol, f"{total:.2f}", f"{year:.3f}", f"{fall:.3f}") for symbol, total, year, fall in table)
    Path("stocks-growth.svg").write_text(chart(prices), encoding="utf-8")
    for symbol, total, year, fall in table:
        print(f"{symbol:<5} {total:6.2f} times, {year:+.1%} a year, deepest fall {fall:.0%}")


if __name__ == "__main__":
    main()
