"""The page that people read.

Usage: publish.py REPORT
"""

import csv
import sys

with open(sys.argv[1], newline="") as file:
    rows = list(csv.DictReader(file, delimiter="|"))
with open("page.md", "w") as page:
    page.write(f"# Departures in the week ending {rows[0]['week_ending']}\n\n")
    page.write("| From | Tier | Flights | Mean delay |\n|---|---|---|---|\n")
    for row in rows:
        page.write(f"| {row['origin']} | {row['tier']} | {row['flights']} | {row['mean_delay']} min |\n")
print(f"{len(rows)} lines published")
