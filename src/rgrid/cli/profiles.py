"""`rgrid profiles`: the services that are saved here, and which of them counts when none is named."""

import argparse

import msgspec

from rgrid import settings
from rgrid.cli import credentials
from rgrid.cli.connection import no_such_profile
from rgrid.cli.output import Console


def add_profiles(parser: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
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

    parser.set_defaults(handler=list_profiles)
    command("list", "list the saved services").set_defaults(handler=list_profiles)
    use = command("use", "make one the current one")
    use.add_argument("name", metavar="NAME")
    use.set_defaults(handler=use_profile)
    forget = command("forget", "remove one and its key from this machine")
    forget.add_argument("name", metavar="NAME")
    forget.set_defaults(handler=forget_profile)
    parser.epilog = (
        "For one command --profile NAME, for one shell RGRID_PROFILE=NAME; rgrid login --profile NAME adds one.\n\n"
        "Examples:\n  rgrid profiles list\n  rgrid profiles use work"
    )


def list_profiles(_args: argparse.Namespace, console: Console) -> int:
    saved = credentials.load()
    current = settings.load().profile or saved.current
    rows = [
        {"name": name, "api_url": profile.api_url, "current": name == current}
        for name, profile in sorted(saved.profiles.items())
    ]
    if console.json:
        console.document({"data": rows, "current": current})
    elif not rows:
        console.note("Nothing is saved yet.\n  Next: rgrid login")
    else:
        marks = [("*" if row["current"] else "", str(row["name"]), str(row["api_url"])) for row in rows]
        console.table(("", "NAME", "SERVICE"), marks)
    return 0


def use_profile(args: argparse.Namespace, console: Console) -> int:
    saved = credentials.load()
    if args.name not in saved.profiles:
        raise no_such_profile(args.name, saved)
    credentials.write(msgspec.structs.replace(saved, current=args.name))
    url = saved.profiles[args.name].api_url
    if console.json:
        console.document({"name": args.name, "api_url": url})
        return 0
    console.line(f"{args.name} is the current profile: {url}")
    overriding = settings.load().profile
    if overriding and overriding != args.name:
        console.note(f"In this shell RGRID_PROFILE={overriding} counts instead.\n  Next: unset RGRID_PROFILE")
    else:
        console.note("  Next: rgrid whoami")
    return 0


def forget_profile(args: argparse.Namespace, console: Console) -> int:
    saved = credentials.load()
    if args.name not in saved.profiles:
        raise no_such_profile(args.name, saved)
    left = {name: profile for name, profile in saved.profiles.items() if name != args.name}
    current = None if saved.current == args.name else saved.current
    credentials.write(credentials.Credentials(current, left))
    if console.json:
        console.document({"name": args.name, "forgotten": True})
        return 0
    console.line(f"{args.name} is forgotten; its key works until it is revoked.")
    if current is None and left:
        console.note("No profile is current now.\n  Next: rgrid profiles use " + sorted(left)[0])
    return 0
