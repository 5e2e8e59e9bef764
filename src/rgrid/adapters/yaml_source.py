"""Documents that people write, in YAML or JSON: their data, and the line that each field stands on.

YAML is read by the core schema of version 1.2, so `no` and `12:30` are texts; keys are texts, tags and endless aliases
are refused.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import yaml

NODES_MAX: Final = 50_000
NESTED_MAX: Final = 100
DOCUMENTS_MAX: Final = 1000
TEXT_MAX_BYTES: Final = 16 * 1024 * 1024
_CORE: Final[tuple[tuple[re.Pattern[str], Any], ...]] = (
    (re.compile(r"~|null|Null|NULL|"), lambda text: None),
    (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text.lower() == "true"),
    (re.compile(r"[-+]?[0-9]{1,4000}"), int),
    (re.compile(r"0o[0-7]{1,1000}|0x[0-9a-fA-F]{1,1000}"), lambda text: int(text, 0)),
    (re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"), float),
)
_TAG: Final = "tag:yaml.org,2002:"
_JSON_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[][{},:]|[^\s"\][{},:]+')
# The parser in C where the package has it; both say where everything stands.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class BadSource(ValueError):
    """A text that is neither YAML nor JSON. The message is a sentence; `line` counts from 1."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(frozen=True, slots=True)
class Source:
    """One document. `lines` are those of the fields, by paths such as `steps[2].type`; "" is the document."""

    data: Any
    lines: Mapping[str, int] = field(default_factory=dict)

    def line(self, path: str) -> int | None:
        """Where a field stands; for one that isn't there, where it would have to."""
        while path not in self.lines and path:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path)


def read(text: str | bytes) -> Source:
    """The one document of a text. Raises BadSource."""
    found = read_all(text)
    if len(found) != 1:
        line = found[1].line("") if found else None
        raise BadSource("There is more than one document." if found else "There is no document.", line)
    return found[0]


def read_all(text: str | bytes) -> list[Source]:
    """Every document of a text that separates them by `---`. Raises BadSource."""
    plain = _decoded(text)
    try:
        data = msgspec.json.decode(plain)
    except (msgspec.DecodeError, RecursionError):
        # Then it is YAML, which has braces and brackets, too.
        return list(_documents(plain))
    return [Source(data, dict(_lines_of_json(plain)))]


def _decoded(text: str | bytes) -> str:
    if len(text) > TEXT_MAX_BYTES:
        raise BadSource(f"The text takes more than {TEXT_MAX_BYTES >> 20} MiB.", None)
    if isinstance(text, str):
        return text
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as bad:
        raise BadSource("The text is not in UTF-8.", text.count(b"\n", 0, bad.start) + 1) from None


def _documents(text: str) -> Iterator[Source]:
    count = 0
    events = _events(text)
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            count += 1
            if count > DOCUMENTS_MAX:
                raise BadSource(f"There are more than {DOCUMENTS_MAX} documents.", _line(event))
            source = _Builder(events).document()
            if source.data is not None or count == 1:
                yield source


def _events(text: str) -> Iterator[Any]:
    try:
        yield from yaml.parse(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as bad:
        mark = bad.problem_mark or bad.context_mark
        said = bad.problem or bad.context or "it can't be read"
        raise BadSource(f"Not valid YAML: {said}.", None if mark is None else mark.line + 1) from None
    except yaml.reader.ReaderError as bad:
        raise BadSource(f"Not valid YAML: {bad.reason}.", text.count("\n", 0, bad.position) + 1) from None
    except (yaml.YAMLError, UnicodeError):
        raise BadSource("Not valid YAML.", None) from None


class _Builder:
    """Makes a document of its events, without ever going deeper than it may."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._lines: dict[str, int] = {}
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._nodes = 0

    def document(self) -> Source:
        event = next(self._events)
        self._lines[""] = _line(event)
        data = self._node(event, "", 0)
        end = next(self._events)
        assert isinstance(end, yaml.DocumentEndEvent)
        return Source(data, self._lines)

    def _node(self, event: Any, path: str, depth: int) -> Any:
        before = self._nodes
        self._count(event, 1)
        if depth > NESTED_MAX:
            raise BadSource(f"Values are nested deeper than {NESTED_MAX}.", _line(event))
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise BadSource(f"Nothing is called &{event.anchor} before *{event.anchor}.", _line(event))
            value, nodes = self._anchors[event.anchor]
            self._count(event, nodes)
            return value
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
        elif event.tag not in (None, "!", f"{_TAG}seq", f"{_TAG}map"):
            raise BadSource(f"Tags such as {event.tag[:80]} mean nothing here.", _line(event))
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(path, depth)
        else:
            value = self._mapping(path, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._nodes - before
        return value

    def _sequence(self, path: str, depth: int) -> list[Any]:
        value: list[Any] = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            here = f"{path}[{len(value)}]"
            self._lines[here] = _line(event)
            value.append(self._node(event, here, depth + 1))
        return value

    def _mapping(self, path: str, depth: int) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            if not isinstance(event, yaml.ScalarEvent):
                raise BadSource("A key must be a text.", _line(event))
            if event.value == "<<" and event.implicit[0]:
                raise BadSource("Merge keys (<<) are not part of YAML 1.2; write the fields out.", _line(event))
            if event.value in value:
                raise BadSource(f"The key {event.value[:80]} is there twice.", _line(event))
            here = f"{path}.{event.value}" if path else event.value
            self._count(event, 1)
            self._lines[here] = _line(event)
            value[event.value] = self._node(next(self._events), here, depth + 1)
        return value

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > NODES_MAX:
            raise BadSource(f"The document has more than {NODES_MAX} values.", _line(event))


def _scalar(event: Any) -> Any:
    text: str = event.value
    if event.tag in ("!", f"{_TAG}str") or (event.tag is None and not event.implicit[0]):
        return text
    if event.tag is not None and event.tag.removeprefix(_TAG) not in ("int", "float", "bool", "null"):
        raise BadSource(f"Tags such as {event.tag[:80]} mean nothing here.", _line(event))
    for pattern, convert in _CORE:
        if pattern.fullmatch(text):
            return convert(text)
    if event.tag is not None:
        raise BadSource(f"{text[:80]} is no {event.tag.removeprefix(_TAG)}.", _line(event))
    return text


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1


def _lines_of_json(text: str) -> Iterator[tuple[str, int]]:
    """For a text that is known to be JSON."""
    line, at = 1, 0
    stack: list[tuple[str, int]] = []  # the path of each open value, and the index of its next item (-1: a map)
    path, key = "", False
    for match in _JSON_TOKEN.finditer(text):
        line, at = line + text.count("\n", at, match.start()), match.start()
        part = match[0]
        if part in "]}":
            stack.pop()
            continue
        if part in ",:":
            key = part == "," and stack[-1][1] < 0
            continue
        if key:
            name = msgspec.json.decode(part)
            path = f"{stack[-1][0]}.{name}" if stack[-1][0] else name
            yield path, line
            key = False
            continue
        if stack and stack[-1][1] >= 0:
            above, index = stack[-1]
            path = f"{above}[{index}]"
            stack[-1] = above, index + 1
            yield path, line
        elif not stack:
            yield "", line
        if part in "[{":
            stack.append((path, 0 if part == "[" else -1))
            key = part == "{"
