"""Where departures were late, and on the way to where most of all.

Usage: worst_routes.py REPORT
"""

import csv
import sys

with open(sys.argv[1], newline="") as file:
    rows = sorted(csv.DictReader(file, delimiter="|"), key=lambda row: -float(row["mean_delay"]))
with open("worst_routes.txt", "w") as out:
    for row in rows:
        out.write(f"{row['origin']}, {row['tier']}: {row['mean_delay']} minutes, worst to {row['worst_route']}\n")
