"""The full execution resource: what the log says, and around it texts, links and its place in the queue."""

import asyncio
from datetime import datetime, timedelta
from typing import Final

from projections import run_queue
from projections.execution_detail import TERMINAL, Detail
from rgrid.api import links
from rgrid.api.execution_views import ExecutionResponse, InputFile, InputState, Surroundings, response
from rgrid.api.grid import Grid
from rgrid.executions import logs
from rgrid.executions.events import DeclaredInput
from rgrid.kernel.clock import now

SCRIPT_BYTES_MAX: Final = 4 * 1024 * 1024


def fresh(grid: Grid, detail: Detail, script_content: str, base: str) -> ExecutionResponse:
    """The resource as it is right after its submission: nothing to look up."""
    expires_at = now() + timedelta(seconds=grid.settings.upload_ttl_s)
    inputs = [_input(grid, detail, declared, "pending", expires_at, base) for declared in detail.spec.inputs]
    around = Surroundings(script_content=script_content, inputs=inputs, upload_urls=_uploads(inputs),
                          urls_expire_at=expires_at if inputs else None)  # fmt: skip
    return response(detail, around, grid.settings.artifacts_keep_days)


async def full(grid: Grid, detail: Detail, base: str, *, past: bool = False) -> ExecutionResponse:
    """The resource as it is now. A `past` one has no links, no output and no place in the queue."""
    script = (await grid.objects.read_bytes(detail.spec.script_sha256, SCRIPT_BYTES_MAX)).decode()
    if past:
        return response(detail, Surroundings(script_content=script), grid.settings.artifacts_keep_days)
    expires_at = now() + timedelta(seconds=grid.settings.upload_ttl_s)
    files = await inputs(grid, detail, expires_at, base)
    outputs = {
        one.filename: links.download(grid, one.artifact_id, one.filename, expires_at, base) for one in detail.artifacts
    }
    (stdout, cut_out), (stderr, cut_err) = await _texts(grid, detail)
    uploads = _uploads(files)
    around = Surroundings(
        script_content=script,
        stdout=stdout,
        stderr=stderr,
        output_cut=cut_out or cut_err,
        inputs=files,
        upload_urls=uploads,
        download_urls=(outputs or None) if detail.status in TERMINAL else None,
        urls_expire_at=expires_at if uploads or outputs else None,
        queue_position=await run_queue.place(grid.pool, detail.execution_id) if detail.status == "queued" else None,
    )
    return response(detail, around, grid.settings.artifacts_keep_days)


async def inputs(grid: Grid, detail: Detail, expires_at: datetime, base: str) -> list[InputFile]:
    """The declared files and where each one stands; URLs for those that still can be uploaded."""
    verified = {file.name: file for file in detail.verified}
    states: list[InputFile] = []
    for declared in detail.spec.inputs:
        if file := verified.get(declared.name):
            one = _input(grid, detail, declared, "verified", None, base)
            one.size_bytes, one.sha256 = file.size_bytes, file.sha256
        else:
            uploaded = await grid.uploads.uploaded(detail.execution_id, declared.name)
            one = _input(grid, detail, declared, "uploaded" if uploaded else "pending", expires_at, base)
        states.append(one)
    return states


def _input(
    grid: Grid, detail: Detail, declared: DeclaredInput, state: InputState, expires_at: datetime | None, base: str
) -> InputFile:
    wanted = detail.status == "awaiting_inputs" and expires_at is not None
    url = links.upload(grid, detail.execution_id, declared, expires_at, base) if wanted and expires_at else None
    return InputFile(
        name=declared.name,
        size_bytes=declared.size_bytes,
        sha256=declared.sha256,
        content_type=declared.content_type,
        state=state,
        upload_url=url,
        upload_expires_at=expires_at if wanted else None,
    )


def _uploads(files: list[InputFile]) -> dict[str, str] | None:
    return {file.name: file.upload_url for file in files if file.upload_url and file.state == "pending"} or None


async def _texts(grid: Grid, detail: Detail) -> tuple[tuple[str | None, bool], tuple[str | None, bool]]:
    if detail.last is None:
        return (None, False), (None, False)
    attempt = detail.last.attempt
    return await asyncio.gather(
        logs.excerpt(grid.pool, detail.execution_id, attempt, "stdout"),
        logs.excerpt(grid.pool, detail.execution_id, attempt, "stderr"),
    )
