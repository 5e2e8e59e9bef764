"""What the type of a request body must be like, checked once when the service is put together."""

from typing import Any

from msgspec import inspect


def careless(kind: Any) -> list[str]:
    """Where a body's type would let through what must be refused: unknown fields, and times without an offset."""
    found: list[str] = []
    _look(inspect.type_info(kind), "body", found, set())
    return found


def _look(info: inspect.Type, path: str, found: list[str], seen: set[type]) -> None:
    match info:
        case inspect.Metadata():
            _look(info.type, path, found, seen)
        case inspect.UnionType():
            for option in info.types:
                _look(option, path, found, seen)
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType():
            _look(info.item_type, f"{path}[]", found, seen)
        case inspect.DictType():
            _look(info.value_type, f"{path}{{}}", found, seen)
        case inspect.DateTimeType():
            if info.tz is not True:
                found.append(f"{path}: a time needs Meta(tz=True)")
        case inspect.StructType() if info.cls not in seen:
            seen.add(info.cls)
            if not info.forbid_unknown_fields:
                found.append(f"{path}: {info.cls.__name__} needs forbid_unknown_fields=True")
            for field in info.fields:
                _look(field.type, f"{path}.{field.encode_name}", found, seen)
