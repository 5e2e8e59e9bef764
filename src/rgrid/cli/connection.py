"""Which service a command talks to, and with which key: flags, then the environment, then what was saved."""

import argparse
import sys
from typing import Final, NamedTuple

from rgrid import settings
from rgrid.cli import credentials
from rgrid.cli.output import Console, Failure
from rgrid.client.grid import Client

DEFAULT_URL: Final = "http://127.0.0.1:8000"


class Address(NamedTuple):
    """`origin` says where it was found."""

    url: str
    key: str | None
    origin: str


def address(args: argparse.Namespace) -> Address:
    """The service and the key of this call. A saved key is only ever sent to the address it was saved with."""
    wanted: str | None = getattr(args, "profile", None)
    flags = {"api_url": getattr(args, "api_url", None), "api_key": getattr(args, "api_key", None)}
    known = settings.load(flags)
    saved = credentials.load()
    name = wanted or known.profile or saved.current
    profile = saved.profiles.get(name) if name else None
    if name and name != saved.current and profile is None:
        raise no_such_profile(name, saved)
    url, key = known.api_url, known.api_key
    origin: str = known.origins.get("api_url", "default")
    if wanted and profile:
        # A profile that was named outranks the environment, but not the flags beside it.
        url = flags["api_url"] or profile.api_url
        key = flags["api_key"]
        origin = f"profile {wanted}"
    elif url is None and profile:
        url, origin = profile.api_url, f"profile {name}"
    url = (url or DEFAULT_URL).rstrip("/")
    if key is None and profile and profile.api_url.rstrip("/") == url:
        key = profile.api_key
    return Address(url, key, origin)


def no_such_profile(name: str, saved: credentials.Credentials) -> Failure:
    names = ", ".join(saved.profiles) or "none"
    following = "rgrid profiles list" if saved.profiles else f"rgrid login --profile {name}"
    return Failure(f"There is no profile {name}; saved: {names}.", following)


def connect(args: argparse.Namespace, console: Console, *, needs_key: bool = True) -> Client:
    """A client for the service of this call."""
    found = address(args)
    if needs_key and not found.key:
        raise Failure(
            f"No key is known for {found.url}.", "rgrid up (a service on this machine) or rgrid login (another one)"
        )

    def on_retry(reason: str, wait_s: float) -> None:
        told = f"{reason.rstrip('.')}; trying again in {wait_s:.0f} s."
        console.note(console.paint(told, "dim", sys.stderr))

    return Client(found.url, found.key, on_retry=on_retry)
