"""`status`, `list`, `download`, `cancel`, `retry`, `events`: what one does with executions that exist."""

import argparse
import fnmatch
from pathlib import Path
from typing import Final

from rgrid.cli import arguments
from rgrid.cli.batch import retry_batch
from rgrid.cli.connection import connect
from rgrid.cli.lists import fetch
from rgrid.cli.output import Console, Failure, Usage, duration, moment, plain, size
from rgrid.cli.run import STDERR_LINES_MAX, download_all
from rgrid.client.answers import EventRecord, Execution, ExecutionRow
from rgrid.kernel.converting import convert
from rgrid.kernel.money import display

STATUSES: Final = ("awaiting_inputs", "queued", "running", "completed", "failed", "cancelled", "timed_out")
LIST_LIMIT: Final = 20
CANCEL_WAIT_S: Final = 60.0


def add_status(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    parser.add_argument("execution_id", metavar="ID")
    parser.epilog = "Example:\n  rgrid status exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X"
    parser.set_defaults(handler=status)


def status(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        document = client.document("GET", f"/executions/{args.execution_id}")
        execution = convert(document, Execution)
        if console.json:
            console.document(document)
            return 0
        outputs = list(client.artifacts(execution.execution_id, "output"))
    console.facts(_facts(execution))
    if outputs:
        console.line("\nFiles")
        for artifact in outputs:
            console.line(f"  {plain(artifact.filename)} ({size(artifact.size_bytes)})")
    if execution.status in ("failed", "timed_out") and execution.stderr:
        console.line("\nLast lines of stderr")
        for line in execution.stderr.splitlines()[-STDERR_LINES_MAX:]:
            console.line(f"  {plain(line)}")
    console.note(f"\n  Next: {_next(execution, bool(outputs))}")
    return 0


def _facts(execution: Execution) -> list[tuple[str, str | None]]:
    limits = f"{execution.timeout_seconds} s, {execution.cpu:g} cores, {execution.memory_mb} MB"
    tries = f"{len(execution.attempts)} of {execution.max_retries + 1}" if execution.retry_count else None
    return [
        ("Id", execution.execution_id),
        ("Name", execution.name),
        ("Status", execution.status),
        ("Reason", execution.failure_reason if execution.failure_reason != execution.status else None),
        ("Error", execution.execution_error),
        ("Hint", execution.hint),
        ("Exit code", None if execution.exit_code is None else str(execution.exit_code)),
        ("Waits", _waits(execution)),
        ("Runtime", execution.runtime),
        ("Arguments", " ".join(execution.args)),
        ("Inputs", ", ".join(each.name for each in execution.inputs)),
        ("Limits", limits + (", with network" if execution.network else "")),
        ("Created", moment(execution.created_at)),
        ("Started", moment(execution.started_at) if execution.started_at else None),
        ("Ended", moment(execution.completed_at) if execution.completed_at else None),
        ("Duration", duration(execution.duration_ms) if execution.duration_ms is not None else None),
        ("Attempts", tries),
        ("Worker", execution.worker_hostname),
        ("Cost", execution.cost_display or display(execution.cost_micros)),
        ("Batch", execution.batch_id),
        ("Retry of", execution.retry_of),
        ("Labels", ", ".join(f"{key}={value}" for key, value in (execution.user_metadata or {}).items())),
    ]


def _waits(execution: Execution) -> str | None:
    waiting = execution.waiting
    if waiting is None:
        return None
    said = waiting.message
    if waiting.queue_position is not None:
        said += f" Position {waiting.queue_position} in the queue."
    if waiting.estimated_start_at is not None:
        said += f" Expected to start at {moment(waiting.estimated_start_at)}."
    return said


def _next(execution: Execution, has_outputs: bool) -> str:
    if not execution.is_over:
        return f"rgrid logs -f {execution.execution_id}"
    if execution.status != "completed":
        return f"rgrid logs {execution.execution_id} or rgrid retry {execution.execution_id}"
    return f"rgrid {'download' if has_outputs else 'logs'} {execution.execution_id}"


def add_list(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--status", choices=STATUSES, metavar="STATUS", help=", ".join(STATUSES))
    add("--batch", metavar="ID", help="those of one batch")
    add("--runtime", metavar="NAME", help="those of one runtime, such as python:3.11")
    add("--name", metavar="TEXT", help="those with this name")
    add(
        "--metadata",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        type=arguments.pair,
        help="those with this label",
    )
    add("--since", metavar="TIME", help="made at or after, such as 2026-01-31 or 2026-01-31T18:00:00Z")
    add("--until", metavar="TIME", help="made before")
    add("--limit", metavar="N", type=arguments.count, default=LIST_LIMIT, help="how many at most, 20 if not given")
    add("--all", action="store_true", help="every one that matches")
    parser.epilog = (
        "Examples:\n  rgrid list --status failed\n  rgrid list --metadata team=sales --since 2026-01-01 --all --json"
    )
    parser.set_defaults(handler=list_)


def list_(args: argparse.Namespace, console: Console) -> int:
    filters: dict[str, object] = {
        "status": args.status,
        "batch_id": args.batch,
        "runtime": args.runtime,
        "name": args.name,
        "since": args.since,
        "until": args.until,
        **{f"metadata[{key}]": value for key, value in args.metadata},
    }
    wanted = None if args.all else args.limit
    with connect(args, console) as client:
        found = fetch(client, "/executions", filters, wanted)
    if console.json:
        console.document(found.document())
        return 0
    if not found.rows:
        is_filtered = any(value is not None for value in filters.values())
        console.note("Nothing matches." if is_filtered else "No executions yet.\n  Next: rgrid run SCRIPT")
        return 0
    shown = convert(found.rows, list[ExecutionRow])
    console.table(
        ("ID", "STATUS", "NAME", "CREATED", "DURATION", "COST", "RUNTIME"),
        [
            (
                row.execution_id,
                row.status,
                (row.name or "-")[:40],
                moment(row.created_at),
                duration(row.duration_ms),
                display(row.cost_micros),
                row.runtime,
            )
            for row in shown
        ],
    )
    if len(found.rows) < found.total:
        console.note(f"{len(found.rows)} of {found.total}; more with --limit N or --all")
    return 0


def add_download(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    parser.add_argument("execution_id", metavar="ID")
    parser.add_argument("patterns", metavar="FILE", nargs="*", help="only these; * and ? stand for any characters")
    parser.add_argument("--output-dir", metavar="DIR", type=Path, default=Path(), help="where to; here if not given")
    parser.epilog = (
        "A file that is already here stays; the new one is called name_1.\n\n"
        "Examples:\n  rgrid download exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X\n"
        "  rgrid download exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X '*.svg' --output-dir charts"
    )
    parser.set_defaults(handler=download)


def download(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        found = list(client.artifacts(args.execution_id, "output"))
        wanted = [
            artifact
            for artifact in found
            if not args.patterns or any(fnmatch.fnmatch(artifact.filename, pattern) for pattern in args.patterns)
        ]
        if args.patterns and not wanted:
            raise Failure(f"None of its {len(found)} files has such a name.", f"rgrid status {args.execution_id}")
        if wanted and all(artifact.expired for artifact in wanted):
            raise Failure("Its files were kept for their time and are gone.", f"rgrid retry {args.execution_id}")
        saved = download_all(client, args.execution_id, args.output_dir, console, wanted)
    if console.json:
        console.document({"execution_id": args.execution_id, "downloaded": [str(path) for path in saved]})
    elif not saved:
        console.note("It made no files.")
    return 0


def add_cancel(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    parser.add_argument("execution_ids", metavar="ID", nargs="+")
    parser.add_argument("--reason", metavar="TEXT", help="kept with the execution")
    parser.epilog = "Example:\n  rgrid cancel exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X --reason 'wrong input'"
    parser.set_defaults(handler=cancel)


def cancel(args: argparse.Namespace, console: Console) -> int:
    done = []
    with connect(args, console) as client:
        for execution_id in args.execution_ids:
            action = client.cancel(execution_id, args.reason)
            done.append(action)
            if not console.json:
                told = "cancelled" if action.status == "cancelled" else "is being stopped"
                console.line(f"{execution_id} {told}")
    if console.json:
        console.document(done[0] if len(done) == 1 else {"data": done})
    return 0


def add_retry(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    parser.add_argument("execution_id", metavar="ID", nargs="?")
    parser.add_argument("--force", action="store_true", help="cancel it first if it is still running")
    parser.add_argument("--batch", metavar="ID", help="what failed in a batch instead, in its place")
    parser.add_argument("--failed-only", action="store_true", help="with --batch: what failed, as is the rule")
    parser.add_argument("--all", action="store_true", help="with --batch: what completed as well")
    parser.epilog = (
        "Examples:\n  rgrid retry exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X\n"
        "  rgrid retry --batch batch_01JB2Z4M7K8P9Q0R1S2T3V4W5X"
    )
    parser.set_defaults(handler=retry)


def retry(args: argparse.Namespace, console: Console) -> int:
    if (args.execution_id is None) == (args.batch is None):
        raise Usage("Name either an execution or, with --batch, a batch.", "rgrid retry --help")
    with connect(args, console) as client:
        if args.batch is not None:
            return retry_batch(client, console, args.batch, everything=args.all and not args.failed_only)
        if args.force and not client.get(args.execution_id).is_over:
            client.cancel(args.execution_id, "retried by force")
            client.wait(args.execution_id, CANCEL_WAIT_S)
        execution = client.retry(args.execution_id)
        if console.json:
            console.document(client.document("GET", f"/executions/{execution.execution_id}"))
            return 0
    console.line(execution.execution_id)
    console.note(f"  Next: rgrid logs -f {execution.execution_id}")
    return 0


def add_events(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    parser.add_argument("execution_id", metavar="ID")
    parser.epilog = "Example:\n  rgrid events exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X"
    parser.set_defaults(handler=events)


def events(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        found = fetch(client, f"/executions/{args.execution_id}/events")
    if console.json:
        console.document(found.document())
        return 0
    console.table(
        ("POSITION", "VERSION", "EVENT", "WHEN", "BY"),
        [
            (str(event.position), str(event.stream_version), event.type, moment(event.occurred_at), event.actor)
            for event in convert(found.rows, list[EventRecord])
        ],
    )
    return 0
