"""`rgrid cost` and `rgrid estimate`: what was spent, what may be spent, what something would take."""

import argparse
import hashlib
import re
import shutil
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any, Final

from rgrid.cli import arguments
from rgrid.cli.connection import connect
from rgrid.cli.inputs import read_script, runtime_for
from rgrid.cli.output import Console, Usage, duration
from rgrid.client.answers import Cost, CostLimit, CostRow, Estimate
from rgrid.kernel.converting import convert
from rgrid.kernel.money import MICROS_PER_EURO

BAR_MIN: Final = 8
BAR_MAX: Final = 40
LIMIT_MAX: Final = 1 << 53
_GROUPS: Final = ("key", "batch", "script", "runtime")
_AMOUNT: Final = re.compile(r"(?:€|EUR)?\s*(-?\d+(?:\.\d+)?)\s*(?:€|EUR)?\s*(?:/\s*month)?", re.ASCII | re.IGNORECASE)


def add_cost(parser: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--since", metavar="DATE", help="first UTC day, such as 2026-01-31; six days before the last if not given")
    add("--until", metavar="DATE", help="last UTC day; today if not given")
    add(
        "--by",
        metavar="WHAT",
        type=_group,
        help="also by key, batch, script, runtime or metadata.NAME",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, says: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=says,
            description=f"{says[:1].upper()}{says[1:]}.",
            parents=[shared],
            allow_abbrev=False,
            formatter_class=parser.formatter_class,
        )

    parser.set_defaults(handler=cost)
    limit = command("set-limit", "refuse new executions when a month would cost more")
    limit.add_argument("amount", metavar="AMOUNT", nargs="+", help="euros a month: 50, 50.50, €50, EUR 50, €50/month")
    limit.add_argument("--warn-at", metavar="PERCENT", type=arguments.count, help="a notice at this share; 80")
    limit.set_defaults(handler=set_limit)
    command("show-limit", "show the limit and what counts against it").set_defaults(handler=show_limit)
    command("remove-limit", "let a month cost anything").set_defaults(handler=remove_limit)
    command("rates", "list the prices and when they hold").set_defaults(handler=rates)
    parser.epilog = (
        "Examples:\n  rgrid cost --since 2026-01-01 --by metadata.team\n"
        "  rgrid cost set-limit 50\n  rgrid cost show-limit --json"
    )


def cost(args: argparse.Namespace, console: Console) -> int:
    query = {"since": args.since, "until": args.until, **(args.by or {})}
    with connect(args, console) as client:
        document = client.cost_document(query)
    if console.json:
        console.document(document)
        return 0
    found = convert(document, Cost)
    console.line(
        f"{found.total_cost_display} for {_counted(found.total_executions)},"
        f" {found.start_date} to {found.end_date} (UTC)"
    )
    if found.by_date:
        console.line()
        _bars(console, "DAY", [(str(day.date), day) for day in found.by_date])
    if found.groups:
        console.line()
        _bars(console, (found.group_by or "").upper(), [(group.name or "-", group) for group in found.groups])
    if not found.by_date:
        console.note("  Next: rgrid run SCRIPT, or rgrid cost --since DATE")
    return 0


def _bars(console: Console, title: str, rows: Sequence[tuple[str, CostRow]]) -> None:
    """A table with a bar for each row, as long as its share of the dearest; within the terminal's width."""
    cells = [(name, str(row.executions), _time(row), row.cost_display) for name, row in rows]
    taken = sum(max(len(line[column]) for line in [*cells, (title, "RUNS", "COMPUTE", "COST")]) for column in range(4))
    width = max(BAR_MIN, min(BAR_MAX, shutil.get_terminal_size().columns - taken - 8))
    most = max(row.cost_micros for _, row in rows) or 1
    console.table(
        (title, "RUNS", "COMPUTE", "COST", ""),
        [
            (*line, "█" * max(-(-row.cost_micros // most), round(width * row.cost_micros / most)))
            for line, (_, row) in zip(cells, rows, strict=True)
        ],
    )


def _time(row: CostRow) -> str:
    return duration(round(row.compute_time_seconds * 1000))


def set_limit(args: argparse.Namespace, console: Console) -> int:
    micros = amount(" ".join(args.amount))
    with connect(args, console) as client:
        done = client.set_cost_limit(micros, args.warn_at)
    if console.json:
        console.document(done)
    else:
        console.line(f"The limit is {done.monthly_limit_display}.")
    return 0


def show_limit(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        document = client.document("GET", "/cost/limit")
    if console.json:
        console.document(document)
        return 0
    found = convert(document, CostLimit)
    percent = "" if found.usage_percent is None else f" ({found.usage_percent} %)"
    console.facts(
        [
            ("Limit", found.monthly_limit_display),
            ("Used", f"{found.current_usage_display}{percent}"),
            ("Kept aside", found.reserved_display),
            ("Status", found.status),
            ("Notice at", f"{found.alert_threshold_percent} %" if found.has_limit else None),
            ("Month", f"{found.period_start:%Y-%m} (UTC)"),
            ("Note", found.message),
        ]
    )
    return 0


def remove_limit(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        done = client.remove_cost_limit()
    if console.json:
        console.document(done)
    else:
        console.line(done.message)
    return 0


def rates(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        found: list[dict[str, Any]] = [row for page in client.pages("/cost/rates") for row in page["data"]]
    if console.json:
        console.document({"data": found})
        return 0
    console.table(
        ("KIND", "MICROS PER vCPU-HOUR", "FROM", "UNTIL"),
        [
            (row["runner_kind"], str(row["hourly_micros"]), row["valid_from"], row["valid_until"] or "-")
            for row in found
        ],
    )
    return 0


def add_estimate(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("script", metavar="SCRIPT", nargs="?", type=Path, help="goes by how long it took before")
    add("--runtime", metavar="NAME", help="such as python:3.12; else the script decides")
    add("--files", metavar="N", type=arguments.count, default=1, help="how many runs, 1 if not given")
    add("--parallel", metavar="N", type=arguments.count, default=1, help="how many at a time, 1 if not given")
    add("--cpu", metavar="CORES", type=float, help="how many cores each, 1 if not given")
    parser.epilog = "Example:\n  rgrid estimate analyse.py --files 100 --parallel 20"
    parser.set_defaults(handler=estimate)


def estimate(args: argparse.Namespace, console: Console) -> int:
    query: dict[str, object] = {"files": args.files, "parallel": args.parallel, "cpu": args.cpu}
    with connect(args, console) as client:
        if args.script is not None:
            text = read_script(args.script)
            query["script_sha256"] = hashlib.sha256(text.encode()).hexdigest()
            query["runtime"] = args.runtime or runtime_for(args.script, text, list(client.runtimes()))
        elif args.runtime:
            query["runtime"] = args.runtime
        document = client.estimate_document(query)
    if console.json:
        console.document(document)
        return 0
    found = convert(document, Estimate)
    console.facts(
        [
            ("Runs", f"{found.estimated_executions}, {args.parallel} at a time, on {found.runtime}"),
            ("Each", _range(found.estimated_duration_seconds, found.estimated_p90_seconds)),
            ("Time", _range(found.estimated_wall_seconds, found.estimated_wall_p90_seconds)),
            ("Cost", f"{found.estimated_cost_display} (p90 {found.estimated_p90_cost_display})"),
        ]
    )
    for sentence in found.assumptions:
        console.note(f"  {sentence}")
    return 0


def _range(median_s: float, slow_s: float) -> str:
    return f"{duration(round(median_s * 1000))} (p90 {duration(round(slow_s * 1000))})"


def amount(text: str) -> int:
    """Micros from `50`, `50.50`, `€50`, `EUR 50` or `€50/month`; a comma as in `50,50` is refused, it could mean
    thousands."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise Usage(f"{text} is no amount; write it as 50, 50.50, €50, EUR 50 or €50/month.", "rgrid cost --help")
    micros = int((Decimal(match[1]) * MICROS_PER_EURO).to_integral_value(ROUND_HALF_UP))
    if micros <= 0:
        raise Usage("A limit is above 0; to have none, remove it.", "rgrid cost remove-limit")
    if micros > LIMIT_MAX:
        raise Usage(f"A limit is at most €{LIMIT_MAX // MICROS_PER_EURO}.", "rgrid cost remove-limit")
    return micros


def _group(text: str) -> dict[str, str]:
    """What --by asks the service for."""
    kind, _, name = text.partition(".")
    if kind == "metadata" and name:
        return {"group_by": "metadata", "metadata_key": name}
    if text not in _GROUPS:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(_GROUPS)} or metadata.NAME, not {text!r}")
    return {"group_by": text}


def _counted(count: int) -> str:
    return "1 execution" if count == 1 else f"{count} executions"
