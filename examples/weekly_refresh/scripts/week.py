"""Which days does the week have that ends on this one?

Usage: week.py YYYY-MM-DD
"""

import datetime
import json
import sys

last = datetime.date.fromisoformat(sys.argv[1])
if last.strftime("%A") != "Saturday":
    raise SystemExit(f"{last} is a {last:%A}; weeks end on Saturdays")
print(json.dumps({"first": str(last - datetime.timedelta(days=6)), "last": str(last)}))
