"""Artifacts over HTTP: lists, one, and the signed address to fetch it."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
from msgspec import Meta

from projections import artifacts
from projections.artifacts import ArtifactRow
from rgrid.api import links, lists
from rgrid.api.grid import Grid, find
from rgrid.api.links import SignedQuery
from rgrid.kernel.clock import now
from rgrid.kernel.errors import Gone, Invalid, NotFound
from rgrid.kernel.ids import is_id
from rgrid.web.operation import Call, NoQuery, Operation, Reply, missing
from rgrid.web.pages import Page

ArtifactType = Literal["input", "output"]


class ArtifactFilter(msgspec.Struct, frozen=True, kw_only=True):
    artifact_type: ArtifactType | None = None


class Artifact(msgspec.Struct, kw_only=True):
    """A stored file of an execution. `expires_at` is when the object goes; the record stays."""

    artifact_id: str
    execution_id: str
    artifact_type: ArtifactType
    filename: str
    file_path: str
    size_bytes: int
    content_type: str
    sha256: str | None
    compressed: bool
    created_at: datetime
    expires_at: datetime | None
    expired: bool


class DownloadUrlRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exactly one of `artifact_id` and `s3_key` (an artifact's `file_path`)."""

    artifact_id: str | None = None
    s3_key: str | None = None
    expires_in: Annotated[int, Meta(ge=60, le=86_400)] = 7200


class DownloadUrlResponse(msgspec.Struct, kw_only=True):
    download_url: str
    expires_at: datetime
    artifact_id: str
    filename: str
    size_bytes: int
    content_type: str
    sha256: str | None


class Artifacts:
    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    async def listed(self, call: Call[ArtifactFilter, None]) -> Reply:
        execution_id = call.path["execution_id"]
        detail = await find(self._grid, execution_id)
        await self._grid.caught_up()
        rows = await artifacts.page(
            self._grid.pool, execution_id, call.query.artifact_type, lists.window(call.page, artifacts.KEYS)
        )
        return Reply(
            200, lists.page(rows, call.page, artifacts.KEYS, lambda row: self._shown(row, detail.completed_at))
        )

    async def one(self, call: Call[NoQuery, None]) -> Reply:
        row = await self._find(call.path["artifact_id"])
        detail = await find(self._grid, row.execution_id)
        shown = self._shown(msgspec.structs.asdict(row), detail.completed_at)
        return Reply(200, shown, etag=row.version + shown.expired)

    async def download_url(self, call: Call[NoQuery, DownloadUrlRequest]) -> Reply:
        body = call.body
        if (body.artifact_id is None) == (body.s3_key is None):
            raise Invalid("Give exactly one of artifact_id and s3_key.", fields=[("artifact_id", "One of the two.")])
        row = (
            await self._find(body.artifact_id)
            if body.artifact_id is not None
            else await self._by_key(body.s3_key or "")
        )
        expires_at = links.ends_at(body.expires_in)
        detail = await find(self._grid, row.execution_id)
        shown = self._shown(msgspec.structs.asdict(row), detail.completed_at)
        if shown.expired:
            raise Gone(f"Artifact {row.artifact_id} has expired.", code="artifact_expired")
        if shown.expires_at is not None:
            expires_at = min(expires_at, shown.expires_at.replace(microsecond=0))
        return Reply(
            200,
            DownloadUrlResponse(
                download_url=links.download(
                    self._grid, row.artifact_id, row.filename, expires_at, links.base(self._grid, call.headers)
                ),
                expires_at=expires_at,
                artifact_id=row.artifact_id,
                filename=row.filename,
                size_bytes=row.size_bytes,
                content_type=row.content_type,
                sha256=row.sha256,
            ),
        )

    async def download(self, call: Call[SignedQuery, None]) -> Reply:
        """The signature is the credential."""
        artifact_id = call.path["artifact_id"]
        grant = self._grid.signer.verify("GET", f"/downloads/{artifact_id}", call.query.text(), now())
        row = await self._find(artifact_id)
        try:
            reading = await self._grid.objects.open_read(row.sha256)
        except NotFound:
            raise Gone(f"Artifact {artifact_id} has expired.", code="artifact_expired") from None

        async def pieces() -> AsyncIterator[bytes]:
            async with reading:
                async for piece in reading:
                    yield piece

        return Reply(
            200,
            pieces(),
            media_type=row.content_type,
            headers=(
                ("content-length", str(row.size_bytes)),
                ("content-disposition", disposition(grant.filename or row.filename)),
                ("content-security-policy", "sandbox"),
            ),
        )

    async def _find(self, artifact_id: str) -> ArtifactRow:
        if not is_id("art", artifact_id):
            raise missing("Artifact", artifact_id)
        await self._grid.caught_up()
        row = await artifacts.get(self._grid.pool, artifact_id)
        if row is None:
            raise missing("Artifact", artifact_id)
        return row

    async def _by_key(self, key: str) -> ArtifactRow:
        prefix, _, sha256 = key.rpartition("/")
        await self._grid.caught_up()
        row = await artifacts.by_object(self._grid.pool, sha256) if prefix == "objects" else None
        if row is None:
            raise missing("Artifact", key)
        return row

    def _shown(self, row: Mapping[str, Any], completed_at: datetime | None) -> Artifact:
        keep = timedelta(days=self._grid.settings.artifacts_keep_days)
        expires_at = completed_at + keep if completed_at is not None else None
        return Artifact(
            artifact_id=row["artifact_id"],
            execution_id=row["execution_id"],
            artifact_type=row["artifact_type"],
            filename=row["filename"],
            file_path=f"objects/{row['sha256']}",
            size_bytes=row["size_bytes"],
            content_type=row["content_type"],
            sha256=row["sha256"],
            compressed=False,
            created_at=row["created_at"],
            expires_at=expires_at,
            expired=expires_at is not None and expires_at <= now(),
        )


def disposition(filename: str) -> str:
    """Content-Disposition with a name that can't break out of its header (RFC 6266)."""
    name = filename.rpartition("/")[2] or "file"
    plain = "".join(char if char.isascii() and (char.isalnum() or char in "._- ") else "_" for char in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def operations(grid: Grid) -> list[Operation]:
    controllers = Artifacts(grid)
    tags = ("artifacts",)
    return [
        Operation(
            method="GET", path="/api/v1/executions/{execution_id}/artifacts", auth="read", handler=controllers.listed,
            ok={200: Page[Artifact]}, query=ArtifactFilter, flags=frozenset({"page"}), tags=tags,
            summary="List the files that went into an execution and came out.",
        ),
        Operation(
            method="GET", path="/api/v1/artifacts/{artifact_id}", auth="read", handler=controllers.one,
            ok={200: Artifact}, flags=frozenset({"etag"}), tags=tags, summary="Look at one artifact.",
        ),
        Operation(
            method="POST", path="/api/v1/artifacts/download-url", auth="read", handler=controllers.download_url,
            ok={200: DownloadUrlResponse}, body=DownloadUrlRequest, errors=(404, 410), tags=tags,
            summary="Sign an address to download one artifact.",
        ),
        Operation(
            method="GET", path="/downloads/{artifact_id}", auth="open", handler=controllers.download,
            query=SignedQuery,
            ok={200: "binary"}, errors=(403, 404, 410), tags=tags, hidden=True,
            summary="Download one artifact under the address that was signed for it.",
        ),
    ]  # fmt: skip
