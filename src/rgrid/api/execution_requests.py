"""What a client may send about executions, and the checks that a schema can't say."""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from rgrid.executions.events import FailureReason
from rgrid.executions.execution import BACKOFF_MAX_S, BACKOFF_S
from rgrid.kernel.errors import Invalid, Malformed

ExecutionStatus = Literal["awaiting_inputs", "queued", "running", "completed", "failed", "cancelled", "timed_out"]
Stream = Literal["stdout", "stderr"]

_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ENV_RESERVED: Final = re.compile(r"RGRID_.*|LD_.*|PATH|HOME", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_OPEN_BATCH: Final = re.compile(r"batch_[0-9A-Za-z]{8,40}", re.ASCII)
_METADATA_KEY_MAX: Final = 64
_METADATA_VALUE_MAX: Final = 512
_NAME_MAX: Final = 255
_SEGMENT_BYTES_MAX: Final = 255  # what Linux allows for a file's name

RetryReason = Literal[
    "exit_code", "timeout", "out_of_memory", "worker_lost", "dependency_install", "runtime_unavailable", "internal"
]
Sha256Text = Annotated[str, Meta(min_length=64, max_length=64)]


class InputFileSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that will be uploaded, with what the client knows of it already."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    size_bytes: Annotated[int, Meta(ge=0)] | None = None
    sha256: Sha256Text | None = None
    content_type: Annotated[str, Meta(max_length=255)] | None = None


class ExecutionTemplate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A script and how to run it."""

    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    script_content: Annotated[str, Meta(min_length=1, max_length=1_048_576)]
    runtime: str = "python:3.11"
    args: Annotated[list[str], Meta(max_length=1000)] = []
    env_vars: Annotated[dict[str, str], Meta(max_length=200)] = {}
    secret_env: Annotated[dict[str, str], Meta(max_length=50)] = {}
    timeout_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 300
    cpu: Annotated[float, Meta(ge=0.25, le=16)] = 1
    memory_mb: Annotated[int, Meta(ge=64, le=65_536)] = 512
    network: bool = False
    max_retries: Annotated[int, Meta(ge=0, le=10)] = 2
    requirements_content: Annotated[str, Meta(max_length=65_536)] | None = None
    user_metadata: Annotated[dict[str, str], Meta(max_length=50)] | None = None
    retry_on: Annotated[list[RetryReason | Annotated[int, Meta(ge=1, le=255)]], Meta(max_length=100)] | None = None
    retry_backoff_seconds: Annotated[float, Meta(ge=0.1, le=3600)] = BACKOFF_S
    retry_backoff_max_seconds: Annotated[float, Meta(ge=0.1, le=86_400)] = BACKOFF_MAX_S
    queue_timeout_seconds: Annotated[int, Meta(ge=1, le=2_592_000)] | None = None
    priority: Annotated[int, Meta(ge=-10, le=10)] = 0


class ExecutionCreate(ExecutionTemplate, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One execution, with its inputs."""

    input_files: Annotated[list[str | InputFileSpec], Meta(max_length=1000)] = []
    cached_input_refs: dict[str, str] | None = None
    batch_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class InputsComplete(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was uploaded, for a second check; may be left out."""

    files: Annotated[list[InputFileSpec], Meta(max_length=1000)] | None = None


class ReasonRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why, for whoever reads the log later."""

    reason: Annotated[str, Meta(max_length=1000)] | None = None


class ExecutionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Narrows the list of executions."""

    status: ExecutionStatus | None = None
    failure_reason: FailureReason | None = None
    batch_id: str | None = None
    runtime: str | None = None
    name: str | None = None
    metadata: dict[str, str] | None = None
    since: datetime | None = None
    until: datetime | None = None


def check_shape(body: ExecutionCreate) -> None:
    """What a schema can't say of names, sizes and hashes. Raises Malformed with every field that is wrong."""
    wrong = wrong_in(body) + wrong_files(body.input_files)
    if wrong:
        raise Malformed("Some fields are wrong.", wrong)


def wrong_files(files: Iterable[str | InputFileSpec]) -> list[tuple[str, str]]:
    """(field, message) of each hash that is none."""
    return [
        (f"input_files[{index}].sha256", "64 lower-case hex digits.")
        for index, file in enumerate(files)
        if isinstance(file, InputFileSpec) and file.sha256 is not None and not _SHA256.fullmatch(file.sha256)
    ]


def wrong_in(template: ExecutionTemplate) -> list[tuple[str, str]]:
    """What a schema can't say of variables, labels and requirements: (field, message) of each that is wrong."""
    wrong: list[tuple[str, str]] = []
    for field, names in (("env_vars", template.env_vars), ("secret_env", template.secret_env)):
        for name in names:
            if not _ENV_NAME.fullmatch(name):
                wrong.append((f"{field}.{name}", "A variable's name is letters, digits and _, no digit first."))
            elif _ENV_RESERVED.fullmatch(name):
                wrong.append((f"{field}.{name}", "RGRID_*, LD_*, PATH and HOME are set by the grid."))
    for key, value in (template.user_metadata or {}).items():
        if not 1 <= len(key) <= _METADATA_KEY_MAX:
            wrong.append((f"user_metadata.{key}", f"A key has 1 to {_METADATA_KEY_MAX} characters."))
        if len(value) > _METADATA_VALUE_MAX:
            wrong.append((f"user_metadata.{key}", f"A value has at most {_METADATA_VALUE_MAX} characters."))
    return wrong


def check_names(template: ExecutionTemplate) -> None:
    """Raises Invalid for a variable that is named twice."""
    if twice := sorted(template.env_vars.keys() & template.secret_env.keys()):
        raise Invalid(
            f"{', '.join(twice)}: named in env_vars and in secret_env.",
            code="duplicate_variable",
            fields=[(f"secret_env.{name}", "Also in env_vars.") for name in twice],
        )


def declared(files: Iterable[str | InputFileSpec]) -> list[InputFileSpec]:
    """The files with their names checked: relative POSIX paths, each once. Raises Invalid `bad_file_name`."""
    specs = [InputFileSpec(name=file) if isinstance(file, str) else file for file in files]
    wrong: list[tuple[str, str]] = []
    seen: set[str] = set()
    for index, spec in enumerate(specs):
        reason = _bad_name(spec.name) or ("The name is given twice." if spec.name in seen else None)
        seen.add(spec.name)
        if reason:
            wrong.append((f"input_files[{index}]", reason))
    inner = {parent for name in seen for parent in _parents(name)}
    wrong += [
        (f"input_files[{index}]", "The name is also a folder of another file.")
        for index, spec in enumerate(specs)
        if spec.name in inner
    ]
    if wrong:
        raise Invalid("A file name can't be used.", code="bad_file_name", fields=wrong)
    return specs


def _bad_name(name: str) -> str | None:
    if not 1 <= len(name) <= _NAME_MAX:
        return f"A name has 1 to {_NAME_MAX} characters."
    if any(len(part.encode()) > _SEGMENT_BYTES_MAX for part in name.split("/")):
        return f"Each part of a path has at most {_SEGMENT_BYTES_MAX} bytes in UTF-8."
    if "\\" in name or any(ord(char) < 0x20 or 0x7F <= ord(char) <= 0x9F for char in name):
        return "No backslash and no control character."
    if name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
        return "A relative path without empty segments, `.` or `..`."
    return None


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def is_open_batch(batch_id: str) -> bool:
    """Whether clients may group executions of their own under this id."""
    return _OPEN_BATCH.fullmatch(batch_id) is not None
