"""Makes a version of a workflow of what was written: check, store the document, decide."""

from typing import Literal

import msgspec

from rgrid.api.grid import Grid
from rgrid.api.workflow_checks import issues_of, targets_of
from rgrid.api.workflow_documents import WorkflowDefinitionInput, document_of, encoded, name_fault
from rgrid.api.workflow_views import issues
from rgrid.kernel.errors import Invalid
from rgrid.kernel.messages import Cause
from rgrid.web.decoding import Written
from rgrid.workflows.commands import DefineWorkflow
from rgrid.workflows.definition import DECIDER
from rgrid.workflows.document import outline
from rgrid.workflows.issues import Issue


class Defined(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `changes` is the version of the stream, `position` 0 when nothing was written."""

    status: Literal["created", "updated", "unchanged"]
    version: int
    changes: int
    position: int
    warnings: list[Issue]


async def define(
    grid: Grid,
    name: str,
    body: WorkflowDefinitionInput,
    cause: Cause,
    *,
    by: str,
    written: Written | None = None,
    expected_version: int | None = None,
    create_only: bool = False,
) -> Defined:
    """Make this the newest version under the name, unless it is so already. Raises Invalid (`invalid_definition` with
    every rule that is broken, `reserved_name` …), StaleVersion."""
    _check_name(name, body.name)
    document = document_of(name, body)
    errors, warnings = await issues_of(grid, document)
    if errors:
        raise _invalid(name, errors, warnings, written)
    data = encoded(document)
    before, _ = await grid.handler.load(DECIDER, name)
    command = DefineWorkflow(
        document_sha256=await grid.objects.put_bytes(data),
        document_size_bytes=len(data),
        domain=document.domain,
        description=document.description,
        tags=document.tags,
        parameters=document.parameters,
        defaults=document.defaults,
        outlines=[outline(step) for step in document.steps],
        policy=document.policy,
        targets=targets_of(document),
        is_active=body.is_active,
        create_only=create_only,
        defined_by=by,
    )
    handled = await grid.handler.handle(DECIDER, name, command, cause, expected_version=expected_version)
    is_new = bool(handled.events) and not before.exists
    return Defined(
        status="created" if is_new else "updated" if handled.events else "unchanged",
        version=handled.state.version,
        changes=handled.version,
        position=handled.position,
        warnings=warnings,
    )


def _check_name(name: str, inside: str | None) -> None:
    if (fault := name_fault(name)) is not None:
        raise Invalid(fault[1], code=fault[0], fields=[("name", fault[1])])
    if inside is not None and inside != name:
        told = f"The definition calls itself {inside}, not {name}."
        raise Invalid(told, code="name_mismatch", fields=[("name", told)])


def _invalid(name: str, errors: list[Issue], warnings: list[Issue], written: Written | None) -> Invalid:
    shown = issues(errors, written)
    fields = [
        (one.field or "body", one.message if one.line is None else f"Line {one.line}: {one.message}") for one in shown
    ]
    first = fields[0][1]
    more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
    return Invalid(
        f"The definition of {name} can't be used. {first}{more}",
        code="invalid_definition",
        fields=fields,
        extra={"issues": msgspec.to_builtins(shown), "warnings": msgspec.to_builtins(issues(warnings, written))},
    )
