"""Finds every fault of a decoded value against a msgspec type, where msgspec itself stops at the first.

Runs only after msgspec has refused a value (or a string in it is suspect), so it never slows good requests down.
"""

import math
import operator
import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import inspect as i

Fault = tuple[str, str]
"""(path of the field, what is wrong)"""

FAULTS_MAX: Final = 1000
DEPTH_MAX: Final = 64
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
_MISSING: Final = "This field is required."
UNKNOWN: Final = "There is no such field."


def faults(value: Any, kind: i.Type, path: str = "") -> list[Fault]:
    """Every fault of `value`, in the order of the fields; empty when it fits."""
    found: list[Fault] = []
    _walk(value, kind, path, found, 0)
    return found[:FAULTS_MAX]


def bad_strings(value: Any, path: str = "") -> list[Fault]:
    """Strings anywhere in `value` (keys too) that hold NUL or a lone surrogate, and integers beyond 64 bits."""
    found: list[Fault] = []
    _strings(value, path, found, 0)
    return found[:FAULTS_MAX]


def join(path: str, name: str) -> str:
    """The path of a member."""
    return f"{path}.{name}" if path else name


def json_kind(value: Any) -> str:
    """What JSON calls a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float"
        case str():
            return "str"
        case list() | tuple() | set() | frozenset():
            return "array"
        case dict():
            return "object"
    return type(value).__name__


def string_fault(text: str) -> str | None:
    """Why a string can't be stored, if it can't."""
    if "\0" in text:
        return "It holds a NUL character."
    try:
        text.encode()
    except UnicodeEncodeError:
        return "It holds half of a surrogate pair."
    return None


def _strings(value: Any, path: str, found: list[Fault], depth: int) -> None:
    if depth > DEPTH_MAX or len(found) >= FAULTS_MAX:
        return
    match value:
        case str():
            if why := string_fault(value):
                found.append((path, why))
        case dict():
            for key, member in value.items():
                if why := string_fault(key):
                    found.append((path, f"A key: {why}"))
                else:
                    _strings(member, join(path, key), found, depth + 1)
        case list():
            for index, item in enumerate(value):
                _strings(item, f"{path}[{index}]", found, depth + 1)


def _walk(value: Any, kind: i.Type, path: str, found: list[Fault], depth: int) -> None:
    if len(found) >= FAULTS_MAX:
        return
    if depth > DEPTH_MAX:
        found.append((path, "It is nested too deeply."))
        return
    match kind:
        case i.Metadata():
            _walk(value, kind.type, path, found, depth)
        case i.UnionType():
            _union(value, kind, path, found, depth)
        case i.StructType():
            _struct(value, kind, path, found, depth)
        case i.ListType() | i.SetType() | i.FrozenSetType() | i.VarTupleType():
            if not isinstance(value, list):
                found.append((path, _expected("array", value)))
                return
            _length(len(value), kind.min_length, kind.max_length, "items", path, found)
            for index, item in enumerate(value):
                _walk(item, kind.item_type, f"{path}[{index}]", found, depth + 1)
        case i.DictType():
            _dict(value, kind, path, found, depth)
        case _:
            if why := _leaf(value, kind):
                found.append((path, why))


def _struct(value: Any, kind: i.StructType, path: str, found: list[Fault], depth: int) -> None:
    if not isinstance(value, dict):
        found.append((path, _expected("object", value)))
        return
    known = {field.encode_name for field in kind.fields} | ({kind.tag_field} if kind.tag_field else set())
    for field in kind.fields:
        at = join(path, field.encode_name)
        if field.encode_name in value:
            _walk(value[field.encode_name], field.type, at, found, depth + 1)
        elif field.required:
            found.append((at, _MISSING))
    if kind.forbid_unknown_fields:
        found.extend((join(path, str(name)), UNKNOWN) for name in value if name not in known)


def _dict(value: Any, kind: i.DictType, path: str, found: list[Fault], depth: int) -> None:
    if not isinstance(value, dict):
        found.append((path, _expected("object", value)))
        return
    _length(len(value), kind.min_length, kind.max_length, "entries", path, found)
    for name, member in value.items():
        if why := string_fault(name):
            found.append((path, f"A key: {why}"))
            continue
        if why := _leaf(name, kind.key_type):
            found.append((join(path, name), f"The key: {why}"))
        _walk(member, kind.value_type, join(path, name), found, depth + 1)


def _union(value: Any, kind: i.UnionType, path: str, found: list[Fault], depth: int) -> None:
    """The faults of the alternative that the value was meant to be: the one of its JSON kind."""
    tried: list[list[Fault]] = []
    for option in kind.types:
        if not _same_kind(value, option):
            continue
        faults_here: list[Fault] = []
        _walk(value, option, path, faults_here, depth)
        if not faults_here:
            return
        tried.append(faults_here)
    if not tried:
        names = " | ".join(dict.fromkeys(_name(option) for option in kind.types))
        found.append((path, _expected(names, value)))
        return
    nearest = min(tried, key=len)
    found.extend(nearest)


def _same_kind(value: Any, option: i.Type) -> bool:
    match option:
        case i.Metadata():
            return _same_kind(value, option.type)
        case i.AnyType() | i.RawType() | i.CustomType():
            return True
        case i.StructType():
            if not isinstance(value, dict):
                return False
            return option.tag_field is None or value.get(option.tag_field) == option.tag
    kinds = _name(option)
    actual = json_kind(value)
    if actual == "int" and kinds == "float":
        return True
    return actual == kinds or (isinstance(option, i.EnumType | i.LiteralType) and _leaf(value, option) is None)


_NAMES: Final[dict[type, str]] = {
    i.NoneType: "null",
    i.BoolType: "bool",
    i.IntType: "int",
    i.FloatType: "float",
    i.ListType: "array",
    i.VarTupleType: "array",
    i.TupleType: "array",
    i.SetType: "array",
    i.FrozenSetType: "array",
    i.DictType: "object",
    i.StructType: "object",
    i.TypedDictType: "object",
    i.DataclassType: "object",
}


def _name(kind: i.Type) -> str:
    """The JSON kind of a type; everything that isn't one of the others (dates, enums, ids) travels as a string."""
    if isinstance(kind, i.Metadata):
        return _name(kind.type)
    return _NAMES.get(type(kind), "str")


def _expected(name: str, value: Any) -> str:
    return f"Expected {name}, got {json_kind(value)}."


def _length(size: int, low: int | None, high: int | None, what: str, path: str, found: list[Fault]) -> None:
    if low is not None and size < low:
        found.append((path, f"Expected at least {low} {what}, got {size}."))
    if high is not None and size > high:
        found.append((path, f"Expected at most {high} {what}, got {size}."))


def _leaf(value: Any, kind: i.Type) -> str | None:
    match kind:
        case i.AnyType() | i.RawType() | i.CustomType():
            return None
        case i.NoneType():
            return None if value is None else _expected("null", value)
        case i.BoolType():
            return None if isinstance(value, bool) else _expected("bool", value)
        case i.IntType():
            if not isinstance(value, int) or isinstance(value, bool):
                return _expected("int", value)
            return _bounds(value, kind)
        case i.FloatType():
            if not isinstance(value, int | float) or isinstance(value, bool):
                return _expected("float", value)
            return _bounds(value, kind)
        case i.StrType():
            return _text(value, kind)
        case i.EnumType():
            try:
                kind.cls(value)
            except ValueError:
                return _one_of([member.value for member in kind.cls], value)
            return None
        case i.LiteralType():
            return None if value in kind.values else _one_of(list(kind.values), value)
    return _converted(value, kind)


def _text(value: Any, kind: i.StrType) -> str | None:
    if not isinstance(value, str):
        return _expected("str", value)
    if why := string_fault(value):
        return why
    found: list[Fault] = []
    _length(len(value), kind.min_length, kind.max_length, "characters", "", found)
    if found:
        return found[0][1]
    if kind.pattern is not None and not re.search(kind.pattern, value):
        return f"It doesn't match {kind.pattern}."
    return None


def _bounds(value: int | float, kind: i.IntType | i.FloatType) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return "The number is out of range."
    if isinstance(value, int) and isinstance(kind, i.IntType) and not INT_MIN <= value <= INT_MAX:
        return "The number is out of range."
    for bound, holds, words in (
        (kind.ge, operator.ge, "at least"),
        (kind.gt, operator.gt, "more than"),
        (kind.le, operator.le, "at most"),
        (kind.lt, operator.lt, "less than"),
        (kind.multiple_of, _multiple, "a multiple of"),
    ):
        if bound is not None and not holds(value, bound):
            return f"Expected {words} {bound}, got {value}."
    return None


def _multiple(value: float, of: float) -> bool:
    return value % of == 0


def _one_of(values: list[Any], value: Any) -> str:
    shown = ", ".join(str(member) for member in values)
    got = f"'{value[:100]}'" if isinstance(value, str) else json_kind(value)
    return f"Expected one of {shown}; got {got}."


_PLAIN: Final[dict[type[i.Type], Any]] = {
    i.UUIDType: UUID,
    i.DecimalType: Decimal,
    i.BytesType: bytes,
    i.ByteArrayType: bytearray,
    i.TimeDeltaType: timedelta,
    i.DateType: date,
}
_ZONED: Final[dict[tuple[type[i.Type], bool | None], Any]] = {
    (i.DateTimeType, None): datetime,
    (i.DateTimeType, True): Annotated[datetime, msgspec.Meta(tz=True)],
    (i.DateTimeType, False): Annotated[datetime, msgspec.Meta(tz=False)],
    (i.TimeType, None): time,
    (i.TimeType, True): Annotated[time, msgspec.Meta(tz=True)],
    (i.TimeType, False): Annotated[time, msgspec.Meta(tz=False)],
}


def _converted(value: Any, kind: i.Type) -> str | None:
    """A type with a text form of its own: msgspec tries it."""
    target = _PLAIN.get(type(kind))
    if isinstance(kind, i.DateTimeType | i.TimeType):
        target = _ZONED[type(kind), kind.tz]
    if target is None:
        return None
    try:
        msgspec.convert(value, target)
    except msgspec.ValidationError as refused:
        return sentence(str(refused))
    return None


def sentence(text: str) -> str:
    """A message of msgspec as the other messages here are written."""
    return text.replace("`", "").rstrip(".") + "."
