"""Which files went into an execution, and which came out?"""

import mimetypes
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any, Final, Literal

import msgspec

from rgrid.executions.events import InputsVerified, ObjectsExpired, OutputsStored
from rgrid.kernel.ids import derived_id
from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.paging import Key, Queryable, Rows, Where, Window, select
from rgrid.postgres.pool import Connection
from rgrid.subscriptions.projection import Projection

KEYS: Final = (Key("created_at", "moment"), Key("artifact_id"))
UNKNOWN_CONTENT: Final = "application/octet-stream"
_COLUMNS: Final = "artifact_id, execution_id, artifact_type, filename, size_bytes, content_type, sha256, created_at"
_SHOWN: Final = f"{_COLUMNS}, expired"


class ArtifactRow(msgspec.Struct, frozen=True, kw_only=True):
    artifact_id: str
    execution_id: str
    artifact_type: Literal["input", "output"]
    filename: str
    size_bytes: int
    content_type: str
    sha256: str
    created_at: datetime
    expired: bool = False
    version: int = 1


async def verified(connection: Connection, event: InputsVerified, at: AnyRecorded) -> None:
    moment_ms = int(event.verified_at.timestamp() * 1000)
    await _insert(
        connection,
        [
            (derived_id("art", moment_ms, at.entity_id, file.name), at.entity_id, "input", file.name, file.size_bytes,
             mimetypes.guess_type(file.name)[0] or UNKNOWN_CONTENT, file.sha256, event.verified_at)
            for file in event.files
        ],
    )  # fmt: skip


async def stored(connection: Connection, event: OutputsStored, at: AnyRecorded) -> None:
    await _insert(
        connection,
        [
            (made.artifact_id, at.entity_id, "output", made.filename, made.size_bytes, made.content_type, made.sha256,
             event.stored_at)
            for made in event.artifacts
        ],
    )  # fmt: skip


async def let_go(connection: Connection, _event: ObjectsExpired, at: AnyRecorded) -> None:
    await connection.execute(
        "update artifacts set expired = true, version = version + 1 where execution_id = $1", at.entity_id
    )


async def _insert(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    await connection.executemany(
        f"insert into artifacts ({_COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8)",  # noqa: S608
        rows,
    )


PROJECTION: Final = Projection(
    name="artifacts",
    version=2,
    on={InputsVerified: verified, OutputsStored: stored, ObjectsExpired: let_go},
    ddl=files("projections") / "artifacts.sql",
)


async def page(connection: Queryable, execution_id: str, artifact_type: str | None, window: Window) -> Rows:
    where = Where()
    where.equal("execution_id", execution_id)
    where.equal("artifact_type", artifact_type)
    return await select(connection, columns=_SHOWN, source="artifacts", where=where, window=window)


async def get(connection: Queryable, artifact_id: str) -> ArtifactRow | None:
    row = await connection.fetchrow(
        f"select {_SHOWN}, version from artifacts where artifact_id = $1",  # noqa: S608
        artifact_id,
    )
    return None if row is None else ArtifactRow(**dict(row))


async def by_object(connection: Queryable, sha256: str) -> ArtifactRow | None:
    """The newest artifact that holds this content."""
    row = await connection.fetchrow(
        f"select {_SHOWN}, version from artifacts where sha256 = $1 order by expired, created_at desc limit 1",  # noqa: S608
        sha256,
    )
    return None if row is None else ArtifactRow(**dict(row))


async def inputs_held(connection: Queryable, hashes: Sequence[str]) -> dict[str, int]:
    """Those of the contents that are verified inputs of an execution which still keeps them, with their sizes."""
    rows = await connection.fetch(
        "select distinct sha256, size_bytes from artifacts where sha256 = any($1) and artifact_type = 'input'"
        " and not expired",
        list(hashes),
    )
    return {row["sha256"]: row["size_bytes"] for row in rows}


async def outputs(connection: Queryable, execution_id: str) -> list[ArtifactRow]:
    rows = await connection.fetch(
        f"select {_SHOWN}, version from artifacts where execution_id = $1 and artifact_type = 'output'"  # noqa: S608
        " order by created_at, artifact_id",
        execution_id,
    )
    return [ArtifactRow(**dict(row)) for row in rows]
