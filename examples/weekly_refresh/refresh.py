"""The same two workflows built in Python, applied, and run for one week.

This runs on your machine and talks to the service:
    RGRID_API_URL=http://127.0.0.1:8000 RGRID_API_KEY=sk_live_… python refresh.py
"""

import os
from pathlib import Path

from rgrid.client.flow import Flow, Quality, Retry
from rgrid.client.grid import Client

HERE = Path(__file__).parent
SCRIPTS = HERE / "scripts"
TIERS = ("network", "low_cost", "regional")


def tier() -> Flow:
    """One tier of carriers: is its file fit to be used, and what does it say?"""
    file = {"flights.psv": "${params.item.file}"}
    return (
        Flow("weekly_refresh.tier", description="Checks and sums up the flights of one tier")
        .parameter("item", "object", required=True, description="the tier: its name and its file")
        .execution(
            "check",
            script=SCRIPTS / "check.py",
            args=["flights.psv"],
            cached_input_refs=file,
            timeout_seconds=120,
            quality=Quality(min_records=500, max_null_rate=0.05),
        )
        .execution(
            "summarise",
            script=SCRIPTS / "summarise.py",
            args=["${params.item.name}", "flights.psv"],
            cached_input_refs=file,
            timeout_seconds=120,
            retry=Retry(max_attempts=3, initial_seconds=1, retry_on=["TRANSIENT", "TIMEOUT", "RESOURCE"]),
        )
    )


def made_by(output: str, filename: str) -> dict[str, str]:
    """A file that an execution made, as an input of another one."""
    return {"execution_id": f"${{{output}.execution_id}}", "filename": filename}


def weekly() -> Flow:
    """The departures of a week, by tier of carriers: three files come in, one page goes out."""
    summaries = {
        f"{name}.psv": made_by(f"steps.tiers.output.results[{at}].summarise", "summary.psv")
        for at, name in enumerate(TIERS)
    }
    items = ", ".join(f'{{"name": "{name}", "file": params.{name}}}' for name in TIERS)
    flow = (
        Flow(
            "weekly_refresh",
            domain="flights",
            description="Refreshes the page of last week's departures",
            tags=["weekly"],
            timeout_seconds=3600,
        )
        .parameter("week_ending", "date", required=True)
        .parameter("network", required=True, description="the file of the large carriers")
        .parameter("low_cost", required=True)
        .parameter("regional", required=True)
        .parameter("limit_minutes", "number", default=3, description="what counts as late on average")
        .execution("week", script=SCRIPTS / "week.py", args=["${params.week_ending}"], timeout_seconds=60)
        .map("tiers", "weekly_refresh.tier", items=f"[{items}]", max_concurrency=3, timeout_seconds=600)
        .execution(
            "report",
            script=SCRIPTS / "report.py",
            args=["${steps.week.output.stdout_json.last}", *summaries],
            inputs=summaries,
            timeout_seconds=120,
            quality=Quality(min_records=6, max_records=9),
        )
    )
    return published(flow)


def published(flow: Flow) -> Flow:
    """What follows the report: one of two steps, then the page."""
    mean = "steps.report.output.stdout_json.mean_delay"
    praise = {
        "severity": "INFO",
        "title": "Departures were on time",
        "message": f"${{{mean}}} minutes on average in the week ending ${{params.week_ending}}",
    }
    report = {"report.psv": made_by("steps.report.output", "report.psv")}
    routes, page = SCRIPTS / "worst_routes.py", SCRIPTS / "publish.py"
    return (
        flow.choice("was_late", f"{mean} > params.limit_minutes", then="worst_routes", otherwise="praise")
        .execution("worst_routes", script=routes, args=["report.psv"], inputs=report, timeout_seconds=120)
        .alert("praise", praise, timeout_seconds=60)
        .execution("publish", script=page, args=["report.psv"], inputs=report, timeout_seconds=120)
    )


def main() -> None:
    with Client(os.environ["RGRID_API_URL"], os.environ["RGRID_API_KEY"]) as grid:
        for flow in (tier(), weekly()):
            print(f"{flow.name} is at version {grid.workflows.apply(flow).version}")
        files = {name: grid.workflows.keep(HERE / "data" / name / "flights.psv") for name in TIERS}
        started = grid.workflows.trigger("weekly_refresh", {"week_ending": "2013-01-12", **files})
        run = grid.workflows.wait(started.run_id, timeout_s=170)
        print(run.status, run.error or run.outputs["report"]["stdout_json"])


if __name__ == "__main__":
    main()
