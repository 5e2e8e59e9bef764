"""The Python client: four years at once, each an execution of rain.py, and the wettest month of all of them.

This one runs on your machine and talks to the service:
    RGRID_API_URL=http://127.0.0.1:8000 RGRID_API_KEY=sk_live_… python every_year.py
"""

import csv
import os
import tempfile
from pathlib import Path

from rgrid.client.grid import Client, Submission

here = Path(__file__).parent
data = here / "data" / "seattle-weather.csv"
script = (here / "rain.py").read_text()

with (
    Client(os.environ["RGRID_API_URL"], os.environ["RGRID_API_KEY"]) as grid,
    tempfile.TemporaryDirectory() as folder,
):
    submitted = [
        grid.submit(
            Submission(script_content=script, name=f"rain-{year}", args=["weather.csv", "--year", year]),
            inputs={"weather.csv": data},
        )
        for year in ("2012", "2013", "2014", "2015")
    ]
    months: list[tuple[float, str]] = []
    for execution in submitted:
        over = grid.wait(execution.execution_id, timeout_s=120)
        if over.status != "completed":
            raise SystemExit(f"{over.name} {over.status}: {over.hint or over.stderr}")
        for artifact in grid.artifacts(over.execution_id, "output"):
            path = grid.download(artifact, Path(folder))
            with path.open(newline="") as file:
                year = path.stem.removeprefix("rain-")
                months += [(float(row["rain_mm"]), f"{year}-{row['month']}") for row in csv.DictReader(file)]
    amount, month = max(months)
    print(f"wettest month: {month} with {amount} mm")
