"""The packages of a submission: checked against its runtime, merged from both places, kept in the object store."""

from typing import Final

from rgrid.api.grid import Grid
from rgrid.executions.requirements import BadRequirements, fits, inline, lines_of, merged
from rgrid.kernel.errors import Malformed

REQUIREMENTS_BYTES_MAX: Final = 1 << 20
_FIELD: Final = "requirements_content"


def requirements_of(runtime: str, script: str, requirements: str | None) -> str | None:
    """What must be installed before the script may run, or None. `runtime` is the canonical name. Raises Malformed for
    what can't be installed, for a runtime that takes no packages, and for one that the script says it doesn't fit."""
    language, _, version = runtime.partition(":")
    if language != "python":
        if requirements is not None and _means_something(requirements):
            raise _wrong(_FIELD, f"Packages can be installed for Python scripts only, and this one runs on {runtime}.")
        return None
    try:
        metadata = inline(script)
        if metadata is not None and metadata.requires_python and not fits(metadata.requires_python, version):
            raise _wrong(
                "runtime", f"The script requires Python {metadata.requires_python}, and {runtime} is not that."
            )
    except BadRequirements as problem:
        raise _wrong("script_content", f"{str(problem)[:1].upper()}{str(problem)[1:]}.") from None
    try:
        dependencies = metadata.dependencies if metadata else []
        return merged(requirements, dependencies)
    except BadRequirements as problem:
        field = _FIELD if requirements is not None and not _is_good(requirements) else "script_content"
        raise _wrong(field, f"{str(problem)[:1].upper()}{str(problem)[1:]}.") from None


async def keep(grid: Grid, text: str | None) -> tuple[str | None, int | None]:
    """Stores what `requirements_of` says; its hash and size."""
    if text is None:
        return None, None
    data = text.encode()
    return await grid.objects.put_bytes(data), len(data)


async def text_of(grid: Grid, sha256: str | None) -> str | None:
    """The text that was stored for an execution."""
    return None if sha256 is None else (await grid.objects.read_bytes(sha256, REQUIREMENTS_BYTES_MAX)).decode()


def _means_something(text: str) -> bool:
    try:
        return bool(lines_of(text))
    except BadRequirements:
        return True


def _is_good(text: str) -> bool:
    try:
        lines_of(text)
    except BadRequirements:
        return False
    return True


def _wrong(field: str, sentence: str) -> Malformed:
    return Malformed("The packages of the script can't be installed as asked.", [(field, sentence)])
