"""The form of a workflow definition: what users write, what versions keep. Public, as events and commands are.

The names are those of the interface, units in words included, because people write and read these documents.
"""

from typing import Any, Final, Literal

import msgspec

StepType = Literal["EXECUTION", "SOURCE", "WORKFLOW", "HANDLER", "ALERT", "CHOICE", "WAIT", "MAP"]
RunMode = Literal["SEQUENTIAL", "PARALLEL"]
OnError = Literal["STOP", "CONTINUE", "RETRY"]
OnFailure = Literal["STOP", "CONTINUE"]
ParameterType = Literal["string", "integer", "number", "boolean", "date", "datetime", "object", "array"]
ErrorCategory = Literal[
    "INTERNAL",
    "RESOURCE",
    "CONFIGURATION",
    "SOURCE",
    "TRANSFORM",
    "LOAD",
    "DEPENDENCY",
    "PERMISSION",
    "AUTH",
    "NOT_FOUND",
    "NETWORK",
    "DATABASE",
    "STORAGE",
    "PARSE",
    "VALIDATION",
    "DATA_QUALITY",
    "TRANSIENT",
    "TIMEOUT",
    "RATE_LIMIT",
    "CANCELLED",
    "UNKNOWN",
]
EdgeKind = Literal["SEQUENCE", "DEPENDS_ON", "THEN", "ELSE", "MAP"]
ALIASES: Final = {"PIPELINE": "HANDLER", "OPERATION": "HANDLER", "LAMBDA": "HANDLER"}


class Parameter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A parameter of a workflow. Without `required` a missing one has its `default`."""

    name: str
    type: ParameterType = "string"
    required: bool = False
    default: Any = None
    description: str | None = None


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tries of a step in all, and the waits between them: initial × multiplier^(n−1), at most `max_seconds`,
    ± `jitter` of it."""

    max_attempts: int = 3
    initial_seconds: float = 1
    multiplier: float = 2
    max_seconds: float = 60
    jitter: float = 0.25
    retry_on: tuple[ErrorCategory, ...] = ("TRANSIENT", "TIMEOUT")


class QualityGate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a step's output must satisfy; a `hard` one fails the step, another one warns."""

    min_records: int | None = None
    max_records: int | None = None
    min_valid_rate: float | None = None
    max_null_rate: float | None = None
    hard: bool = True


class Outline(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What decides about a step: everything but its parameters, which may be as long as a script. A run carries the
    outlines of its version, so that its decisions need nothing else. `signal` names what a WAIT waits for;
    `cache_seconds` is how long an output may be used again for equal inputs."""

    name: str
    type: StepType
    depends_on: list[str] | None = None
    target_name: str | None = None
    condition: str | None = None
    then_step: str | None = None
    else_step: str | None = None
    duration_seconds: int | None = None
    until: str | None = None
    signal: str | None = None
    items: str | None = None
    item_name: str = "item"
    max_concurrency: int = 4
    on_error: OnError = "STOP"
    retry: RetryPolicy | None = None
    timeout_seconds: int | None = None
    quality: QualityGate | None = None
    cache_seconds: int | None = None


class Step(Outline, frozen=True, kw_only=True, omit_defaults=True):
    """A step as it is written."""

    description: str | None = None
    params: dict[str, Any] = {}


class Policy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a run as a whole goes: see `Outline` for single steps."""

    mode: RunMode = "SEQUENTIAL"
    max_concurrency: int = 4
    on_failure: OnFailure = "STOP"
    timeout_seconds: int | None = None


class Document(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A whole definition, in its canonical form: defaults filled in, types by their canonical names."""

    name: str
    domain: str | None = None
    description: str | None = None
    tags: list[str] = []
    parameters: list[Parameter] = []
    defaults: dict[str, Any] = {}
    steps: list[Step]
    policy: Policy = Policy()


def outline(step: Step) -> Outline:
    """The part of a step that a run carries."""
    return Outline(**{name: getattr(step, name) for name in Outline.__struct_fields__})
