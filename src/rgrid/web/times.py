"""Marks every time in a JSON schema as one: msgspec leaves `format` out where a datetime may be naive."""

from collections.abc import Mapping
from typing import Any

from msgspec import inspect

Json = dict[str, Any]


def mark_times(kind: Any, schema: Json, components: Mapping[str, Json]) -> None:
    """Adds `format: date-time` below `schema`, which was made from `kind`, and in the components it refers to."""
    _mark(inspect.type_info(kind), schema, components, set())


def _mark(info: inspect.Type, schema: Json, components: Mapping[str, Json], seen: set[str]) -> None:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in seen:
            seen.add(name)
            _mark(info, components[name], components, seen)
        return
    match info:
        case inspect.Metadata():
            _mark(info.type, schema, components, seen)
        case inspect.DateTimeType():
            schema["format"] = "date-time"
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType():
            _mark(info.item_type, schema.get("items", {}), components, seen)
        case inspect.DictType():
            below = schema.get("additionalProperties")
            if isinstance(below, dict):
                _mark(info.value_type, below, components, seen)
        case inspect.StructType():
            for field in info.fields:
                _mark(field.type, schema["properties"][field.encode_name], components, seen)
        case inspect.UnionType():
            _mark_union(info, schema, components, seen)


def _mark_union(info: inspect.UnionType, schema: Json, components: Mapping[str, Json], seen: set[str]) -> None:
    """Structs and lists stand in the union's order; a time is the one plain string among the alternatives."""
    options: list[Json] = schema.get("anyOf", [])
    kinds = [option for option in info.types if isinstance(_bare(option), inspect.StructType)]
    for option, shown in zip(kinds, [each for each in options if "$ref" in each], strict=False):
        _mark(option, shown, components, seen)
    for option in info.types:
        bare = _bare(option)
        wanted = {inspect.DateTimeType: "string", inspect.ListType: "array", inspect.DictType: "object"}.get(type(bare))
        for shown in options:
            if shown.get("type") == wanted and wanted is not None and "enum" not in shown and "$ref" not in shown:
                _mark(bare, shown, components, seen)


def _bare(info: inspect.Type) -> inspect.Type:
    return info.type if isinstance(info, inspect.Metadata) else info
