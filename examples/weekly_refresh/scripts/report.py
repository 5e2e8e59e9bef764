"""Brings the summaries of the tiers together.

Usage: report.py WEEK_ENDING SUMMARY…
"""

import csv
import json
import sys

week, *paths = sys.argv[1:]
rows = []
for path in paths:
    with open(path, newline="") as file:
        rows += list(csv.DictReader(file, delimiter="|"))
flights = sum(int(row["flights"]) for row in rows)
mean = sum(int(row["flights"]) * float(row["mean_delay"]) for row in rows) / flights

with open("report.psv", "w", newline="") as file:
    writer = csv.DictWriter(file, ["week_ending", *rows[0]], delimiter="|", lineterminator="\n")
    writer.writeheader()
    writer.writerows({"week_ending": week, **row} for row in rows)
worst = max(rows, key=lambda row: float(row["mean_delay"]))
print(json.dumps({"row_count": len(rows), "flights": flights, "mean_delay": round(mean, 1), "worst": worst["origin"]}))
