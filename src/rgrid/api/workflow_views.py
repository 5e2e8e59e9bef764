"""What is answered about workflow definitions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from rgrid.api.workflow_graph import WorkflowGraph
from rgrid.web.decoding import Written
from rgrid.web.operation import ActionResponse
from rgrid.workflows.document import (
    Document,
    ErrorCategory,
    OnError,
    OnFailure,
    Parameter,
    ParameterType,
    RunMode,
    Step,
    StepType,
)
from rgrid.workflows.issues import Issue

RunStatus = Literal["PENDING", "RUNNING", "COMPLETED", "PARTIAL", "FAILED", "CANCELLING", "CANCELLED"]


class WorkflowParameter(msgspec.Struct, kw_only=True):
    """A parameter of a workflow."""

    name: str
    type: ParameterType
    required: bool
    default: Any
    description: str | None


class RetryPolicyShown(msgspec.Struct, kw_only=True):
    """How often a step is tried, and when."""

    max_attempts: int
    initial_seconds: float
    multiplier: float
    max_seconds: float
    jitter: float
    retry_on: Sequence[ErrorCategory]


class QualityGateShown(msgspec.Struct, kw_only=True):
    """What a step's output must satisfy."""

    min_records: int | None
    max_records: int | None
    min_valid_rate: float | None
    max_null_rate: float | None
    hard: bool


class WorkflowStep(msgspec.Struct, kw_only=True):
    """A step of a definition."""

    name: str
    type: StepType
    description: str | None
    depends_on: list[str] | None
    params: dict[str, Any]
    target_name: str | None
    condition: str | None
    then_step: str | None
    else_step: str | None
    duration_seconds: int | None
    until: str | None
    signal: str | None
    items: str | None
    item_name: str
    max_concurrency: int
    on_error: OnError
    retry: RetryPolicyShown | None
    timeout_seconds: int | None
    quality: QualityGateShown | None
    cache_seconds: int | None


class WorkflowPolicy(msgspec.Struct, kw_only=True):
    """How a run as a whole goes."""

    mode: RunMode
    max_concurrency: int
    on_failure: OnFailure
    timeout_seconds: int | None


class WorkflowDefinitionSummary(msgspec.Struct, kw_only=True):
    """A workflow without its steps; the last run is of any version."""

    name: str
    domain: str | None
    description: str | None
    version: int
    step_count: int
    is_active: bool
    tags: list[str]
    parameters: list[WorkflowParameter]
    created_at: datetime
    updated_at: datetime
    created_by: str | None
    last_run_at: datetime | None
    last_run_status: RunStatus | None


class WorkflowDefinition(WorkflowDefinitionSummary, kw_only=True):
    """One version of a workflow, whole."""

    defaults: dict[str, Any]
    steps: list[WorkflowStep]
    policy: WorkflowPolicy


class ValidationIssue(msgspec.Struct, kw_only=True):
    """Something wrong, or doubtful, in a definition. `code` is the rule, `field` the path in the document, `line` where
    that stands in a body that isn't JSON."""

    code: str
    message: str
    step: str | None
    field: str | None
    line: int | None


class ValidationResult(msgspec.Struct, kw_only=True):
    """What may be said against a definition, and how its steps hang together."""

    valid: bool
    errors: list[ValidationIssue]
    warnings: list[ValidationIssue]
    graph: WorkflowGraph | None


class DefinitionPutResponse(ActionResponse, kw_only=True):
    """Which version the definition is now; `status` is created, updated or unchanged."""

    name: str
    version: int
    warnings: list[ValidationIssue]


def summary(row: Mapping[str, Any]) -> WorkflowDefinitionSummary:
    """From a row of the list."""
    return WorkflowDefinitionSummary(
        name=row["workflow_name"],
        domain=row["domain"],
        description=row["description"],
        version=row["version"],
        step_count=row["step_count"],
        is_active=row["is_active"],
        tags=row["tags"],
        parameters=_parameters(msgspec.json.decode(row["parameters"], type=list[Parameter])),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        created_by=row["created_by"],
        last_run_at=row["last_run_at"],
        last_run_status=row["last_run_status"],
    )


def definition(document: Document, **of_the_name: Any) -> WorkflowDefinition:
    """One version. `of_the_name` is what its document doesn't say."""
    policy = document.policy
    return WorkflowDefinition(
        name=document.name,
        domain=document.domain,
        description=document.description,
        step_count=len(document.steps),
        tags=document.tags,
        parameters=_parameters(document.parameters),
        defaults=document.defaults,
        steps=[_step(step) for step in document.steps],
        policy=WorkflowPolicy(**{name: getattr(policy, name) for name in WorkflowPolicy.__struct_fields__}),
        **of_the_name,
    )


def issues(found: Sequence[Issue], written: Written | None) -> list[ValidationIssue]:
    """With their lines, where the definition was written in lines."""
    return [
        ValidationIssue(
            code=one.code,
            message=one.message,
            step=one.step,
            field=one.field,
            line=None if written is None else written.line(one.field or ""),
        )
        for one in found
    ]


def _parameters(parameters: Sequence[Parameter]) -> list[WorkflowParameter]:
    names = WorkflowParameter.__struct_fields__
    return [WorkflowParameter(**{name: getattr(one, name) for name in names}) for one in parameters]


def _step(step: Step) -> WorkflowStep:
    fields = {name: getattr(step, name) for name in WorkflowStep.__struct_fields__}
    for name, kind in (("retry", RetryPolicyShown), ("quality", QualityGateShown)):
        if (value := fields[name]) is not None:
            fields[name] = kind(**{one: getattr(value, one) for one in kind.__struct_fields__})
    return WorkflowStep(**fields)
