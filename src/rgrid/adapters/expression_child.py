"""What evaluates expressions: a process of its own, so that the kernel can end an expression that takes too long.

Started by `expressions.py` as a file of its own, with an empty environment. Reads requests from its standard input,
each a length of four bytes and then JSON, and answers them in the same way. An expression that is over its bounds ends
the process; whoever asked sees that.
"""

import base64
import importlib.util
import math
import os
import resource
import signal
import sys
import types
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import msgspec

CPU_MAX_S: Final = 0.1
REQUEST_CPU_MAX_S: Final = 1.0
MEMORY_MAX_BYTES: Final = 512 * 1024 * 1024
RESULT_MAX_BYTES: Final = 1024 * 1024
MESSAGE_MAX: Final = 300
_BUILT_IN: Final = frozenset(
    {"size", "has", "all", "exists", "exists_one", "map", "filter", "contains", "startsWith", "endsWith", "matches"}
    | {"int", "uint", "double", "string", "bytes", "bool", "timestamp", "duration", "type", "dyn", "date_add"}
    | {"getFullYear", "getMonth", "getDayOfMonth", "getDate", "getDayOfWeek", "getDayOfYear", "getHours", "getMinutes"}
    | {"getSeconds", "getMilliseconds", "of", "ofNonZeroValue", "none", "hasValue", "value", "or", "orValue", "optMap"}
)

_WANTED: Final[Mapping[str, tuple[Any, str]]] = {
    "any": (object, "anything"),
    "condition": (bool, "true or false"),
    "time": ((datetime, str), "a time"),
    "list": (list, "a list"),
}


def load() -> Any:
    """The package's evaluator without its command line, which takes longer to load than everything else together."""
    spec = importlib.util.find_spec("cel")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    package = types.ModuleType("cel")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["cel"] = package
    from cel import cel, stdlib

    return cel, stdlib


class Refused(Exception):
    """A result that can't be handed out. `category` as for the one who asked."""

    def __init__(self, category: str, message: str) -> None:
        super().__init__(message)
        self.category = category


class Language:
    """The language as expressions see it: the package's own, its extensions, and what is added here."""

    def __init__(self, cel: Any, stdlib: Any) -> None:
        self._cel = cel
        self._stdlib = stdlib
        self.functions = _BUILT_IN | {name.rpartition(".")[2] for name in stdlib.STDLIB_FUNCTIONS}

    def context(self, variables: Mapping[str, Any]) -> Any:
        context = self._cel.Context(variables)
        self._stdlib.add_stdlib_to_context(context)
        context.add_function("string", _string)
        context.add_function("date_add", _date_add)
        return context

    def value(self, expression: str, context: Any) -> bytes:
        """What an expression comes to, as JSON. Raises Refused and what the package raises."""
        result = msgspec.json.encode(self._plain(self._cel.compile(expression).execute(context)))
        if len(result) > RESULT_MAX_BYTES:
            raise Refused("RESOURCE", f"The result takes more than {RESULT_MAX_BYTES // 1024 // 1024} MiB.")
        return result

    def fault(self, expression: str, samples: list[dict[str, Any]], wants: str) -> str | None:
        """What is wrong with an expression before anything is known: its spelling, a function that isn't there, types
        that don't go together in one of the samples, or what comes of it."""
        try:
            program = self._cel.compile(expression)
        except (ValueError, RuntimeError) as bad:
            return said(bad)
        unknown = [name for name in program.functions() if name[0].isalpha() and name not in self.functions]
        if unknown:
            return f"There is no function {unknown[0]}."
        for sample in samples:
            try:
                result = program.execute(self.context(sample))
            except TypeError as bad:
                return f"{said(bad)}{_shown(sample)}"
            except (ArithmeticError, LookupError, RuntimeError, ValueError):
                # That may be for the value of the sample.
                continue
            kinds, told = _WANTED[wants]
            if not isinstance(result, kinds):
                return f"It must be {told}.{_shown(sample)}"
        return None

    def _plain(self, value: Any) -> Any:
        """As JSON has it."""
        match value:
            case None | bool() | int() | str():
                return value
            case float():
                if not math.isfinite(value):
                    raise Refused("CONFIGURATION", f"The result is {value}, which is no number.")
                return value
            case datetime():
                return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
            case timedelta():
                return f"{value.total_seconds():f}".rstrip("0").rstrip(".") + "s"
            case bytes():
                return base64.b64encode(value).decode()
            case list() | tuple():
                return [self._plain(one) for one in value]
            case dict():
                return {_key(name): self._plain(one) for name, one in value.items()}
            case self._cel.OptionalValue():
                return self._plain(value.value()) if value.has_value() else None
        raise Refused("CONFIGURATION", f"The result is a {type(value).__name__}, which JSON doesn't have.")


def said(error: Exception) -> str:
    """What the package says, in a sentence."""
    if isinstance(error, KeyError):
        return f"There is no {error.args[0]}." if error.args else "There is no such member."
    text = str(error)
    if "ERROR: <input>:" in text:
        place = text.partition("ERROR: <input>:")[2].split("\n")[0]
        position, _, why = place.partition(": ")
        line, _, column = position.partition(":")
        text = f"line {line}, column {column}: {why}" if column else place
    for hint in (" expecting {", " Check ", " CEL does not coerce", " Convert explicitly"):
        text = text.partition(hint)[0]
    text = " ".join(text.split())[:MESSAGE_MAX].rstrip(". ")
    return f"{text[:1].upper()}{text[1:]}."


def _shown(sample: Mapping[str, Any]) -> str:
    values = ", ".join(f"params.{name} = {msgspec.json.encode(one).decode()}" for name, one in sample["params"].items())
    return f" With {values}."[:MESSAGE_MAX] if values else ""


def _key(name: Any) -> str:
    return name if isinstance(name, str) else str(name).lower() if isinstance(name, bool) else str(name)


def _string(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    raise ValueError(f"string() is not defined for {type(value).__name__}")


def _date_add(day: Any, days: Any) -> Any:
    """A date or a time so many days later: of the same kind as the one given."""
    if isinstance(days, bool) or not isinstance(days, int):
        raise ValueError("date_add() needs a whole number of days")
    more = timedelta(days=days)
    if isinstance(day, datetime):
        return day + more
    if not isinstance(day, str):
        raise ValueError("date_add() needs a timestamp, or a text like 2026-01-09")
    if len(day) == len("2026-01-09"):
        return (date.fromisoformat(day) + more).isoformat()
    return (datetime.fromisoformat(day) + more).isoformat().replace("+00:00", "Z")


class Bounded:
    """Ends this process, by the kernel, when the work within takes too much of the processor."""

    def __init__(self) -> None:
        self._left = REQUEST_CPU_MAX_S

    def __enter__(self) -> None:
        self._given = max(min(CPU_MAX_S, self._left), 0.001)
        signal.setitimer(signal.ITIMER_PROF, self._given)

    def __exit__(self, *_error: object) -> None:
        left, _ = signal.setitimer(signal.ITIMER_PROF, 0)
        self._left -= self._given - left


def answer(language: Language, request: Mapping[str, Any]) -> bytes:
    """For `expressions`: `[[value | null, category | null, message | null], …]` up to the first that fails. For
    `checks` (expression and samples): `[fault | null, …]`."""
    bounded = Bounded()
    if "checks" in request:
        faults = []
        for expression, samples, wants in request["checks"]:
            with bounded:
                faults.append(language.fault(expression, samples, wants))
        return msgspec.json.encode(faults)
    results: list[tuple[msgspec.Raw | None, str | None, str | None]] = []
    context, total = None, 0
    for expression in request["expressions"]:
        try:
            with bounded:
                context = context or language.context(request["variables"])
                result = language.value(expression, context)
        except Refused as refused:
            return _failed(results, refused.category, str(refused))
        except (MemoryError, RecursionError):
            return _failed(results, "RESOURCE", "The expression needs more memory than it may have.")
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as wrong:
            if "MemoryError" in str(wrong):
                return _failed(results, "RESOURCE", "The expression needs more memory than it may have.")
            return _failed(results, "CONFIGURATION", said(wrong))
        results.append((msgspec.Raw(result), None, None))
        total += len(result)
        if total > RESULT_MAX_BYTES:
            return _failed(results[:-1], "RESOURCE", "The results together take more than 1 MiB.")
    return msgspec.json.encode(results)


def _failed(results: list[Any], category: str, message: str) -> bytes:
    return msgspec.json.encode([*results, (None, category, message)])


def serve(read: Callable[[int], bytes], write: Callable[[bytes], int]) -> None:
    """Until the one who asks closes its end."""
    language = Language(*load())
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX_BYTES, MEMORY_MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while header := _exactly(read, 4):
        request = msgspec.json.decode(_exactly(read, int.from_bytes(header)))
        reply = answer(language, request)
        data = memoryview(len(reply).to_bytes(4) + reply)
        while data:
            data = data[write(bytes(data[: 1024 * 1024])) :]


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (part := read(min(size, 1024 * 1024))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


if __name__ == "__main__":
    serve(lambda size: os.read(0, size), lambda data: os.write(1, data))
