"""Golden JSON: for each topic one full event as it is stored. `python tests/golden.py` writes those that are missing
and never touches one that is there, because what it shows lies in somebody's log."""

import importlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect

from rgrid.kernel.messages import Event

TREE: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = TREE / "tests/eventstore/golden"
MOMENT: Final = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def slices() -> list[Any]:
    """The `events` module of every slice."""
    files = sorted((TREE / "src/rgrid").glob("*/events.py"))
    return [importlib.import_module(f"rgrid.{file.parent.name}.events") for file in files]


def topics() -> dict[str, type[Event]]:
    return {topic: kind for module in slices() for topic, kind in module.TOPICS.items()}


def full(kind: inspect.Type) -> Any:
    """A value of this type with every field given, as plain data; no value is a likely default."""
    match kind:
        case inspect.StructType(fields=fields):
            return {field.encode_name: _not_default(field) for field in fields}
        case inspect.UnionType(types=types):
            return full(next(member for member in types if not isinstance(member, inspect.NoneType)))
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item) | inspect.SetType(item_type=item):
            return [full(item)]
        case inspect.DictType(key_type=key, value_type=value):
            return {full(key): full(value)}
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.Metadata(type=inner):
            return full(inner)
    plain: dict[type[inspect.Type], Any] = {
        inspect.BoolType: True,
        inspect.IntType: 7,
        inspect.FloatType: 0.5,
        inspect.StrType: "text",
        inspect.DateTimeType: MOMENT,
        inspect.AnyType: {"any": ["thing"]},
    }
    return plain[type(kind)]


def _not_default(field: inspect.Field) -> Any:
    """A default isn't written, so it would not come back."""
    match field.type:
        case inspect.LiteralType(values=values) if field.default == values[0]:
            return values[-1]
        case inspect.BoolType():
            return field.default is not True
    return full(field.type)


def stored(kind: type[Event]) -> bytes:
    """A full event of this type as the log holds it, indented to be read."""
    return msgspec.json.format(msgspec.json.encode(full(inspect.type_info(kind))), indent=2) + b"\n"


def path(topic: str) -> Path:
    return FOLDER / f"{topic}.json"


def write_missing() -> list[str]:
    """Write a golden file for each topic that has none; returns their topics."""
    missing = [topic for topic in topics() if not path(topic).exists()]
    for topic in missing:
        path(topic).write_bytes(stored(topics()[topic]))
    return missing


if __name__ == "__main__":
    print("\n".join(write_missing()))
