"""Lays out what a script needs before it may start, and says how to start it."""

import asyncio
import errno
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path, PurePosixPath
from typing import Final

from msgspec.structs import replace

from rgrid.kernel.errors import NotFound, RgridError
from rgrid.pool.engines.engine import Job
from rgrid.pool.protocol import Assignment, InputRef
from rgrid.pool.scratch import Folder, InputMissing, Seen, make_folder, place, verify

SMALL_BYTES: Final = 256 * 1024  # files up to this are hashed on the spot; a thread would cost more
_LAYOUT_ERRORS: Final = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL)

Fetch = Callable[[str, Path], Awaitable[None]]


async def lay_out(folder: Folder, assignment: Assignment, fetch: Fetch, is_over: Callable[[], bool]) -> dict[str, Seen]:
    """Fetches script and inputs and checks them all: a script never runs with an input absent or partial. Stops early
    when `is_over` says that nobody wants the attempt any more."""
    make_folder(folder)
    script = replace(assignment.script, name=_script_name(assignment.script))
    try:
        await _fetch(fetch, script, folder.script)
        for ref in assignment.inputs:
            if is_over():
                return {}
            await _fetch(fetch, ref, folder.work)
    except OSError as error:
        if error.errno in _LAYOUT_ERRORS:
            raise InputMissing(f"An input could not be laid out: {error.strerror}.") from error
        raise
    check = functools.partial(_verify, folder, script, assignment.inputs)
    total = script.size_bytes + sum(ref.size_bytes for ref in assignment.inputs)
    return check() if total <= SMALL_BYTES else await asyncio.to_thread(check)


def job_of(folder: Folder, assignment: Assignment, disk_quota_bytes: int, packages: Path | None = None) -> Job:
    """Arguments stay as they are: one that equals an input's name names that file, because `/work` is where it runs."""
    lease = assignment.lease
    own = {"RGRID_EXECUTION_ID": lease.execution_id, "RGRID_ATTEMPT": str(lease.attempt)}
    if assignment.batch_id is not None:
        own["RGRID_BATCH_ID"] = assignment.batch_id
    if assignment.batch_index is not None:
        own["RGRID_BATCH_INDEX"] = str(assignment.batch_index)
    if assignment.scheduled_at is not None:
        own["RGRID_SCHEDULED_AT"] = assignment.scheduled_at.isoformat().replace("+00:00", "Z")
    return Job(
        job_id=folder.root.name,
        runtime=assignment.runtime,
        script_path=folder.script / _script_name(assignment.script),
        args=list(assignment.args),
        env={**assignment.env, **own},
        work_dir=folder.work,
        timeout_s=assignment.timeout_s,
        cpu=assignment.cpu,
        memory_mb=assignment.memory_mb,
        network=assignment.network,
        disk_quota_bytes=disk_quota_bytes,
        environment=packages,
    )


async def _fetch(fetch: Fetch, ref: InputRef, folder: Path) -> None:
    try:
        await fetch(ref.sha256, place(folder, ref.name))
    except NotFound as error:
        said = "is damaged in" if error.code == "object_damaged" else "is not in"
        raise InputMissing(f"The input {ref.name!r} {said} the object store.") from error


def _verify(folder: Folder, script: InputRef, inputs: list[InputRef]) -> dict[str, Seen]:
    verify(folder.script, [script])
    return verify(folder.work, inputs)


def _script_name(script: InputRef) -> str:
    return PurePosixPath(script.name).name or "script"


def disk_text(error: OSError | RgridError, what: str) -> str:
    """A fault of storage in words that a user may read: no path of this machine."""
    if isinstance(error, RgridError):
        return f"{what}: {error.detail.rstrip('.')}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{what}: no space is left on the disk."
    return f"{what}: {error.strerror or type(error).__name__}."
