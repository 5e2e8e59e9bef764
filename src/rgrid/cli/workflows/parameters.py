"""What a run is given on the command line: `--param NAME=VALUE`, a file of them, files by reference."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from rgrid.cli import arguments
from rgrid.cli.output import Console, Usage
from rgrid.client.grid import Client

# Their values are text, also when they look like something else.
TEXT_TYPES: Final = frozenset({"string", "date", "datetime"})
DEPTH_MAX: Final = 8


def add_parameters(parser: argparse.ArgumentParser) -> None:
    """The options that `values` reads."""
    add = parser.add_argument
    add(
        "--param",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=arguments.pair,
        help="a parameter; a dot goes deeper: region.code=EU",
    )
    add("--params", metavar="FILE", type=Path, help="parameters from a JSON or YAML file")
    add(
        "--file",
        metavar="NAME=PATH",
        action="append",
        default=[],
        type=arguments.pair,
        help="a parameter that is a file: it is brought to the grid, its reference is the value",
    )


def values(
    client: Client, console: Console, args: argparse.Namespace, declared: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """All of them together; what is named later and nearer wins."""
    types = {str(each["name"]): str(each.get("type", "string")) for each in declared}
    found = _from_file(args.params) if args.params else {}
    for name, text in args.param:
        if name in types:
            found[name] = typed(text, types[name])
        else:
            _put(found, name, typed(text, None))
    for name, path in args.file:
        file = Path(path).expanduser()
        if not file.is_file():
            raise Usage(f"There is no file {path}. Nothing was started.")
        _put(found, name, client.workflows.keep(file))
        console.note(f"{name}: {path} is in the grid")
    return found


def typed(text: str, kind: str | None) -> Any:
    """A value of the type that was declared; without one, what looks like JSON is JSON."""
    if kind in TEXT_TYPES:
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def pairs(given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """`region=EU year=2026`, of no declared type."""
    found: dict[str, Any] = {}
    for name, text in given:
        _put(found, name, typed(text, None))
    return found


def _from_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes()
        found = msgspec.json.decode(text) if path.suffix == ".json" else msgspec.yaml.decode(text)
    except FileNotFoundError:
        raise Usage(f"There is no file {path}.") from None
    except msgspec.DecodeError as error:
        raise Usage(f"{path} can't be read: {error}.") from None
    if not isinstance(found, dict):
        raise Usage(f"{path} must hold names and values.")
    return found


def _put(into: dict[str, Any], name: str, value: Any) -> None:
    *outer, last = name.split(".")
    if len(outer) > DEPTH_MAX or not all(name.split(".")):
        raise Usage(f"{name} is no name of a parameter.")
    for word in outer:
        deeper = into.setdefault(word, {})
        if not isinstance(deeper, dict):
            raise Usage(f"{word} of {name} has a value already.")
        into = deeper
    into[last] = value
