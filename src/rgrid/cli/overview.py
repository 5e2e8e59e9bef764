"""`health`, `workers`, `runtimes`, `version`: what the service is made of."""

import argparse

import msgspec

from rgrid.cli.connection import connect
from rgrid.cli.lists import fetch
from rgrid.cli.output import Console, moment
from rgrid.client.answers import Health, Runtime, Worker
from rgrid.kernel.converting import convert


def add_health(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    parser.epilog = "Exit code 1 when the service is down.\n\nExample:\n  rgrid health --json"
    parser.set_defaults(handler=health)


def health(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console, needs_key=False) as client:
        document = client.health_document()
        url = client.url
    found = convert(document, Health)
    if console.json:
        console.document(document)
        return 1 if found.status == "down" else 0
    console.facts(
        [
            ("Service", url),
            ("Status", found.status),
            ("Version", found.version),
            ("Waiting", _number(found.queue_depth)),
            ("Workers", _number(found.live_workers)),
            ("Position", _number(found.position)),
            ("Behind", _number(found.projection_lag)),
        ]
    )
    console.line()
    console.table(
        ("PART", "STATUS", "LATENCY", "SAYS"),
        [
            (name, part.status, "-" if part.latency_ms is None else f"{part.latency_ms} ms", part.message or "")
            for name, part in sorted(found.components.items())
        ],
    )
    return 1 if found.status == "down" else 0


def add_workers(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    parser.add_argument("--status", choices=("active", "draining", "lost", "stopped"), help="only these")
    parser.epilog = "Example:\n  rgrid workers --status active"
    parser.set_defaults(handler=workers)


def workers(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        found = fetch(client, "/workers", {"status": args.status})
    if console.json:
        console.document(found.document())
        return 0
    if not found.rows:
        console.note("No workers.\n  Next: rgrid up (with at least one slot)")
        return 0
    console.table(
        ("ID", "STATUS", "HOST", "KIND", "RUNNING", "SEEN", "VERSION"),
        [
            (
                worker.id,
                worker.status,
                worker.hostname,
                worker.runner_kind,
                f"{worker.running} of {worker.slots}",
                moment(worker.last_heartbeat_at),
                worker.version,
            )
            for worker in convert(found.rows, list[Worker])
        ],
    )
    return 0


def add_runtimes(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    parser.epilog = "Example:\n  rgrid runtimes"
    parser.set_defaults(handler=runtimes)


def runtimes(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        found = fetch(client, "/runtimes")
    if console.json:
        console.document(found.document())
        return 0
    console.table(
        ("NAME", "AVAILABLE", "ALSO", "LANGUAGE", "VERSION"),
        [
            (
                f"{runtime.name} (default)" if runtime.default else runtime.name,
                "yes" if runtime.available else "no",
                ", ".join(runtime.aliases),
                runtime.language,
                runtime.version,
            )
            for runtime in sorted(convert(found.rows, list[Runtime]), key=lambda each: not each.available)
        ],
    )
    return 0


def add_version(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    parser.epilog = "Example:\n  rgrid version --json"
    parser.set_defaults(handler=version)


def version(_args: argparse.Namespace, console: Console) -> int:
    import platform
    from importlib.metadata import version as installed

    if console.json:
        found = {"version": installed("rgrid"), "python": platform.python_version(), "msgspec": msgspec.__version__}
        console.document(found)
    else:
        console.line(installed("rgrid"))
    return 0


def _number(value: int | None) -> str | None:
    return None if value is None else str(value)
