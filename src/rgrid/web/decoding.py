"""Turns the bytes of a body and the text of a query into checked structs; a refusal lists every wrong field."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime
from typing import Any, Final, NoReturn, Protocol
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import inspect

from rgrid.kernel.errors import Invalid, Malformed
from rgrid.web.faults import INT_MAX, INT_MIN, Fault, bad_strings, faults, sentence, string_fault
from rgrid.web.problems import UnsupportedMediaType

PARAMETERS_MAX: Final = 1000
SHOWN_MAX: Final = 300
_JSON_TYPES: Final = frozenset({"application/json", "application/merge-patch+json"})
_YAML_TYPES: Final = frozenset({"application/x-yaml", "text/yaml", "text/x-yaml"})  # what it was called before RFC 9512
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}
_INT: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_FLOAT: Final = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_MOMENT: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[-+ ][0-9]{2}:[0-9]{2})?",
    re.ASCII,
)
_LONG_NUMBER: Final = re.compile(rb"[0-9]{19}")
_PATH: Final = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)


class Written(Protocol):
    """A body in another format than JSON: what it holds, and on which line."""

    @property
    def data(self) -> Any: ...
    def line(self, path: str) -> int | None: ...


Formats = Mapping[str, Callable[[bytes], Written]]
"""By media type, how to read another format than JSON. Raises Invalid."""


class BodyDecoder:
    """Decodes bodies of one type: JSON, and the other formats that the operation reads."""

    def __init__(self, kind: Any, formats: Formats | None = None) -> None:
        self._kind = kind
        self._formats = formats or {}
        self._decoder = msgspec.json.Decoder(kind)
        self._info = inspect.type_info(kind)
        self._open_ints = _has_open_int(self._info, set())

    def read(self, raw: bytes, content_type: str | None) -> tuple[Any, Written | None]:
        """The checked body, and how it was written unless that is JSON. Raises as `decode` does."""
        media = (content_type or "").partition(";")[0].strip().lower()
        known = "application/yaml" if media in _YAML_TYPES else media
        if known not in self._formats:
            return self.decode(raw, content_type), None
        check_media_type(content_type, media)
        written = self._formats[known](raw)
        return self.take(written, lines=True), written

    def take(self, written: Written, *, lines: bool = False) -> Any:
        """What was written, checked; with `lines` a fault begins with its own. Raises Malformed."""
        found = faults(written.data, self._info)
        listed = {path for path, _ in found}
        found += [fault for fault in bad_strings(written.data) if fault[0] not in listed]
        body = None
        try:
            body = msgspec.convert(written.data, self._kind)
        except (msgspec.ValidationError, RecursionError) as refused:
            found = found or [_only_fault(str(refused))]
        if lines:
            found = [(path, f"Line {written.line(path)}: {why}") for path, why in found]
        if found:
            raise_malformed([(path or "body", why) for path, why in found])
        return body

    def decode(self, raw: bytes, content_type: str | None) -> Any:
        """The checked body. Raises UnsupportedMediaType, Invalid (no JSON) or Malformed (every wrong field)."""
        check_media_type(content_type)
        try:
            body = self._decoder.decode(raw)
        except msgspec.ValidationError as refused:
            self._refuse(_loads(raw), refused)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
            # Half a surrogate pair is a fault of a field, not of the JSON around it.
            self._refuse(_loads(raw), broken)
        if b"\\u0000" in raw or (self._open_ints and _LONG_NUMBER.search(raw)):
            self._refuse(_loads(raw), None)
        return body

    def _refuse(self, value: Any, refused: Exception | None) -> None:
        found = faults(value, self._info)
        listed = {path for path, _ in found}
        found += [fault for fault in bad_strings(value) if fault[0] not in listed]
        if not found and refused is not None:
            found = [_only_fault(str(refused))]
        if found:
            raise_malformed([(path or "body", why) for path, why in found])


def check_media_type(content_type: str | None, allowed: str | None = None) -> None:
    """Raises UnsupportedMediaType unless the body says that it is JSON, or what else is allowed, in UTF-8."""
    media, *parameters = (content_type or "").split(";")
    if media.strip().lower() not in _JSON_TYPES and media.strip().lower() != allowed:
        shown = f"not {media.strip()[:100]}" if media.strip() else "and it says nothing"
        raise UnsupportedMediaType(f"The body must be application/json, {shown}.")
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "charset" and value.strip('"').lower() not in ("utf-8", "utf8"):
            raise UnsupportedMediaType("The body must be in UTF-8.")


def raise_malformed(found: list[Fault], code: str = "validation_failed") -> NoReturn:
    """Raises one Malformed that names them all."""
    found = [(_shown(path), _shown(why)) for path, why in found]
    where = ", ".join(dict.fromkeys(path for path, _ in found[:5])) + (", …" if len(found) > 5 else "")
    raise Malformed(f"The request has {_counted(len(found))}: {where}.", found, code=code)


def _shown(text: str) -> str:
    """What a client sent, fit to be sent back."""
    return text[:SHOWN_MAX].encode("utf-8", "replace").decode()


def _counted(count: int) -> str:
    return "a wrong field" if count == 1 else f"{count} wrong fields"


def _loads(raw: bytes) -> Any:
    """The body once more with the standard library, which accepts half surrogate pairs."""
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise Invalid("The body is nested too deeply.", code="malformed_json") from None
    except ValueError as broken:
        where = f" (line {broken.lineno}, column {broken.colno})" if isinstance(broken, json.JSONDecodeError) else ""
        raise Invalid(f"The body is not valid JSON{where}.", code="malformed_json") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _only_fault(text: str) -> Fault:
    """What msgspec itself said, for the case that the second look found nothing."""
    if match := _PATH.fullmatch(text):
        return match[2], sentence(match[1])
    return "", sentence(text)


def _has_open_int(kind: inspect.Type, seen: set[type]) -> bool:
    """Whether an integer without both bounds can occur: JSON has more digits than 64 bits."""
    match kind:
        case inspect.Metadata():
            return _has_open_int(kind.type, seen)
        case inspect.IntType():
            return (kind.le is None and kind.lt is None) or (kind.ge is None and kind.gt is None)
        case inspect.UnionType():
            return any(_has_open_int(option, seen) for option in kind.types)
        case inspect.ListType() | inspect.SetType() | inspect.FrozenSetType() | inspect.VarTupleType():
            return _has_open_int(kind.item_type, seen)
        case inspect.DictType():
            return _has_open_int(kind.value_type, seen)
        case inspect.StructType() if kind.cls not in seen:
            seen.add(kind.cls)
            return any(_has_open_int(field.type, seen) for field in kind.fields)
    return False


# ------------------------------------------------------------------ query strings


def split_query(raw: bytes) -> list[tuple[str, str]]:
    """The parameters of a query string, decoded. Raises Malformed when they aren't UTF-8 or hold NUL."""
    if not raw:
        return []
    pairs: list[tuple[str, str]] = []
    found: list[Fault] = []
    pieces = raw.split(b"&")
    if len(pieces) > PARAMETERS_MAX:
        raise_malformed([("query", f"Expected at most {PARAMETERS_MAX} parameters.")])
    for piece in pieces:
        if not piece:
            continue
        name, _, value = piece.partition(b"=")
        try:
            key, text = _unquote(name), _unquote(value)
        except UnicodeDecodeError:
            found.append((f"query.{name.decode('ascii', 'replace')}", "It is not UTF-8."))
            continue
        if string_fault(key) or string_fault(text):
            found.append((f"query.{key.replace(chr(0), '')}", "It holds a NUL character."))
        pairs.append((key, text))
    if found:
        raise_malformed(found)
    return pairs


def _unquote(raw: bytes) -> str:
    return unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")


class QueryDecoder:
    """Decodes the query parameters of one operation into its structs (the operation's own, and the page's)."""

    def __init__(self, *kinds: type[msgspec.Struct]) -> None:
        self._kinds = kinds
        self._infos = [_struct_info(kind) for kind in kinds]
        self._fields: dict[str, tuple[int, inspect.Type]] = {}
        self._maps: dict[str, int] = {}
        for index, info in enumerate(self._infos):
            for field in info.fields:
                kind = _bare(field.type)
                if isinstance(kind, inspect.DictType):
                    self._maps[field.encode_name] = index
                else:
                    self._fields[field.encode_name] = (index, kind)

    def decode(self, pairs: Iterable[tuple[str, str]]) -> list[Any]:
        """One struct for each kind. Raises Malformed with every wrong parameter."""
        values: list[dict[str, Any]] = [{} for _ in self._kinds]
        unknown: list[Fault] = []
        found: list[Fault] = []
        for name, text in pairs:
            if name in self._fields:
                index, kind = self._fields[name]
                if name in values[index]:
                    found.append((f"query.{name}", "It is given more than once."))
                values[index][name] = parse(text, kind)
            elif (at := self._map_key(name)) is not None:
                _put(values[self._maps[at[0]]].setdefault(at[0], {}), at[1], text, name, found)
            else:
                unknown.append((f"query.{name}", "There is no such parameter."))
        decoded: list[Any] = []
        for value, info in zip(values, self._infos, strict=True):
            try:
                decoded.append(msgspec.convert(value, info.cls))
            except msgspec.ValidationError as refused:
                found += faults(value, info, "query") or [("query", sentence(str(refused)))]
        if unknown:
            raise_malformed(unknown + found, code="unknown_parameter")
        if found:
            raise_malformed(found)
        for struct in decoded:
            _check_range(struct)
        return decoded

    def _map_key(self, name: str) -> tuple[str, str] | None:
        """`metadata[any.key]` as (metadata, any.key)."""
        head, bracket, rest = name.partition("[")
        return (head, rest[:-1]) if bracket and head in self._maps and rest.endswith("]") else None


def _put(into: dict[str, str], key: str, text: str, name: str, found: list[Fault]) -> None:
    if into.get(key, text) != text:
        found.append((f"query.{name}", "It is given more than once, with different values."))
    into[key] = text


def _check_range(struct: Any) -> None:
    since, until = getattr(struct, "since", None), getattr(struct, "until", None)
    if since is not None and until is not None and since > until:
        raise Invalid("since is later than until.", code="invalid_range", fields=[("query.since", "Later than until.")])


def parse(text: str, kind: inspect.Type) -> Any:
    """A parameter's text as the value it stands for; the text itself when it isn't one, for the check to refuse."""
    match kind:
        case inspect.BoolType():
            return _BOOLEANS.get(text, text)
        case inspect.IntType():
            if _INT.fullmatch(text) and INT_MIN <= (number := int(text)) <= INT_MAX:
                return number
        case inspect.FloatType():
            if _FLOAT.fullmatch(text):
                return float(text)
        case inspect.DateTimeType():
            # What is no time here may be one to the converter, so it doesn't get the text.
            return parse_moment(text) or ""
        case inspect.DateType():
            return _date(text) or text
    return text


def parse_moment(text: str) -> datetime | None:
    """An RFC 3339 time, in UTC; without an offset it means UTC, a date alone means 00:00."""
    if (day := _date(text)) is not None:
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    day_text, clock, fraction, offset = match.groups()
    if offset is None or offset in "Zz":
        offset = "+00:00"
    # A plus sign that nobody percent-encoded arrives as a blank.
    iso = f"{day_text}T{clock}{(fraction or '')[:7]}{offset.replace(' ', '+')}"
    try:
        return datetime.fromisoformat(iso).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def check_moment(moment: datetime | None) -> None:
    """For a `__post_init__`: raises ValueError for a time in the first or the last year. In them lie times that UTC has
    no year for, and those that the database's driver takes for infinity."""
    if moment is not None and not MINYEAR < moment.year < MAXYEAR:
        raise ValueError("The time is out of range.")


def _date(text: str) -> date | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _struct_info(kind: type[msgspec.Struct]) -> inspect.StructType:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return info


def _bare(kind: inspect.Type) -> inspect.Type:
    """The type of a parameter without `| None` and documentation around it."""
    while True:
        if isinstance(kind, inspect.Metadata):
            kind = kind.type
        elif isinstance(kind, inspect.UnionType):
            options = [option for option in kind.types if not isinstance(option, inspect.NoneType)]
            if len(options) != 1:
                return kind
            kind = options[0]
        else:
            return kind
