"""One line for each airport of departure: flights, mean delay, and where the delays were worst.

Usage: summarise.py TIER FILE
"""

import csv
import json
import sys
from collections import defaultdict

tier, path = sys.argv[1:]
delays = defaultdict(list)
routes = defaultdict(list)
with open(path, newline="") as file:
    for row in csv.DictReader(file, delimiter="|"):
        if row["dep_delay"]:
            delays[row["origin"]].append(int(row["dep_delay"]))
            routes[row["origin"], row["dest"]].append(int(row["dep_delay"]))

with open("summary.psv", "w", newline="") as file:
    writer = csv.writer(file, delimiter="|", lineterminator="\n")
    writer.writerow(["tier", "origin", "flights", "mean_delay", "worst_route"])
    for origin in sorted(delays):
        own = {dest: sum(late) / len(late) for (start, dest), late in routes.items() if start == origin}
        mean = sum(delays[origin]) / len(delays[origin])
        writer.writerow([tier, origin, len(delays[origin]), f"{mean:.1f}", max(own, key=own.__getitem__)])
flights = sum(map(len, delays.values()))
print(json.dumps({"tier": tier, "row_count": flights}))
