"""Where the command line keeps what it knows of services: `~/.rgrid/credentials`, for its owner's eyes only."""

import os
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from rgrid.cli.output import Failure

LOCAL: Final = "local"
DEFAULT: Final = "default"


class Profile(msgspec.Struct, frozen=True):
    """One service and the key for it."""

    api_url: str
    api_key: str


class Credentials(msgspec.Struct, frozen=True):
    """All profiles; `current` is the one that counts when none is named: the last that was saved."""

    current: str | None = None
    profiles: dict[str, Profile] = {}


def path() -> Path:
    return Path.home() / ".rgrid" / "credentials"


def load() -> Credentials:
    """What is saved, or nothing."""
    try:
        return msgspec.json.decode(path().read_bytes(), type=Credentials)
    except FileNotFoundError:
        return Credentials()
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Failure(f"{path()} can't be read: {error}.", f"rm {path()} && rgrid login") from None


def save(profile: str, url: str, key: str, *, make_current: bool = True) -> None:
    """Keeps one profile."""
    before = load()
    profiles = {**before.profiles, profile: Profile(url, key)}
    write(Credentials(profile if make_current else before.current, profiles))


def write(after: Credentials) -> None:
    """The file is replaced in one step and never readable by others."""
    folder = path().parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    # mkstemp makes the file with mode 0600.
    handle, name = tempfile.mkstemp(prefix=".credentials-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(after), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).rename(path())
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
