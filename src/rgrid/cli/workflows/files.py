"""Workflow documents in files: read with the scripts beside them, and every problem with its file, line and rule."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from rgrid.adapters.script_files import inlined
from rgrid.cli.output import Failure, Usage
from rgrid.client.problems import Refused
from rgrid.client.workflow_answers import Issue

if TYPE_CHECKING:
    from rgrid.adapters.yaml_source import Source

SHAPE: Final = "bad_form"


class Written(NamedTuple):
    """One document of a file."""

    path: Path
    name: str
    body: dict[str, Any]
    source: "Source"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A problem where it stands."""

    file: str
    line: int | None
    rule: str
    message: str
    step: str | None = None
    field: str | None = None

    @property
    def told(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.rule}: {self.message}"


def read(path: Path) -> list[Written]:
    """The documents of a file; one without a name has that of the file."""
    # Reading YAML takes a moment to load, and most commands read none.
    from rgrid.adapters.yaml_source import BadSource, read_all

    try:
        sources = read_all(path.read_bytes())
    except BadSource as bad:
        where = f"{path}:{bad.line}" if bad.line else f"{path}"
        raise Failure(f"{where}: {bad.message}", code=1, name="bad_source") from None
    except IsADirectoryError:
        raise Usage(f"{path} is a folder; name the files in it.") from None
    except FileNotFoundError:
        raise Usage(f"There is no file {path}.") from None
    return [_written(path, source) for source in sources]


def _written(path: Path, source: "Source") -> Written:
    if not isinstance(source.data, dict):
        raise Failure(f"{path}:{source.line('') or 1}: A workflow is a map with a name and steps.", name="bad_source")
    body, wrong = inlined(source.data, path.parent)
    if wrong:
        told = [
            Found(file=str(path), line=source.line(field), rule="bad_file", message=why).told for field, why in wrong
        ]
        raise Failure(f"{path} can't be sent.", details=told, name="bad_source")
    name = body.get("name") or path.stem
    return Written(path, str(name), {**body, "name": name}, source)


def in_order(documents: Sequence[Written]) -> list[Written]:
    """Those that others start come first."""
    left, placed = list(documents), []
    for _ in documents:
        names = {document.name for document in left}
        found = next((one for one in left if not (targets(one) & names - {one.name})), left[0])
        left.remove(found)
        placed.append(found)
    return placed


def targets(document: Written) -> set[str]:
    """The workflows that its steps start."""
    steps = [step for step in document.body.get("steps") or [] if isinstance(step, dict)]
    return {str(step.get("target_name")) for step in steps if str(step.get("type")).upper() in ("WORKFLOW", "MAP")}


def found_in(document: Written, issues: Iterable[Issue]) -> list[Found]:
    """What the service says of a document, with the lines of this file."""
    found = []
    for issue in issues:
        field = _path(document, issue)
        found.append(
            Found(
                file=str(document.path),
                line=document.source.line(field),
                rule=issue.code,
                message=issue.message,
                step=issue.step,
                field=field or None,
            )
        )
    return sorted(found, key=lambda each: each.line or 0)


def refused(document: Written, error: Refused) -> list[Found]:
    """A refusal that is about the document's form; any other is raised again."""
    if not error.problem.errors or error.status not in (400, 422):
        raise error
    return [
        Found(
            file=str(document.path),
            line=document.source.line(each.field.removeprefix("body.")),
            rule=SHAPE,
            message=f"{each.field}: {each.message}",
            field=each.field,
        )
        for each in error.problem.errors
    ]


def _path(document: Written, issue: Issue) -> str:
    """The whole path of an issue's field, which may be named within its step."""
    field = issue.field or ""
    if issue.step is None or field.startswith("steps["):
        return field
    for at, step in enumerate(document.body.get("steps") or []):
        if isinstance(step, dict) and step.get("name") == issue.step:
            return f"steps[{at}].{field}" if field else f"steps[{at}]"
    return field
