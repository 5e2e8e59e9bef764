"""Is the file of a tier fit to be used? Says how many rows it has and how many of them lack something.

Usage: check.py FILE
"""

import csv
import json
import sys

COLUMNS = ["date", "carrier", "origin", "dest", "dep_delay", "arr_delay"]

with open(sys.argv[1], newline="") as file:
    reader = csv.DictReader(file, delimiter="|")
    if reader.fieldnames != COLUMNS:
        raise SystemExit(f"{sys.argv[1]} has the columns {reader.fieldnames}, not {COLUMNS}")
    rows = list(reader)
lacking = sum(not row["arr_delay"] for row in rows)
print(f"{len(rows)} flights, {lacking} of them never arrived")
# The last line, one JSON object, is what the workflow sees: steps.check.output.stdout_json
quality = {"null_rate": lacking / max(len(rows), 1), "valid_rate": 1 - lacking / max(len(rows), 1)}
print(json.dumps({"row_count": len(rows), "quality": quality}))
