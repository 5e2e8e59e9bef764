"""`rgrid logs`: what a script wrote, from the beginning, from the end, or as it comes."""

import argparse
import sys
from collections.abc import Iterable
from typing import Final

from rgrid.cli import arguments
from rgrid.cli.connection import connect
from rgrid.cli.output import Console, moment
from rgrid.client.answers import Ended, LogLine, StatusChange
from rgrid.client.grid import Client

INTERRUPTED: Final = 130


def add_logs(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("execution_id", metavar="ID")
    add("-f", "--follow", action="store_true", help="go on until the script ends; survives lost connections")
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--stdout-only", dest="stream", action="store_const", const="stdout", help="only standard output")
    one.add_argument("--stderr-only", dest="stream", action="store_const", const="stderr", help="only standard error")
    add("--tail", metavar="N", type=arguments.tail, help="begin with the last N lines, at most 1000")
    add("--timestamps", action="store_true", help="put the time before each line")
    parser.epilog = (
        "What the script wrote to stderr goes to stderr. --json with --follow prints one document per line.\n\n"
        "Examples:\n  rgrid logs exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X --tail 50\n"
        "  rgrid logs -f --timestamps exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X\n"
        "  rgrid logs --stderr-only exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X | sort | uniq -c"
    )
    parser.set_defaults(handler=logs)


def logs(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        if args.follow:
            return _follow(client, args, console)
        lines: Iterable[LogLine] = (
            client.log_tail(args.execution_id, args.tail, args.stream)
            if args.tail
            else client.logs(args.execution_id, stream=args.stream)
        )
        if console.json:
            shown = list(lines)
            console.document({"data": shown, "pagination": {"total": len(shown), "shown": len(shown)}})
            return 0
        for line in lines:
            _write(line, args)
    return 0


def _follow(client: Client, args: argparse.Namespace, console: Console) -> int:
    cursor = -1
    try:
        for line in client.log_tail(args.execution_id, args.tail, args.stream) if args.tail else ():
            cursor = line.sequence_number
            _show(line, args, console)
        for item in client.follow(args.execution_id, cursor, args.stream):
            _show(item, args, console)
    except KeyboardInterrupt:
        console.note(f"\nYou left; {args.execution_id} goes on.\n  Next: rgrid logs -f {args.execution_id}")
        return INTERRUPTED
    return 0


def _show(item: LogLine | StatusChange | Ended, args: argparse.Namespace, console: Console) -> None:
    if console.json:
        kind = {LogLine: "log", StatusChange: "status", Ended: "complete"}[type(item)]
        console.json_line({"type": kind, **_fields(item)})
    elif isinstance(item, LogLine):
        _write(item, args, is_live=True)
    elif isinstance(item, Ended):
        code = f", exit code {item.exit_code}" if item.exit_code is not None else ""
        console.note(console.paint(f"{args.execution_id} {item.status}{code}", "dim", sys.stderr))


def _fields(item: LogLine | StatusChange | Ended) -> dict[str, object]:
    return {name: getattr(item, name) for name in item.__struct_fields__}


def _write(line: LogLine, args: argparse.Namespace, *, is_live: bool = False) -> None:
    # A single stream was asked for to be worked on: then it is the result, whichever it is.
    stream = sys.stderr if line.stream == "stderr" and not args.stream else sys.stdout
    stamp = f"{moment(line.timestamp)} " if args.timestamps else ""
    stream.write(f"{stamp}{line.message}\n")
    if is_live:
        stream.flush()
