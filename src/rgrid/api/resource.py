"""The full execution resource: what the log says, and around it texts, links and its place in the queue."""

import asyncio
from datetime import datetime, timedelta
from typing import Final

from projections.execution_detail import TERMINAL, Detail
from rgrid.api import links, waiting
from rgrid.api.execution_views import ExecutionResponse, InputFile, Surroundings, response
from rgrid.api.grid import Grid, find
from rgrid.api.requirements import text_of
from rgrid.executions import uploads
from rgrid.executions.events import Excerpt
from rgrid.kernel.clock import now

SCRIPT_BYTES_MAX: Final = 4 * 1024 * 1024

_Texts = tuple[tuple[str | None, bool], tuple[str | None, bool]]
_NO_TEXTS: Final[_Texts] = ((None, False), (None, False))


def fresh(
    grid: Grid, detail: Detail, script_content: str, requirements_content: str | None, base: str
) -> ExecutionResponse:
    """The resource as it is right after its submission: nothing to look up."""
    expires_at = links.ends_at(grid.settings.upload_ttl_s)
    inputs = _as_logged(grid, detail, expires_at, base)
    to_upload = _uploads(inputs)
    around = Surroundings(
        script_content=script_content,
        requirements_content=requirements_content,
        inputs=inputs,
        upload_urls=to_upload,
        urls_expire_at=expires_at if to_upload else None,
        waiting=waiting.as_logged(detail, now()),
    )
    return response(detail, around, grid.settings.artifacts_keep_days)


async def past(grid: Grid, detail: Detail) -> ExecutionResponse:
    """The resource as it was: no links, no place in the queue, and output only if it had ended by then, because what
    was printed until some moment isn't kept apart."""
    texts = _NO_TEXTS
    if detail.status in TERMINAL:
        # The lines may have gone since; what is kept of them is named by a later event.
        texts = await _texts(grid, await find(grid, detail.execution_id))
    (stdout, cut_out), (stderr, cut_err) = texts
    around = Surroundings(
        script_content=await script_of(grid, detail),
        requirements_content=await text_of(grid, detail.spec.requirements_sha256),
        stdout=stdout,
        stderr=stderr,
        output_cut=cut_out or cut_err,
        inputs=_as_logged(grid, detail, None, ""),
        waiting=waiting.as_logged(detail, detail.queued_at or detail.spec.submitted_at),
    )
    return response(detail, around, grid.settings.artifacts_keep_days)


async def full(grid: Grid, detail: Detail, base: str) -> ExecutionResponse:
    """The resource as it is now."""
    expires_at = links.ends_at(grid.settings.upload_ttl_s)
    files = await inputs(grid, detail, expires_at, base)
    outputs, downloads_expire_at = _downloads(grid, detail, base)
    (stdout, cut_out), (stderr, cut_err) = await _texts(grid, detail)
    to_upload = _uploads(files)
    around = Surroundings(
        script_content=await script_of(grid, detail),
        requirements_content=await text_of(grid, detail.spec.requirements_sha256),
        stdout=stdout,
        stderr=stderr,
        output_cut=cut_out or cut_err,
        inputs=files,
        upload_urls=to_upload,
        download_urls=outputs,
        urls_expire_at=expires_at if to_upload else downloads_expire_at if outputs else None,
        waiting=await waiting.looked_up(grid, detail),
    )
    return response(detail, around, grid.settings.artifacts_keep_days)


async def script_of(grid: Grid, detail: Detail) -> str:
    """The text of the script."""
    return (await grid.objects.read_bytes(detail.spec.script_sha256, SCRIPT_BYTES_MAX)).decode()


def kept_until(grid: Grid, detail: Detail) -> datetime | None:
    """When the files of an execution go; None while it hasn't ended."""
    if detail.completed_at is None:
        return None
    return detail.completed_at + timedelta(days=grid.settings.artifacts_keep_days)


async def inputs(grid: Grid, detail: Detail, expires_at: datetime, base: str) -> list[InputFile]:
    """The declared files and where each one stands; URLs for those that still can be uploaded."""
    states = _as_logged(grid, detail, expires_at, base)
    arrived = await uploads.uploaded(grid.pool, detail.execution_id) if detail.status == "awaiting_inputs" else {}
    direct = grid.objects.direct if detail.status == "awaiting_inputs" else None
    for one in states:
        if one.state == "pending":
            slot = links.slot(detail.execution_id, one.name)
            if one.name in arrived or (direct is not None and await direct.has_arrived(slot)):
                one.state = "uploaded"
        elif are_gone(grid, detail):
            one.state = "expired"
    return states


def _as_logged(grid: Grid, detail: Detail, expires_at: datetime | None, base: str) -> list[InputFile]:
    """The inputs by the log alone, which doesn't know what has been uploaded and not been checked."""
    verified = {file.name: file for file in detail.verified}
    wanted = detail.status == "awaiting_inputs" and expires_at is not None
    return [
        InputFile(
            name=declared.name,
            size_bytes=file.size_bytes if (file := verified.get(declared.name)) else declared.size_bytes,
            sha256=file.sha256 if file else declared.sha256,
            content_type=declared.content_type,
            state="pending" if file is None else "cached" if file.name in detail.cached else "verified",
            upload_url=links.upload(grid, detail.execution_id, declared, expires_at, base)
            if wanted and expires_at and file is None
            else None,
            upload_expires_at=expires_at if wanted and file is None else None,
        )
        for declared in detail.spec.inputs
    ]


def are_gone(grid: Grid, detail: Detail) -> bool:
    """Whether the files of an execution are no longer kept."""
    if detail.objects_expired_at is not None:
        return True
    until = kept_until(grid, detail)
    return until is not None and until <= now()


def _downloads(grid: Grid, detail: Detail, base: str) -> tuple[dict[str, str] | None, datetime | None]:
    """Addresses of the outputs by name, once there will be no more of them, and when they expire."""
    until = kept_until(grid, detail)
    if until is None or are_gone(grid, detail) or not detail.artifacts:
        return None, None
    expires_at = min(until.replace(microsecond=0), links.ends_at(grid.settings.download_ttl_s))
    urls = {one.filename: links.download(grid, one, expires_at, base) for one in detail.artifacts}
    return urls, expires_at


def _uploads(files: list[InputFile]) -> dict[str, str] | None:
    return {file.name: file.upload_url for file in files if file.upload_url and file.state == "pending"} or None


async def _texts(grid: Grid, detail: Detail) -> _Texts:
    if detail.last is None:
        return _NO_TEXTS
    attempt = detail.last.attempt
    if detail.logs_expired_at is not None:
        stdout, stderr = detail.excerpts
        return await _kept(grid, stdout), await _kept(grid, stderr)
    return await asyncio.gather(
        grid.log_reader.excerpt(detail.execution_id, attempt, "stdout"),
        grid.log_reader.excerpt(detail.execution_id, attempt, "stderr"),
    )


async def _kept(grid: Grid, excerpt: Excerpt | None) -> tuple[str, bool]:
    if excerpt is None:
        return "", False
    return (await grid.objects.read_bytes(excerpt.sha256, excerpt.size_bytes)).decode(), excerpt.truncated
