"""Workflow definitions over HTTP: list, look at, define, delete, validate."""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from projections import schedules, workflows
from rgrid.api import lists, workflow_graph, workflow_views
from rgrid.api.grid import Grid
from rgrid.api.workflow_checks import issues_of
from rgrid.api.workflow_defining import define
from rgrid.api.workflow_documents import (
    DOCUMENT_MAX_BYTES,
    WorkflowDefinitionInput,
    decoded,
    document_of,
    name_fault,
    read_yaml,
)
from rgrid.api.workflow_views import (
    DefinitionPutResponse,
    ValidationResult,
    WorkflowDefinition,
    WorkflowDefinitionSummary,
)
from rgrid.kernel.errors import Rejected, StaleVersion
from rgrid.web.conditional import ANY_VERSION
from rgrid.web.operation import ActionResponse, Call, NoQuery, Operation, Reply, missing
from rgrid.web.pages import Page
from rgrid.workflows.commands import DeleteWorkflow
from rgrid.workflows.definition import DECIDER, Workflow
from rgrid.workflows.document import outline
from rgrid.workflows.issues import Issue

_PATH: Final = "/api/v1/workflows/definitions"
_TAGS: Final = ("workflows",)


class DefinitionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Narrows the list of definitions."""

    domain: str | None = None
    tag: str | None = None
    is_active: bool | None = None


class DefinitionQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which version; the newest without it."""

    version: Annotated[int, Meta(ge=1)] | None = None


class Definitions:
    """The controllers. Each sends one command or runs one query."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    async def listed(self, call: Call[DefinitionFilter, None]) -> Reply:
        name, wanted = workflows.KEYS["workflow_name"], call.query
        by_name = call.page.sort == "name"
        keys = (name,) if by_name else (workflows.KEYS[call.page.sort], name)
        await self._grid.caught_up()
        rows = await workflows.page(
            self._grid.pool, wanted.domain, wanted.tag, wanted.is_active, lists.window(call.page, keys)
        )
        return Reply(200, lists.page(rows, call.page, keys, workflow_views.summary))

    async def one(self, call: Call[DefinitionQuery, None]) -> Reply:
        name, version = call.path["workflow_name"], call.query.version
        workflow, changes = await self._find(name, even_deleted=version is not None)
        wanted = workflow.version if version is None else version
        if wanted not in workflow.versions:
            raise missing("Version", f"{wanted} of workflow {name}")
        spec = workflow.versions[wanted]
        document = decoded(await self._grid.objects.read_bytes(spec.document_sha256, DOCUMENT_MAX_BYTES))
        first = workflow.versions[workflow.first_version]
        await self._grid.caught_up()
        last = await workflows.last_run(self._grid.pool, name)
        body = workflow_views.definition(
            document,
            version=wanted,
            is_active=workflow.is_active and workflow.exists,
            created_at=first.defined_at,
            created_by=first.defined_by,
            updated_at=workflow.changed_at if version is None else spec.defined_at,
            last_run_at=None if last is None else last[0],
            last_run_status=None if last is None else last[1],
        )
        return Reply(200, body, etag=changes)

    async def put(self, call: Call[NoQuery, WorkflowDefinitionInput]) -> Reply:
        name = call.path["workflow_name"]
        if call.if_match is not None:
            workflow, _ = await self._grid.handler.load(DECIDER, name)
            if not workflow.exists:
                raise StaleVersion(f"There is no workflow {name}, so it has no version.")
        defined = await define(
            self._grid,
            name,
            call.body,
            call.cause(),
            by=call.actor.actor,
            written=call.written,
            expected_version=None if call.if_match == ANY_VERSION else call.if_match,
            create_only=call.create_only,
        )
        body = DefinitionPutResponse(
            id=name,
            status=defined.status,
            message=f"Workflow {name} is at version {defined.version}.",
            name=name,
            version=defined.version,
            warnings=workflow_views.issues(defined.warnings, call.written),
        )
        is_new = defined.status == "created"
        return Reply(
            201 if is_new else 200,
            body,
            etag=defined.changes,
            position=defined.position,
            location=f"{_PATH}/{name}" if is_new else None,
        )

    async def delete(self, call: Call[NoQuery, None]) -> Reply:
        name, grid = call.path["workflow_name"], self._grid
        await self._find(name)
        await grid.caught_up()
        by_schedules = await schedules.users_of(grid.pool, "WORKFLOW", name)
        users = [f"workflow {one}" for one in await workflows.users_of(grid.pool, name)]
        users += [f"schedule {one}" for one in by_schedules]
        if users:
            shown = ", ".join(users[:5]) + (", …" if len(users) > 5 else "")
            raise Rejected(f"Workflow {name} is used by {shown}.", code="in_use", extra={"used_by": users})
        expected = None if call.if_match == ANY_VERSION else call.if_match
        handled = await grid.handler.handle(
            DECIDER, name, DeleteWorkflow(deleted_by=call.actor.actor), call.cause(), expected_version=expected
        )
        message = "It can't be triggered any more; its runs and versions stay."
        return Reply(200, ActionResponse(id=name, status="deleted", message=message), position=handled.position)

    async def validate(self, call: Call[NoQuery, WorkflowDefinitionInput]) -> Reply:
        name = call.body.name or ""
        document = document_of(name, call.body)
        errors, warnings = await issues_of(self._grid, document)
        if name and (fault := name_fault(name)) is not None:
            errors.insert(0, Issue(*fault, None, "name"))
        graph = workflow_graph.of_definition(name, None, [outline(step) for step in document.steps], document.policy)
        body = ValidationResult(
            valid=not errors,
            errors=workflow_views.issues(errors, call.written),
            warnings=workflow_views.issues(warnings, call.written),
            graph=graph,
        )
        return Reply(200, body)

    async def _find(self, name: str, *, even_deleted: bool = False) -> tuple[Workflow, int]:
        """Raises NotFound."""
        workflow, changes = await self._grid.handler.load(DECIDER, name)
        if not (workflow.exists or (even_deleted and workflow.versions)):
            raise missing("Workflow", name)
        return workflow, changes


def operations(grid: Grid) -> list[Operation]:
    controllers = Definitions(grid)

    def operation(method: Any, sub: str, auth: Any, handler: Any, ok: Any, *flags: Any, **more: Any) -> Operation:
        return Operation(
            method=method,
            path=_PATH + sub,
            auth=auth,
            handler=handler,
            ok=ok,
            flags=frozenset(flags),
            tags=_TAGS,
            **more,
        )

    written = {"body": WorkflowDefinitionInput, "body_formats": {"application/yaml": read_yaml}}
    return [
        operation(
            "GET", "", "read", controllers.listed, {200: Page[WorkflowDefinitionSummary]}, "page",
            query=DefinitionFilter, sort=("name", "updated_at", "created_at"), order_default="asc",
            summary="List the workflows that are defined.",
        ),
        operation(
            "GET", "/{workflow_name}", "read", controllers.one, {200: WorkflowDefinition}, "etag",
            query=DefinitionQuery, summary="Look at a version of a workflow, the newest one unless it is named.",
        ),
        operation(
            "PUT", "/{workflow_name}", "run", controllers.put, {200: DefinitionPutResponse, 201: DefinitionPutResponse},
            "if_match", "mutates", **written, errors=(409,), never=(404,),
            summary="Define a workflow: the first version, or the next one if anything differs.",
        ),
        operation(
            "DELETE", "/{workflow_name}", "run", controllers.delete, {200: ActionResponse}, "if_match", "mutates",
            errors=(409,), summary="Take a workflow out of lists and triggers; runs and versions stay.",
        ),
        operation(
            "POST", "/validate", "read", controllers.validate, {200: ValidationResult}, **written,
            summary="Say everything that is wrong with a definition, and draw it.",
        ),
    ]  # fmt: skip
