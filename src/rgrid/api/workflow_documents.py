"""What a client may write about a workflow, and the canonical form that is kept of it."""

import enum
from typing import Annotated, Any, Final, Self

import msgspec
from msgspec import Meta

from rgrid.adapters.yaml_source import BadSource, Source, read
from rgrid.kernel.errors import Invalid, TooLarge
from rgrid.kernel.names import NAME_HELP, RESERVED, is_name
from rgrid.workflows.document import (
    ALIASES,
    Document,
    ErrorCategory,
    OnError,
    OnFailure,
    Parameter,
    ParameterType,
    Policy,
    QualityGate,
    RetryPolicy,
    RunMode,
    Step,
)

DOCUMENT_MAX_BYTES: Final = 16 * 1024 * 1024
_RESERVED: Final = RESERVED | {"trigger"}


class StepTypeWritten(enum.Enum):
    """What a step does. In any case; PIPELINE, OPERATION and LAMBDA mean HANDLER."""

    EXECUTION = "EXECUTION"
    SOURCE = "SOURCE"
    WORKFLOW = "WORKFLOW"
    HANDLER = "HANDLER"
    ALERT = "ALERT"
    CHOICE = "CHOICE"
    WAIT = "WAIT"
    MAP = "MAP"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        text = value.upper() if isinstance(value, str) else ""
        return cls.__members__.get(ALIASES.get(text, text))


StepName = Annotated[str, Meta(min_length=1, max_length=100)]
Expression = Annotated[str, Meta(min_length=1, max_length=2000)]


class ParameterInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A parameter of the workflow. Without `required` a missing one has its `default`."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    type: ParameterType = "string"
    required: bool = False
    default: Any = None
    description: Annotated[str, Meta(max_length=500)] | None = None


class RetryInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tries in all, and the waits between them: initial × multiplier^(n−1), at most max_seconds, ± jitter of it."""

    max_attempts: Annotated[int, Meta(ge=1, le=20)] = 3
    initial_seconds: Annotated[float, Meta(ge=0, le=3600)] = 1
    multiplier: Annotated[float, Meta(ge=1, le=10)] = 2
    max_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 60
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.25
    retry_on: Annotated[tuple[ErrorCategory, ...], Meta(max_length=50)] = ("TRANSIENT", "TIMEOUT")


class QualityInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a step's output must satisfy; a `hard` gate fails the step, another one warns."""

    min_records: Annotated[int, Meta(ge=0)] | None = None
    max_records: Annotated[int, Meta(ge=0)] | None = None
    min_valid_rate: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_null_rate: Annotated[float, Meta(ge=0, le=1)] | None = None
    hard: bool = True


class StepInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step. `target_name` is the source of a SOURCE, the workflow of a WORKFLOW or MAP, the handler of a HANDLER."""

    name: StepName
    type: StepTypeWritten
    description: Annotated[str, Meta(max_length=500)] | None = None
    depends_on: Annotated[list[str], Meta(max_length=200, description="Steps that come before it.")] | None = None
    params: Annotated[dict[str, Any], Meta(description="Values may hold ${expressions}; $${ stands for ${.")] = {}
    target_name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    condition: Annotated[Expression, Meta(description="CHOICE: an expression that is true or false.")] | None = None
    then_step: Annotated[StepName, Meta(description="CHOICE: what runs when it is true.")] | None = None
    else_step: Annotated[StepName, Meta(description="CHOICE: what runs when it is false.")] | None = None
    duration_seconds: Annotated[int, Meta(ge=0, le=31_536_000, description="WAIT: for so long.")] | None = None
    until: Annotated[Expression, Meta(description="WAIT: an expression that gives a time.")] | None = None
    signal: Annotated[StepName, Meta(description="WAIT: until this signal comes, an approval say.")] | None = None
    items: Annotated[Expression, Meta(description="MAP: an expression that gives an array.")] | None = None
    item_name: StepName = "item"
    max_concurrency: Annotated[int, Meta(ge=1, le=100, description="MAP: child runs at a time.")] = 4
    on_error: OnError = "STOP"
    retry: RetryInput | None = None
    timeout_seconds: Annotated[int, Meta(ge=1, le=604_800)] | None = None
    quality: QualityInput | None = None
    cache_seconds: (
        Annotated[int, Meta(ge=1, le=31_536_000, description="Equal inputs have the same output for so long.")] | None
    ) = None


class PolicyInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a run as a whole goes."""

    mode: RunMode = "SEQUENTIAL"
    max_concurrency: Annotated[int, Meta(ge=1, le=100)] = 4
    on_failure: OnFailure = "STOP"
    timeout_seconds: Annotated[int, Meta(ge=1, le=2_592_000)] | None = None


class WorkflowDefinitionInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A workflow: what it takes and its steps."""

    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    domain: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    description: Annotated[str, Meta(max_length=2000)] | None = None
    tags: Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=50)] = []
    parameters: Annotated[list[ParameterInput], Meta(max_length=100)] = []
    defaults: dict[str, Any] = {}
    steps: Annotated[list[StepInput], Meta(min_length=1, max_length=200)]
    policy: PolicyInput | None = None
    is_active: bool = True


def read_yaml(raw: bytes) -> Source:
    """A body in YAML. Raises Invalid `malformed_yaml` with the line."""
    try:
        return read(raw)
    except BadSource as bad:
        where = "" if bad.line is None else f" (line {bad.line})"
        fields = [("body", bad.message if bad.line is None else f"Line {bad.line}: {bad.message}")]
        raise Invalid(f"{bad.message.rstrip('.')}{where}.", code="malformed_yaml", fields=fields) from None


def name_fault(name: str) -> tuple[str, str] | None:
    """(code, message) for what can't be the name of a workflow."""
    if not is_name(name):
        return "invalid_name", NAME_HELP
    if name in _RESERVED:
        return "reserved_name", f"{name} is a word of the interface."
    return None


def document_of(name: str, body: WorkflowDefinitionInput) -> Document:
    """The canonical form, under this name."""
    return Document(
        name=name,
        domain=body.domain,
        description=body.description,
        tags=body.tags,
        parameters=[Parameter(**_fields(one)) for one in body.parameters],
        defaults=body.defaults,
        steps=[_step(one) for one in body.steps],
        policy=Policy() if body.policy is None else Policy(**_fields(body.policy)),
    )


def encoded(document: Document) -> bytes:
    """The bytes that are kept: equal for equal documents. Raises TooLarge."""
    data = msgspec.json.encode(document, order="deterministic")
    if len(data) > DOCUMENT_MAX_BYTES:
        raise TooLarge(f"The definition takes more than {DOCUMENT_MAX_BYTES >> 20} MiB.")
    return data


def decoded(data: bytes) -> Document:
    return msgspec.json.decode(data, type=Document)


def _step(written: StepInput) -> Step:
    fields = _fields(written)
    fields["type"] = written.type.value
    if written.retry is not None:
        fields["retry"] = RetryPolicy(**_fields(written.retry))
    fields["quality"] = None if written.quality is None else QualityGate(**_fields(written.quality))
    return Step(**fields)


def _fields(written: msgspec.Struct) -> dict[str, Any]:
    """What isn't a default: the canonical form leaves defaults out, and tells them by being the same object."""
    fields = ((field.name, field.default, getattr(written, field.name)) for field in msgspec.structs.fields(written))
    return {name: value for name, default, value in fields if value != default}
