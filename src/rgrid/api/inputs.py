"""Inputs over HTTP: which are still to come, the signed PUT that brings one, and the check that they are complete."""

from typing import Final

from rgrid.adapters.objects import StoredObject
from rgrid.api import links, resource
from rgrid.api.execution_requests import InputFileSpec, InputsComplete
from rgrid.api.execution_views import InputFile
from rgrid.api.grid import Grid, find
from rgrid.api.links import SignedQuery
from rgrid.executions.commands import CompleteInputs
from rgrid.executions.events import DeclaredInput, StoredFile
from rgrid.executions.execution import DECIDER
from rgrid.kernel.clock import now
from rgrid.kernel.errors import Invalid, Rejected
from rgrid.web.operation import ActionResponse, Call, NoQuery, Operation, Reply, Streamed
from rgrid.web.pages import Page, slice_page

UPLOAD_BYTES_MAX: Final = 5 * 1024**3


class Inputs:
    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    async def listed(self, call: Call[NoQuery, None]) -> Reply:
        detail = await find(self._grid, call.path["execution_id"])
        expires_at = links.ends_at(self._grid.settings.upload_ttl_s)
        files = await resource.inputs(self._grid, detail, expires_at, links.base(self._grid, call.headers))
        return Reply(200, slice_page(files, call.page))

    async def complete(self, call: Call[NoQuery, InputsComplete | None]) -> Reply:
        grid, execution_id = self._grid, call.path["execution_id"]
        detail = await find(grid, execution_id)
        said = {file.name: file for file in (call.body.files or [])} if call.body is not None else {}
        stored: list[StoredFile] = []
        problems: list[tuple[str, str]] = []
        if detail.status == "awaiting_inputs":
            for declared in detail.spec.inputs:
                there = await grid.uploads.uploaded(execution_id, declared.name)
                gone = there is not None and not await grid.objects.exists(there.sha256)
                problem = "It was not uploaded." if there is None or gone else _differs(declared, there)
                problem = problem or (_differs(said[declared.name], there) if declared.name in said and there else None)
                if problem or there is None:
                    problems.append((declared.name, problem or "It was not uploaded."))
                else:
                    stored.append(StoredFile(name=declared.name, size_bytes=there.size_bytes, sha256=there.sha256))
        names = {declared.name for declared in detail.spec.inputs}
        problems += [(name, "The execution has no such input.") for name in said if name not in names]
        if problems:
            raise Rejected("Not every input is there as declared.", code="inputs_incomplete", fields=problems)
        reply = Reply(200, ActionResponse(id=execution_id, status="queued", message="All inputs are there."))
        handled = await grid.handler.handle(
            DECIDER,
            execution_id,
            CompleteInputs(files=stored),
            call.cause(),
            riders=lambda _state, _events, _version: call.riders(reply),
        )
        if not handled.events:
            reply.body = ActionResponse(
                id=execution_id, status=handled.state.status, message="The inputs were complete before."
            )
        reply.position = handled.position
        return reply

    async def upload(self, call: Call[SignedQuery, Streamed]) -> Reply:
        """The signature is the credential. Nothing is stored of a body that isn't what was declared."""
        grid, execution_id = self._grid, call.path["execution_id"]
        grant = grid.signer.verify("PUT", f"/uploads/{execution_id}", call.query.text(), now())
        detail = await find(grid, execution_id)
        if detail.status != "awaiting_inputs" or grant.filename is None:
            raise Rejected(
                f"Execution {execution_id} is {detail.status} and takes no more inputs.",
                extra={"current_status": detail.status},
            )
        assert call.receive_stream is not None
        async with grid.objects.open_write(grant.size if grant.size is not None else UPLOAD_BYTES_MAX) as writing:
            async for piece in call.receive_stream():
                await writing.write(piece)
            stored = await writing.finish()
        declared = DeclaredInput(name=grant.filename, size_bytes=grant.size, sha256=grant.sha256)
        if problem := _differs(declared, stored):
            raise Invalid(problem, code="upload_mismatch", fields=[(grant.filename, problem)])
        await grid.uploads.record(execution_id, grant.filename, stored)
        return Reply(200, stored, headers=(("etag", f'"{stored.sha256}"'),))


def _differs(declared: DeclaredInput | InputFileSpec, there: StoredObject) -> str | None:
    if declared.size_bytes is not None and declared.size_bytes != there.size_bytes:
        return f"{there.size_bytes} bytes were uploaded, {declared.size_bytes} were declared."
    if declared.sha256 is not None and declared.sha256 != there.sha256:
        return "The SHA-256 of what was uploaded is not the declared one."
    return None


def operations(grid: Grid) -> list[Operation]:
    controllers = Inputs(grid)
    path = "/api/v1/executions/{execution_id}/inputs"
    return [
        Operation(
            method="GET", path=path, auth="run", handler=controllers.listed, ok={200: Page[InputFile]},
            flags=frozenset({"page"}), tags=("executions",), summary="List the inputs, with fresh upload addresses.",
        ),
        Operation(
            method="POST", path=f"{path}/complete", auth="run", handler=controllers.complete,
            ok={200: ActionResponse}, body=InputsComplete, body_optional=True, flags=frozenset({"idem", "mutates"}),
            tags=("executions",), summary="Say that every input is uploaded; queues the execution when that is so.",
        ),
        Operation(
            method="PUT", path="/uploads/{execution_id}", auth="open", handler=controllers.upload,
            query=SignedQuery,
            ok={200: StoredObject}, body=Streamed, body_max_bytes=UPLOAD_BYTES_MAX, errors=(403, 404, 409, 410, 503),
            tags=("executions",), summary="Upload one input under the address that was signed for it.", hidden=True,
        ),
    ]  # fmt: skip
