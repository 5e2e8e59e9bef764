"""`up`, `worker`, `openapi`: the server side of the program. The service is imported only when it runs."""

import argparse
import errno
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from rgrid import settings
from rgrid.cli import credentials
from rgrid.cli.output import Console, Failure
from rgrid.client.grid import Client
from rgrid.client.problems import GridError, Refused


def add_up(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", metavar="ADDRESS", help="where to listen; 127.0.0.1 if not given (RGRID_HOST)")
    add("--port", metavar="PORT", type=int, help="8000 if not given, 0 takes a free one (RGRID_PORT)")
    add("--data-dir", metavar="DIR", type=Path, help="where everything is kept (RGRID_DATA_DIR)")
    add("--slots", metavar="N", type=int, help="scripts at a time, one per core if not given, 0 none (RGRID_SLOTS)")
    add("--workflows", metavar="DIR", type=Path, help="apply the definitions in this folder (RGRID_WORKFLOWS)")
    parser.epilog = (
        "Starts the database, the HTTP interface and the workers, prints one line when all is ready, and goes on\n"
        "until Ctrl-C. The first start makes an admin key and saves it for this user in ~/.rgrid/credentials;\n"
        "RGRID_BOOTSTRAP_KEY sets it instead, and then nothing is saved.\n\n"
        "Examples:\n  rgrid up\n  rgrid up --port 9000 --data-dir /srv/rgrid --slots 8\n"
        "  RGRID_DATABASE_URL=postgresql://user@host/rgrid rgrid up --host 0.0.0.0"
    )
    parser.set_defaults(handler=up)


def up(args: argparse.Namespace, console: Console) -> int:
    from rgrid import app
    from rgrid.access import key_secret

    chosen = settings.load({name: getattr(args, name) for name in ("host", "port", "data_dir", "slots", "workflows")})
    _warn_of_unknown_names(console)
    key, is_ours = chosen.bootstrap_key, False
    if key is None:
        saved = credentials.load().profiles.get(credentials.LOCAL)
        # The same key opens every service that this user starts here, also one with another data folder.
        key, is_ours = (saved.api_key if saved else key_secret.new_secret()), True
    running = msgspec.structs.replace(chosen, bootstrap_key=key)
    try:
        return app.serve(running, on_ready=_announcer(key, is_ours, console))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        following = f"rgrid up --port {chosen.port + 1}, or rgrid health to see what runs there"
        raise Failure(f"Port {chosen.port} of {chosen.host} is taken.", following) from None


def _announcer(key: str, is_ours: bool, console: Console) -> Callable[[str], None]:
    def on_ready(url: str) -> None:
        # In a thread of its own: the service answers the question in here only once this call is over.
        threading.Thread(target=_announce, args=(url, key, is_ours, console), daemon=True).start()

    return on_ready


def _announce(url: str, key: str, is_ours: bool, console: Console) -> None:
    problem = None
    try:
        with Client(url, key) as client:
            client.me()
        if is_ours:
            credentials.save(credentials.LOCAL, url, key)
    except Refused:
        problem = "This installation was set up with another key; save it with: rgrid login"
    except (GridError, OSError) as error:
        problem = f"The key could not be saved: {error}"
    if console.json:
        console.document({"url": url, "saved_as": credentials.LOCAL if is_ours and not problem else None})
    else:
        console.line(f"rgrid is ready at {url} (try: rgrid run SCRIPT; Ctrl-C stops it)")
    sys.stdout.flush()
    if problem:
        console.note(problem)


def add_worker(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data-dir", metavar="DIR", type=Path, help="where it keeps what it works with (RGRID_DATA_DIR)")
    add("--slots", metavar="N", type=int, help="scripts at a time, one per core if not given (RGRID_SLOTS)")
    parser.epilog = (
        "Finds the database of a service that runs on the same --data-dir, or takes RGRID_DATABASE_URL, and then\n"
        "RGRID_OBJECTS_URL and RGRID_ENCRYPTION_KEY as the service has them.\n\n"
        "Examples:\n  rgrid worker --slots 4\n  RGRID_DATABASE_URL=postgresql://user@host/rgrid rgrid worker --slots 8"
    )
    parser.set_defaults(handler=worker)


def worker(args: argparse.Namespace, console: Console) -> int:
    from rgrid import app

    chosen = settings.load({name: getattr(args, name) for name in ("data_dir", "slots")})
    _warn_of_unknown_names(console)
    return app.work(chosen)


def add_scheduler(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", metavar="DIR", type=Path, help="where the service keeps everything (RGRID_DATA_DIR)"
    )
    parser.epilog = (
        "Any number of them run beside each other and beside services: each due time fires once. A service with\n"
        "RGRID_SCHEDULER=false leaves it to them. Finds the database as `rgrid worker` does.\n\n"
        "Example:\n  RGRID_DATABASE_URL=postgresql://user@host/rgrid rgrid scheduler"
    )
    parser.set_defaults(handler=scheduler)


def scheduler(args: argparse.Namespace, console: Console) -> int:
    from rgrid import app

    chosen = settings.load({"data_dir": args.data_dir})
    _warn_of_unknown_names(console)
    return app.tick(chosen)


def add_purge(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", metavar="DIR", type=Path, help="where everything is kept (RGRID_DATA_DIR)")
    parser.add_argument(
        "--orphans",
        action="store_true",
        help="also objects that no record names; never when installations share a store",
    )
    parser.epilog = (
        "The service does this by itself, a little at a time; purge does all of it at once, and also while the\n"
        "service is down. It works on the database of --data-dir or of RGRID_DATABASE_URL. What an execution that\n"
        "hasn't ended needs is never touched, and the records and events stay.\n\n"
        "Examples:\n  rgrid purge\n  RGRID_ARTIFACTS_KEEP_DAYS=7 rgrid purge --json"
    )
    parser.set_defaults(handler=purge)


def purge(args: argparse.Namespace, console: Console) -> int:
    from rgrid import app

    chosen = settings.load({"data_dir": args.data_dir})
    _warn_of_unknown_names(console)
    done = msgspec.to_builtins(app.purge(chosen, orphans=args.orphans))
    if console.json:
        console.document(done)
    else:
        console.facts([(name.replace("_", " ").capitalize(), str(count)) for name, count in done.items()])
    return 0


def add_openapi(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    parser.epilog = "OpenAPI 3.1 as JSON; needs no running service.\n\nExample:\n  rgrid openapi > openapi.json"
    parser.set_defaults(handler=openapi)


def openapi(_args: argparse.Namespace, console: Console) -> int:
    from rgrid import app

    console.document(app.openapi_document())
    return 0


def _warn_of_unknown_names(console: Console) -> None:
    for name, nearest in settings.unknown_names():
        console.note(f"{name} is no setting of rgrid" + (f"; is {nearest} meant?" if nearest else "."))
