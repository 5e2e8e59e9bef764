"""Scripts and package lists that a workflow document names instead of holding: files beside it, put in their place."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

FILE_BYTES_MAX: Final = 1_048_576
# What a step may name, and the field of its template that the file's text becomes.
NAMED: Final = {"script": "script_content", "requirements": "requirements_content"}
# In a document `${` begins an expression; in a file it means whatever it means there.
OPENS: Final = "${"
STANDS: Final = "$${"


def inlined(document: Any, folder: Path) -> tuple[Any, list[tuple[str, str]]]:
    """The document with the texts of the files that its EXECUTION steps name, and what is wrong with these names, by
    field. Only files below `folder` may be named."""
    steps = document.get("steps") if isinstance(document, Mapping) else None
    if not isinstance(steps, list):
        return document, []
    wrong: list[tuple[str, str]] = []
    made = [_step(step, f"steps[{at}].params", folder, wrong) for at, step in enumerate(steps)]
    return {**document, "steps": made}, wrong


def files_named(document: Any, folder: Path) -> list[Path]:
    """The files that `inlined` would read."""
    steps = document.get("steps") if isinstance(document, Mapping) else None
    found = []
    for step in steps if isinstance(steps, list) else []:
        params = step.get("params") if isinstance(step, Mapping) else None
        named = [params.get(word) for word in NAMED] if isinstance(params, Mapping) else []
        found += [folder / text for text in named if isinstance(text, str) and _is_below(text, folder)]
    return found


def _step(step: Any, path: str, folder: Path, wrong: list[tuple[str, str]]) -> Any:
    params = step.get("params") if isinstance(step, Mapping) else None
    if not isinstance(params, Mapping) or str(step.get("type", "")).upper() != "EXECUTION":
        return step
    template = dict(params)
    for word, field in NAMED.items():
        if word not in template:
            continue
        named = template.pop(word)
        if field in template:
            wrong.append((f"{path}.{word}", f"Give either {word} or {field}."))
            continue
        try:
            template[field] = _text(named, folder).replace(OPENS, STANDS)
        except ValueError as problem:
            wrong.append((f"{path}.{word}", str(problem)))
    return {**step, "params": template}


def _text(named: Any, folder: Path) -> str:
    if not isinstance(named, str) or not named:
        raise ValueError("Must be the path of a file beside the document.")
    path = folder / named
    if not _is_below(named, folder):
        raise ValueError(f"{named} is not below the folder of the document.")
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ValueError(f"{named} is larger than {FILE_BYTES_MAX} bytes.")
        return path.read_bytes().decode()
    except FileNotFoundError:
        raise ValueError(f"There is no file {named}.") from None
    except OSError as error:
        raise ValueError(f"{named} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ValueError(f"{named} is not UTF-8 text.") from None


def _is_below(named: str, folder: Path) -> bool:
    try:
        is_below = (folder / named).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):
        # Too long for a path, or a NUL in it.
        return False
    return is_below and not PurePosixPath(named).is_absolute()
