"""`rgrid batch`: what one does with batches that exist."""

import argparse
from pathlib import Path
from typing import Final

from rgrid.cli import arguments
from rgrid.cli.batch_results import exit_code, explain, fetch_files
from rgrid.cli.batch_run import watch
from rgrid.cli.batch_view import BatchView, told
from rgrid.cli.connection import connect
from rgrid.cli.lists import fetch
from rgrid.cli.output import Console, Failure, moment, plain
from rgrid.client.batches import Batch, BatchRow
from rgrid.client.grid import Client
from rgrid.kernel.converting import convert
from rgrid.kernel.money import display

STATES: Final = ("pending", "running", "completed", "partial", "failed", "cancelling", "cancelled")
LIST_LIMIT: Final = 20
ITEMS_SHOWN_MAX: Final = 20


def add_batch(parser: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, says: str, *, takes_id: bool = True) -> argparse.ArgumentParser:
        described = f"{says[:1].upper()}{says[1:]}."
        made = commands.add_parser(
            name,
            help=says,
            description=described,
            parents=[shared],
            allow_abbrev=False,
            formatter_class=parser.formatter_class,
        )
        if takes_id:
            made.add_argument("batch_id", metavar="ID")
        made.set_defaults(handler=HANDLERS[name])
        return made

    listed = command("list", "list batches, newest first", takes_id=False)
    listed.add_argument("--status", choices=STATES, metavar="STATUS", help=", ".join(STATES))
    listed.add_argument("--since", metavar="TIME", help="made at or after, such as 2026-01-31")
    listed.add_argument("--until", metavar="TIME", help="made before")
    listed.add_argument("--limit", metavar="N", type=arguments.count, default=LIST_LIMIT, help="20 if not given")
    listed.add_argument("--all", action="store_true", help="every one that matches")
    command("status", "show one batch and what failed in it")
    watched = command("watch", "follow a batch to its end")
    watched.add_argument("--download", action="store_true", help="fetch its files then")
    fetched = command("download", "fetch the files of every item, each into a folder of its own")
    for one in (watched, fetched):
        one.add_argument("--output-dir", metavar="DIR", type=Path, default=Path(), help="where to; here if not given")
        one.add_argument("--flat", action="store_true", help="all files into one folder")
    cancelled = command("cancel", "stop everything in a batch that hasn't ended")
    cancelled.add_argument("--reason", metavar="TEXT", help="kept with every execution")
    retried = command("retry", "run what failed once more, in its place")
    retried.add_argument("--all", action="store_true", help="what completed as well")
    parser.epilog = (
        "Examples:\n  rgrid batch list --status running\n  rgrid batch watch batch_01JB2Z4M7K8P9Q0R1S2T3V4W5X\n"
        "  rgrid batch download batch_01JB2Z4M7K8P9Q0R1S2T3V4W5X --output-dir results"
    )


def list_batches(args: argparse.Namespace, console: Console) -> int:
    filters: dict[str, object] = {"status": args.status, "since": args.since, "until": args.until}
    with connect(args, console) as client:
        found = fetch(client, "/batches", filters, None if args.all else args.limit)
    if console.json:
        console.document(found.document())
        return 0
    if not found.rows:
        is_filtered = any(value is not None for value in filters.values())
        console.note("Nothing matches." if is_filtered else "No batches yet.\n  Next: rgrid run --batch FILES SCRIPT")
        return 0
    console.table(
        ("ID", "STATUS", "NAME", "DONE", "FAILED", "CREATED", "COST"),
        [
            (
                row.batch_id,
                row.status,
                (row.name or "-")[:30],
                f"{row.ended}/{row.total}",
                str(row.counts.failed + row.counts.timed_out),
                moment(row.created_at),
                display(row.total_cost_micros),
            )
            for row in convert(found.rows, list[BatchRow])
        ],
    )
    if len(found.rows) < found.total:
        console.note(f"{len(found.rows)} of {found.total}; more with --limit N or --all")
    return 0


def status(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        document = client.document("GET", f"/batches/{args.batch_id}")
        if console.json:
            console.document(document)
            return 0
        batch = convert(document, Batch)
        failed = [
            execution
            for wanted in ("failed", "timed_out")
            for execution in client.batches.executions(args.batch_id, status=wanted)
        ]
    limits = [f"{batch.max_parallel} at a time"] if batch.max_parallel else []
    limits += ["stops at the first failure"] if batch.fail_fast else []
    console.facts(
        [
            ("Id", batch.batch_id),
            ("Name", batch.name),
            ("Status", batch.status),
            ("Progress", f"{batch.percent_complete:g} %: {told(batch)}"),
            ("Limits", ", ".join(limits)),
            ("Created", moment(batch.created_at)),
            ("Started", moment(batch.started_at) if batch.started_at else None),
            ("Ended", moment(batch.completed_at) if batch.completed_at else None),
            ("Cost", display(batch.total_cost_micros)),
            ("Labels", ", ".join(f"{key}={value}" for key, value in (batch.user_metadata or {}).items())),
        ]
    )
    if failed:
        console.line("\nFailed")
        for execution in failed[:ITEMS_SHOWN_MAX]:
            what = execution.batch_metadata.input_file or f"item {execution.index}"
            error = f": {plain(execution.execution_error)}" if execution.execution_error else ""
            console.line(f"  {execution.execution_id}  {plain(what)}  {execution.failure_reason}{error}"[:200])
        if len(failed) > ITEMS_SHOWN_MAX:
            console.line(f"  and {len(failed) - ITEMS_SHOWN_MAX} more")
    console.note(f"\n  Next: {_next(batch)}")
    return 0


def _next(batch: Batch) -> str:
    if not batch.is_over:
        return f"rgrid batch watch {batch.batch_id}"
    return f"rgrid batch {'download' if batch.status == 'completed' else 'retry'} {batch.batch_id}"


def watch_batch(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        watch(client, console, args.batch_id, BatchView(console), has_lines=True)
        if args.download:
            _download(client, console, args)
        batch = client.batches.get(args.batch_id)
        if console.json:
            console.json_line(client.document("GET", f"/batches/{args.batch_id}"))
        else:
            console.line(f"{batch.batch_id} {batch.status}")
        explain(client, console, batch)
    return exit_code(batch)


def download(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        saved = _download(client, console, args)
    if console.json:
        console.document({"batch_id": args.batch_id, "downloaded": [str(path) for path in saved]})
    elif not saved:
        console.note("It made no files.")
    return 0


def _download(client: Client, console: Console, args: argparse.Namespace) -> list[Path]:
    executions = list(client.batches.executions(args.batch_id))
    if not executions:
        raise Failure(f"{args.batch_id} has no executions.", "rgrid batch list")
    return fetch_files(client, console, executions, args.output_dir, flat=args.flat)


def cancel(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        action = client.batches.cancel(args.batch_id, args.reason)
    if console.json:
        console.document(action)
    else:
        console.line(f"{args.batch_id} is being stopped")
    return 0


def retry(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        return retry_batch(client, console, args.batch_id, everything=args.all)


def retry_batch(client: Client, console: Console, batch_id: str, *, everything: bool) -> int:
    retried = client.batches.retry(batch_id, failed_only=not everything)
    if console.json:
        console.document({"batch_id": batch_id, "retried": retried})
        return 0
    console.line(f"{batch_id}: {len(retried)} run once more")
    console.note(f"  Next: rgrid batch watch {batch_id}")
    return 0


HANDLERS: Final = {
    "list": list_batches,
    "status": status,
    "watch": watch_batch,
    "download": download,
    "cancel": cancel,
    "retry": retry,
}
