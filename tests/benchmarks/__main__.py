"""Runs benchmarks one after the other, prints a table and writes JSON."""

import argparse
from pathlib import Path

from tests.benchmarks import archive, batch, chain, lists, logs, noop, report, schedules, start, submit, up, vs

BENCHMARKS = {
    "submit": submit.run,
    "start": start.run,
    "noop": noop.run,
    "up": up.run,
    "batch": batch.run,
    "lists": lists.run,
    "logs": logs.run,
    "archive": archive.run,
    "chain": chain.run,
    "schedules": schedules.run,
    "vs": vs.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which ones; all if not given: {', '.join(BENCHMARKS)}"
    )
    parser.add_argument("--smoke", action="store_true", help="a short run that only shows that everything works")
    parser.add_argument("--json", type=Path, default=Path("benchmark-results/latest.json"), help="where the figures go")
    given = parser.parse_args()
    if unknown := set(given.names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    figures = [figure for name in given.names or BENCHMARKS for figure in BENCHMARKS[name](given.smoke)]
    print(report.table(figures))
    report.write(figures, given.json)


if __name__ == "__main__":
    main()
