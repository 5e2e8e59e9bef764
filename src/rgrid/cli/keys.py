"""`rgrid keys`: who may use the service."""

import argparse
from datetime import timedelta
from typing import Final

from rgrid.cli import arguments
from rgrid.cli.connection import connect
from rgrid.cli.lists import fetch
from rgrid.cli.output import Console, moment
from rgrid.client.answers import Key, NewKey
from rgrid.kernel import clock
from rgrid.kernel.converting import convert

SCOPES: Final = ("read", "run", "admin")


def add_keys(parser: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, says: str) -> argparse.ArgumentParser:
        described = f"{says[:1].upper()}{says[1:]}."
        return commands.add_parser(
            name,
            help=says,
            description=described,
            parents=[shared],
            allow_abbrev=False,
            formatter_class=parser.formatter_class,
        )

    create = command("create", "make a key; it is shown once")
    create.add_argument("name", metavar="NAME", help="what lists call it")
    create.add_argument(
        "--scope", choices=SCOPES, metavar="SCOPE", action="append", help="read, run (the default), admin"
    )
    create.add_argument(
        "--expires", metavar="TIME", type=arguments.seconds, help="such as 12h or 30d; never if not given"
    )
    create.add_argument("--description", metavar="TEXT", help="what it is for")
    create.set_defaults(handler=create_key)
    command("list", "list the keys").set_defaults(handler=list_keys)
    rotate = command("rotate", "make a new secret for a key; the old one works for a while")
    rotate.add_argument("key_id", metavar="ID")
    rotate.add_argument(
        "--grace", metavar="TIME", type=arguments.seconds, help="how long the old one works; 1h if not given"
    )
    rotate.set_defaults(handler=rotate_key)
    revoke = command("revoke", "end keys at once")
    revoke.add_argument("key_ids", metavar="ID", nargs="+")
    revoke.set_defaults(handler=revoke_keys)
    parser.epilog = (
        "Examples:\n  rgrid keys create ci --scope run --expires 90d\n"
        "  rgrid keys list\n  rgrid keys rotate key_01JB2Z4M7K8P9Q0R1S2T3V4W5X --grace 1h"
    )


def create_key(args: argparse.Namespace, console: Console) -> int:
    expires = (clock.now() + timedelta(seconds=args.expires)).isoformat() if args.expires else None
    with connect(args, console) as client:
        made = client.create_key(args.name, args.scope or ["run"], args.description, expires)
    return _show_once(made, console)


def rotate_key(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        made = client.rotate_key(args.key_id, args.grace)
    return _show_once(made, console)


def _show_once(made: NewKey, console: Console) -> int:
    if console.json:
        console.document(made)
        return 0
    # The secret alone on standard output, so that `KEY=$(rgrid keys create ci)` works.
    console.line(made.key or "")
    console.note(f"{made.id} ({made.name}): {', '.join(made.scopes)}. Keep the key now, it is not shown again.")
    if made.previous_valid_until:
        console.note(f"The old secret works until {moment(made.previous_valid_until)}.")
    return 0


def list_keys(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        found = fetch(client, "/keys")
    if console.json:
        console.document(found.document())
        return 0
    console.table(
        ("ID", "NAME", "STATUS", "SCOPES", "PREFIX", "LAST USED", "EXPIRES"),
        [
            (
                key.id,
                key.name,
                key.status,
                ",".join(key.scopes),
                key.prefix,
                moment(key.last_used_at),
                moment(key.expires_at),
            )
            for key in convert(found.rows, list[Key])
        ],
    )
    return 0


def revoke_keys(args: argparse.Namespace, console: Console) -> int:
    done = []
    with connect(args, console) as client:
        for key_id in args.key_ids:
            done.append(client.revoke_key(key_id))
            if not console.json:
                console.line(f"{key_id} revoked")
    if console.json:
        console.document(done[0] if len(done) == 1 else {"data": done})
    return 0
