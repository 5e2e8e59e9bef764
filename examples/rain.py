"""Rain by month of one year, as a table on standard output and as a CSV file.

Usage: rain.py seattle-weather.csv --year 2014
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("file")
parser.add_argument("--year", default="2015")
args = parser.parse_args()

rain: defaultdict[str, float] = defaultdict(float)
with Path(args.file).open(newline="") as file:
    for row in csv.DictReader(file):
        year, month, _ = row["date"].split("/")
        if year == args.year:
            rain[month] += float(row["precipitation"])

print(f"Seattle, {args.year}")
for month, amount in sorted(rain.items()):
    print(f"{month}  {amount:6.1f} mm  {'#' * round(amount / 10)}")
with Path(f"rain-{args.year}.csv").open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(("month", "rain_mm"))
    writer.writerows((month, f"{amount:.1f}") for month, amount in sorted(rain.items()))
