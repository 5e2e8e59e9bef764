"""Builds the document of a workflow in Python, with the words of the YAML form: every method adds a step.

flow = (
    Flow("weekly_refresh", domain="sales")
    .parameter("week_ending", "date", required=True)
    .execution("clean", script=Path("clean.py"), args=["${params.week_ending}"])
    .choice("is_large", "steps.clean.output.stdout_json.rows > 1000", then="publish")
    .execution("publish", script=Path("publish.py"), retry=Retry(max_attempts=5))
)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import msgspec

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


class Retry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tries of a step in all and the waits between them; what is left alone is as the service has it."""

    max_attempts: int | None = None
    initial_seconds: float | None = None
    multiplier: float | None = None
    max_seconds: float | None = None
    jitter: float | None = None
    retry_on: Sequence[ErrorCategory] | None = None


class Quality(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a step's output must satisfy; one that is not `hard` only warns."""

    min_records: int | None = None
    max_records: int | None = None
    min_valid_rate: float | None = None
    max_null_rate: float | None = None
    hard: bool | None = None


class StepOptions(TypedDict, total=False):
    """What every step may have."""

    depends_on: Sequence[str]
    description: str
    timeout_seconds: int
    on_error: OnError
    retry: Retry
    quality: Quality
    cache_seconds: int


class ExecutionOptions(StepOptions, total=False):
    """What a step that runs a script may have besides, as in `Submission`. Values may hold `${…}`."""

    runtime: str
    args: Sequence[str]
    env_vars: Mapping[str, str]
    secret_env: Mapping[str, str]
    cpu: float
    memory_mb: int
    network: bool
    requirements_content: str
    user_metadata: Mapping[str, str]
    input_files: Sequence[str]
    cached_input_refs: Mapping[str, str]
    inputs: Mapping[str, Any]


class Flow:
    """A workflow as it grows. `document()` is what the service takes, `grid.workflows.apply(flow)` sends it."""

    def __init__(
        self,
        name: str,
        *,
        domain: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
        defaults: Mapping[str, Any] | None = None,
        mode: RunMode | None = None,
        max_concurrency: int | None = None,
        on_failure: OnFailure | None = None,
        timeout_seconds: int | None = None,
    ) -> None:
        self.name = name
        self._head = _given(domain=domain, description=description, tags=list(tags) or None, defaults=defaults)
        self._policy = _given(
            mode=mode, max_concurrency=max_concurrency, on_failure=on_failure, timeout_seconds=timeout_seconds
        )
        self._parameters: list[dict[str, Any]] = []
        self._steps: list[dict[str, Any]] = []

    def parameter(
        self,
        name: str,
        type: ParameterType = "string",  # noqa: A002 - the word of the document
        *,
        required: bool = False,
        default: Any = None,
        description: str | None = None,
    ) -> "Flow":
        """Something that a run is given."""
        optional = _given(required=required or None, default=default, description=description)
        self._parameters.append({"name": name, "type": type, **optional})
        return self

    def execution(
        self,
        name: str,
        *,
        script: str | Path,
        script_timeout_seconds: int | None = None,
        **options: Unpack[ExecutionOptions],
    ) -> "Flow":
        """A script on the grid: the file that holds it, or its text, in which `${…}` is an expression as elsewhere."""
        text = script.read_text(encoding="utf-8").replace("${", "$${") if isinstance(script, Path) else script
        given = dict(options)
        own = {word: given.pop(word) for word in StepOptions.__annotations__ if word in given}
        template = {"script_content": text, **given, **_given(timeout_seconds=script_timeout_seconds)}
        return self._step(name, "EXECUTION", {"params": template}, own)

    def source(
        self, name: str, source: str, params: Mapping[str, Any] | None = None, **options: Unpack[StepOptions]
    ) -> "Flow":
        """A fetch of a source."""
        return self._step(name, "SOURCE", {"target_name": source, "params": params}, options)

    def workflow(
        self, name: str, workflow: str, params: Mapping[str, Any] | None = None, **options: Unpack[StepOptions]
    ) -> "Flow":
        """A run of another workflow, with these parameters."""
        return self._step(name, "WORKFLOW", {"target_name": workflow, "params": params}, options)

    def handler(
        self, name: str, handler: str, params: Mapping[str, Any] | None = None, **options: Unpack[StepOptions]
    ) -> "Flow":
        """A Python function that an installed package registered under this name."""
        return self._step(name, "HANDLER", {"target_name": handler, "params": params}, options)

    def alert(self, name: str, params: Mapping[str, Any], **options: Unpack[StepOptions]) -> "Flow":
        """Says something to whoever listens: title, message, severity."""
        return self._step(name, "ALERT", {"params": params}, options)

    def choice(
        self, name: str, condition: str, *, then: str, otherwise: str | None = None, **options: Unpack[StepOptions]
    ) -> "Flow":
        """One of two later steps, as the condition says."""
        fields = {"condition": condition, "then_step": then, "else_step": otherwise}
        return self._step(name, "CHOICE", fields, options)

    def wait(
        self,
        name: str,
        *,
        seconds: int | None = None,
        until: str | None = None,
        signal: str | None = None,
        **options: Unpack[StepOptions],
    ) -> "Flow":
        """So long, until the time that an expression gives, or until a signal arrives."""
        return self._step(name, "WAIT", {"duration_seconds": seconds, "until": until, "signal": signal}, options)

    def map(
        self,
        name: str,
        workflow: str,
        *,
        items: str,
        item_name: str | None = None,
        max_concurrency: int | None = None,
        params: Mapping[str, Any] | None = None,
        **options: Unpack[StepOptions],
    ) -> "Flow":
        """A run of another workflow for each item of a list that an expression gives."""
        fields = {"target_name": workflow, "items": items, "item_name": item_name, "max_concurrency": max_concurrency}
        return self._step(name, "MAP", {**fields, "params": params}, options)

    def document(self) -> dict[str, Any]:
        """The document; what was left alone is not in it."""
        policy = {"policy": dict(self._policy)} if self._policy else {}
        parameters = {"parameters": self._parameters} if self._parameters else {}
        built = {"name": self.name, **self._head, **parameters, "steps": self._steps, **policy}
        copied: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(built))
        return copied

    def _step(self, name: str, kind: str, fields: Mapping[str, Any], options: Mapping[str, Any]) -> "Flow":
        self._steps.append({"name": name, "type": kind, **_given(**fields), **_given(**options)})
        return self


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
