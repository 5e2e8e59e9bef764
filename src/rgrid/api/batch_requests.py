"""What a client may send about batches, and the checks that a schema can't say."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from projections.batches import State
from rgrid.api.execution_requests import (
    ExecutionCreate,
    ExecutionStatus,
    ExecutionTemplate,
    InputFileSpec,
    declared,
    wrong_files,
    wrong_in,
)
from rgrid.kernel.errors import Invalid, Malformed

ERRORS_MAX: Final = 100
_ENV_MAX: Final = 200
_METADATA_MAX: Final = 50


class BatchItem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one execution has of its own: variables and labels extend the shared ones, the rest replaces it."""

    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    args: Annotated[list[str], Meta(max_length=1000)] | None = None
    env_vars: Annotated[dict[str, str], Meta(max_length=_ENV_MAX)] | None = None
    input_files: Annotated[list[str | InputFileSpec], Meta(max_length=1000)] = []
    cached_input_refs: dict[str, str] | None = None
    user_metadata: Annotated[dict[str, str], Meta(max_length=_METADATA_MAX)] | None = None


class BatchCreate(ExecutionTemplate, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One script over many items, all of which are made or none."""

    items: Annotated[list[BatchItem], Meta(min_length=1, max_length=10_000)]
    max_parallel: Annotated[int, Meta(ge=1, le=1000)] | None = None
    fail_fast: bool = False
    failures_max: (
        Annotated[
            int, Meta(ge=1, le=1000, description="With so many failures the rest is cancelled; 1 with fail_fast.")
        ]
        | None
    ) = None


class BatchFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Narrows the list of batches."""

    status: State | None = None
    since: datetime | None = None
    until: datetime | None = None


class BatchExecutionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Narrows the list of a batch's executions."""

    status: ExecutionStatus | None = None
    include_superseded: bool = False


class BatchRetryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which ones run once more."""

    failed_only: bool = True


def template_of(body: BatchCreate) -> ExecutionCreate:
    """What all executions share."""
    return ExecutionCreate(**{name: getattr(body, name) for name in ExecutionTemplate.__struct_fields__})


def check_batch_shape(body: BatchCreate) -> None:
    """Raises Malformed with the fields that are wrong, as many as ERRORS_MAX."""
    wrong = wrong_in(body)
    for index, item in enumerate(body.items):
        if len(wrong) >= ERRORS_MAX:
            break
        wrong += [(f"items[{index}].{field}", message) for field, message in _wrong_item(body, item)]
    if wrong:
        raise Malformed("Some fields are wrong.", wrong[:ERRORS_MAX])


def _wrong_item(body: BatchCreate, item: BatchItem) -> list[tuple[str, str]]:
    wrong = wrong_files(item.input_files) if item.input_files else []
    if item.env_vars or item.user_metadata:
        own = ExecutionTemplate(
            script_content=body.script_content, env_vars=item.env_vars or {}, user_metadata=item.user_metadata
        )
        wrong += wrong_in(own)
        if len(merged(body.env_vars, item.env_vars) or ()) > _ENV_MAX:
            wrong.append(("env_vars", f"With the shared ones, these are more than {_ENV_MAX}."))
        if len(merged(body.user_metadata, item.user_metadata) or ()) > _METADATA_MAX:
            wrong.append(("user_metadata", f"With the shared ones, these are more than {_METADATA_MAX}."))
    return wrong


def check_batch_names(body: BatchCreate) -> None:
    """Raises Invalid for a variable that is named twice, and for file names that can't be used."""
    for where, names in [("", body.env_vars), *((f"items[{n}].", item.env_vars) for n, item in enumerate(body.items))]:
        if names and (twice := sorted(names.keys() & body.secret_env.keys())):
            raise Invalid(
                f"{', '.join(twice)}: named in env_vars and in secret_env.",
                code="duplicate_variable",
                fields=[(f"{where}env_vars.{name}", "Also in secret_env.") for name in twice],
            )
    for index, item in enumerate(body.items):
        if item.input_files:
            try:
                declared(item.input_files)
            except Invalid as wrong:
                fields = [(f"items[{index}].{field}", message) for field, message in wrong.fields]
                raise Invalid(wrong.detail, code=wrong.code, fields=fields) from None


def merged(shared: Mapping[str, str] | None, own: Mapping[str, str] | None) -> dict[str, str] | None:
    """The shared entries, extended or overridden by an item's own; None when there are neither."""
    if shared is None and own is None:
        return None
    return {**(shared or {}), **(own or {})}
