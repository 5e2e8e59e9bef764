"""`login` (also `init`) and `whoami`: which service, which key."""

import argparse
import getpass
import sys

from rgrid import settings
from rgrid.cli import credentials
from rgrid.cli.connection import DEFAULT_URL, address, connect
from rgrid.cli.output import Console, Failure, Usage, moment
from rgrid.client.grid import Client


def add_login(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace a saved profile without asking")
    parser.epilog = (
        "Asks for what is not given, tries it, and saves it under --profile (default if not given).\n"
        "Nothing is written when the service refuses the key.\n\n"
        "Examples:\n  rgrid login\n  rgrid login --profile work --api-url https://grid.example.com"
    )
    parser.set_defaults(handler=login)


add_init = add_login


def login(args: argparse.Namespace, console: Console) -> int:
    flags = {name: getattr(args, name, None) for name in ("api_url", "api_key", "profile")}
    given = settings.load(flags)
    name = given.profile or credentials.DEFAULT
    url = given.api_url or _ask(f"Address of the service [{DEFAULT_URL}]: ", "--api-url") or DEFAULT_URL
    key = given.api_key or _ask_key()
    with Client(url, key) as client:
        me = client.me()
    if name in credentials.load().profiles and not args.force:
        answer = _ask(f"Replace the profile {name}? [y/N] ", "--force")
        if answer.strip().lower() not in ("y", "yes"):
            raise Failure(f"The profile {name} stays as it was.", "rgrid login --profile OTHER, or rgrid login --force")
    credentials.save(name, url.rstrip("/"), key)
    if console.json:
        console.document({"profile": name, "api_url": url, "actor": me.actor, "scopes": me.scopes})
    else:
        console.line(f"Saved as {name}: {me.actor} at {url} may {', '.join(me.scopes)}.")
        console.note("  Next: rgrid run SCRIPT")
    return 0


def add_whoami(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    parser.epilog = "Example:\n  rgrid whoami --profile local"
    parser.set_defaults(handler=whoami)


def whoami(args: argparse.Namespace, console: Console) -> int:
    found = address(args)
    with connect(args, console) as client:
        me = client.me()
    if console.json:
        console.document({"api_url": found.url, "origin": found.origin, "me": me})
        return 0
    console.facts(
        [
            ("Service", found.url),
            ("From", found.origin),
            ("Actor", me.actor),
            ("Name", me.name),
            ("Scopes", ", ".join(me.scopes)),
            ("Expires", moment(me.expires_at) if me.expires_at else None),
        ]
    )
    return 0


def _ask(question: str, option: str) -> str:
    if not sys.stdin.isatty():
        raise Usage(f"There is nobody to ask; give {option}.", "rgrid login --help")
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def _ask_key() -> str:
    if not sys.stdin.isatty():
        raise Usage("There is nobody to ask; give --api-key or RGRID_API_KEY.", "rgrid login --help")
    key = getpass.getpass("API key (not shown): ").strip()
    if not key:
        raise Usage("Without a key there is nothing to save.", "rgrid login --help")
    return key
