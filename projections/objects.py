"""Which objects are held, by how many, and how many bytes is that? Inputs, outputs, archived logs and cache entries
hold theirs until they expire; scripts, their requirements, parameters of schedules, excerpts of logs, definitions of
workflows and the items of their maps are kept."""

from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Final

from rgrid.executions.events import (
    CachedInputsExpired,
    ExecutionSubmitted,
    InputsCached,
    InputsVerified,
    LogsArchived,
    LogsExpired,
    ObjectsExpired,
    OutputsStored,
)
from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.paging import Queryable
from rgrid.postgres.pool import Connection
from rgrid.schedules.events import DueFired, ScheduleCreated, ScheduleRevised
from rgrid.subscriptions.projection import Projection
from rgrid.workflows.events import StepStarted, WorkflowDefined

Change = tuple[str, int, int, bool]
"""(sha256, size, how many holders more or fewer, whether it is kept for good from now on)."""


async def project(connection: Connection, batch: Sequence[AnyRecorded]) -> None:
    """One statement a batch: all changes of an object are added up first."""
    sizes: dict[str, int] = {}
    holders: dict[str, int] = {}
    kept: set[str] = set()
    for at in batch:
        for sha256, size, more, is_kept in _changes(at):
            sizes[sha256] = max(size, sizes.get(sha256, 0))
            holders[sha256] = holders.get(sha256, 0) + more
            if is_kept:
                kept.add(sha256)
    hashes = sorted(sizes)
    await connection.execute(
        "insert into objects as o (sha256, size_bytes, holders, is_kept)"
        " select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::boolean[])"
        " on conflict (sha256) do update set holders = o.holders + excluded.holders,"
        " is_kept = o.is_kept or excluded.is_kept, size_bytes = greatest(o.size_bytes, excluded.size_bytes)"
        " where excluded.holders <> 0 or (excluded.is_kept and not o.is_kept)",
        hashes,
        [sizes[sha256] for sha256 in hashes],
        [holders[sha256] for sha256 in hashes],
        [sha256 in kept for sha256 in hashes],
    )


def _changes(at: AnyRecorded) -> Iterable[Change]:
    match at.event:
        case ExecutionSubmitted() as spec:
            yield spec.script_sha256, spec.script_size_bytes, 0, True
            if spec.requirements_sha256 is not None:
                yield spec.requirements_sha256, spec.requirements_size_bytes or 0, 0, True
        case InputsVerified(files=held) | InputsCached(files=held):
            yield from ((file.sha256, file.size_bytes, 1, False) for file in held)
        case OutputsStored(artifacts=made):
            yield from ((one.sha256, one.size_bytes, 1, False) for one in made)
        case ObjectsExpired(released=released) | CachedInputsExpired(released=released):
            yield from ((sha256, 0, -1, False) for sha256 in released)
        case LogsArchived(blocks=blocks):
            yield from ((block.sha256, block.size_bytes, 1, False) for block in blocks)
        case LogsExpired(stdout=stdout, stderr=stderr, released=released):
            yield from ((one.sha256, one.size_bytes, 0, True) for one in (stdout, stderr) if one is not None)
            yield from ((sha256, 0, -1, False) for sha256 in released)
        case ScheduleCreated(target=target) | ScheduleRevised(target=target):
            if target.params_sha256 is not None:
                yield target.params_sha256, target.params_size_bytes, 0, True
        case WorkflowDefined() as version:
            yield version.document_sha256, version.document_size_bytes, 0, True
        case StepStarted(items_sha256=items) if items is not None:
            yield items, 0, 0, True
        case DueFired(params_sha256=overlay) if overlay is not None:
            yield overlay, 0, 0, True


PROJECTION: Final = Projection(
    name="objects",
    version=4,
    on=(
        ExecutionSubmitted, InputsVerified, OutputsStored, ObjectsExpired, LogsArchived, LogsExpired, InputsCached,
        CachedInputsExpired, ScheduleCreated, ScheduleRevised, DueFired, WorkflowDefined, StepStarted,
    ),
    ddl=files("projections") / "objects.sql",
    on_batch=project,
)  # fmt: skip


async def held(connection: Queryable, hashes: Sequence[str]) -> set[str]:
    """Those of the objects that somebody holds, or that are kept for good."""
    rows = await connection.fetch(
        "select sha256 from objects where sha256 = any($1) and (holders > 0 or is_kept)", list(hashes)
    )
    return {row["sha256"] for row in rows}


async def held_bytes(connection: Queryable) -> int:
    """What all held objects take together, each counted once."""
    total: int = await connection.fetchval(
        "select coalesce(sum(size_bytes), 0)::bigint from objects where holders > 0 or is_kept"
    )
    return total
