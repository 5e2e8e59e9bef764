"""Execution templates: what a workflow step or a schedule says about the execution that it starts, and how it becomes
one. There is nobody to upload anything, so every input is in the grid already."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, inspect

from projections import execution_detail
from rgrid.api.execution_requests import (
    ExecutionCreate,
    ExecutionTemplate,
    InputFileSpec,
    check_names,
    declared,
    wrong_files,
    wrong_in,
)
from rgrid.api.grid import Grid
from rgrid.api.requirements import requirements_of
from rgrid.api.resource import kept_until
from rgrid.api.submission import as_input, command_for
from rgrid.eventstore.handle import NewStream
from rgrid.executions.events import Origin, StoredFile
from rgrid.executions.execution import DECIDER
from rgrid.kernel.clock import now
from rgrid.kernel.errors import Gone, Invalid, Malformed, NotFound
from rgrid.web.faults import UNKNOWN, bad_strings, faults

Wrong = tuple[str, str]
"""(field, message)."""
EXPRESSION: Final = "${"
_INDEX: Final = re.compile(r"\[([0-9]+)\]\.?")


class ArtifactRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that an execution made."""

    execution_id: Annotated[str, Meta(min_length=1, max_length=64)]
    filename: Annotated[str, Meta(min_length=1, max_length=255)]


class GridTemplate(ExecutionTemplate, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A script and how to run it, its inputs by reference: `cached_input_refs` as in a submission, and `inputs` that
    earlier executions made. `input_files` may name them once more."""

    input_files: Annotated[list[str | InputFileSpec], Meta(max_length=1000)] = []
    cached_input_refs: dict[str, str] = {}
    inputs: Annotated[dict[str, ArtifactRef], Meta(max_length=1000)] = {}


_INFO: Final = inspect.type_info(GridTemplate)


def check_template(template: Mapping[str, Any], *, expressions: bool = False) -> list[Wrong]:
    """Everything that can be said against a template without looking at the grid. With `expressions` a value that is
    still to be evaluated is right for now."""
    found = [*faults(template, _INFO), *bad_strings(template)]
    open_fields = {path for path, why in found if expressions and why != UNKNOWN and _is_open(_at(template, path))}
    found = [(path, why) for path, why in found if path not in open_fields]
    if found:
        return found
    known = {name: value for name, value in template.items() if not any(_within(path, name) for path in open_fields)}
    try:
        return _wrong_names(msgspec.convert({"script_content": EXPRESSION, **known}, GridTemplate), expressions)
    except msgspec.ValidationError as refused:
        return [("params", str(refused))]


async def check_on_grid(grid: Grid, template: Mapping[str, Any], *, expressions: bool = False) -> list[Wrong]:
    """`check_template`, then what depends on the grid: the runtime, the packages, the references of secrets."""
    if wrong := check_template(template, expressions=expressions):
        return wrong
    try:
        runtime = template.get("runtime", "python:3.11")
        if not _is_open(runtime):
            runtime = await grid.runtimes.resolve(runtime)
            script, requirements = template["script_content"], template.get("requirements_content")
            if not (expressions and (_is_open(script) or _is_open(requirements))):
                requirements_of(runtime, script, requirements)
        secrets = template.get("secret_env", {})
        for reference in secrets.values() if isinstance(secrets, dict) else ():
            if not (expressions and _is_open(reference)):
                grid.secrets.check(reference)
    except (Malformed, Invalid) as refused:
        return refused.fields or [("params", refused.detail)]
    return []


async def execution_from(
    grid: Grid,
    template: Mapping[str, Any],
    execution_id: str,
    origin: Origin,
    *,
    name: str | None,
    created_by: str,
) -> NewStream:
    """The execution that a template describes, to be begun along with what starts it; `name`, when given, is its name.
    Raises Malformed, Invalid, NotFound, Gone and SpendingLimit as a submission does."""
    if wrong := check_template(template):
        raise Malformed("The template of the execution can't be used.", wrong)
    wanted = msgspec.convert(template, GridTemplate)
    made = await _artifacts(grid, wanted.inputs)
    fields = {field: getattr(wanted, field) for field in ExecutionTemplate.__struct_fields__}
    body = ExecutionCreate(
        **{**fields, "name": name or wanted.name},
        input_files=[spec for spec in _specs(wanted) if spec.name in wanted.cached_input_refs],
        cached_input_refs=wanted.cached_input_refs or None,
    )
    command = await command_for(grid, execution_id, body, created_by)
    specs = [InputFileSpec(name=file.name, size_bytes=file.size_bytes, sha256=file.sha256) for file in made]
    command = msgspec.structs.replace(
        command,
        inputs=[*command.inputs, *map(as_input, specs)],
        verified=[*command.verified, *made],
        origin=origin,
    )
    return NewStream(DECIDER, execution_id, command)


async def _artifacts(grid: Grid, references: Mapping[str, ArtifactRef]) -> list[StoredFile]:
    """The files that earlier executions made, under the names that the new one gets them by."""
    if not references:
        return []
    wanted = sorted({reference.execution_id for reference in references.values()})
    details = await execution_detail.get_many(grid.store, wanted)
    files: list[StoredFile] = []
    for name, reference in references.items():
        detail = details.get(reference.execution_id)
        made = {} if detail is None else {artifact.filename: artifact for artifact in detail.artifacts}
        artifact = made.get(reference.filename)
        if detail is None or artifact is None:
            raise NotFound(f"Artifact not found: {reference.filename} of {reference.execution_id} (inputs.{name})")
        until = kept_until(grid, detail)
        over = detail.objects_expired_at is not None or (until is not None and until <= now())
        if over or not await grid.objects.touch(artifact.sha256):
            raise Gone(f"{reference.filename} of {reference.execution_id} is no longer kept.", code="inputs_expired")
        files.append(StoredFile(name=name, size_bytes=artifact.size_bytes, sha256=artifact.sha256))
    return files


def _wrong_names(template: GridTemplate, expressions: bool) -> list[Wrong]:
    wrong = wrong_in(template) + wrong_files(template.input_files)
    try:
        check_names(template)
        declared(template.input_files)
        declared(name for name in _names(template) if not (expressions and _is_open(name)))
    except Invalid as refused:
        wrong += refused.fields
    named = set(_names(template))
    wrong += [
        (f"input_files[{index}]", "Name it in cached_input_refs or inputs: nobody uploads it.")
        for index, file in enumerate(template.input_files)
        if (file if isinstance(file, str) else file.name) not in named
    ]
    twice = template.cached_input_refs.keys() & template.inputs.keys()
    return wrong + [(f"inputs.{name}", "Also in cached_input_refs.") for name in sorted(twice)]


def _specs(template: GridTemplate) -> list[InputFileSpec]:
    said = {spec.name: spec for spec in declared(template.input_files)}
    return [said.get(name) or InputFileSpec(name=name) for name in _names(template)]


def _names(template: GridTemplate) -> list[str]:
    return list({**template.cached_input_refs, **template.inputs})


def _is_open(value: object) -> bool:
    """Whether a value, or something within it, is still to be evaluated."""
    match value:
        case str():
            return EXPRESSION in value
        case dict():
            return any(_is_open(key) or _is_open(inner) for key, inner in value.items())
        case list():
            return any(map(_is_open, value))
    return False


def _at(value: Any, path: str) -> Any:
    """What lies at the path of a fault; names may hold dots."""
    if not path:
        return value
    if isinstance(value, Mapping):
        for name in sorted(value, key=len, reverse=True):
            if _within(path, name):
                return _at(value[name], path[len(name) :].removeprefix("."))
    elif isinstance(value, list) and (match := _INDEX.match(path)) and int(match[1]) < len(value):
        return _at(value[int(match[1])], path[match.end() :])
    return None


def _within(path: str, name: str) -> bool:
    return path == name or path.startswith((f"{name}.", f"{name}["))
