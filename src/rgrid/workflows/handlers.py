"""Which functions HANDLER steps may name: those that installed packages register as entry points of the group
`rgrid.handlers`, under a dotted name. Their parameters are a step's, typed by their annotations."""

import inspect
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Final, get_type_hints

import msgspec

from rgrid.kernel.errors import RgridError
from rgrid.workflows.daemon_threads import DaemonThreads
from rgrid.workflows.document import ErrorCategory

log = logging.getLogger(__name__)

GROUP: Final = "rgrid.handlers"
HANDLERS_MAX: Final = 10_000
ERROR_MAX: Final = 2_000
_NAME: Final = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*", re.ASCII)
_CATEGORIES: Final[tuple[tuple[type[BaseException], ErrorCategory], ...]] = (
    (TimeoutError, "TIMEOUT"),
    (ConnectionError, "NETWORK"),
    (PermissionError, "PERMISSION"),
    (FileNotFoundError, "NOT_FOUND"),
    (MemoryError, "RESOURCE"),
)
# The end of a program and Ctrl-C are none of a handler's business, and must not end the service.
_ANY: Final[tuple[type[BaseException], ...]] = (Exception, SystemExit, KeyboardInterrupt)


class StepError(Exception):
    """For handlers to raise: the step fails with this category, which decides whether it is tried again."""

    def __init__(self, message: str, category: ErrorCategory = "UNKNOWN") -> None:
        super().__init__(message)
        self.category = category


@dataclass(frozen=True, slots=True)
class HandlerContext:
    """Given to a parameter with this annotation. `attempt_key` is the same whenever this try is begun again after a
    crash, so that an effect outside can be made once."""

    run_id: str
    step: str
    attempt: int
    attempt_key: str


class BadHandler(Exception):
    """A registered function can't serve as one; the message says why."""


@dataclass(frozen=True, slots=True)
class Registered:
    """One handler. `arguments` is the struct of its parameters, None for a function that takes any."""

    name: str
    function: Callable[..., Any]
    arguments: type[msgspec.Struct] | None
    takes_context: str | None
    description: str | None

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its parameters."""
        if self.arguments is None:
            return {"type": "object"}
        (schema,), parts = msgspec.json.schema_components([self.arguments])
        found: dict[str, Any] = parts.pop(schema["$ref"].rpartition("/")[2]) if "$ref" in schema else schema
        return {**found, "$defs": parts} if parts else found

    def bound(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name, converted. Raises StepError CONFIGURATION for what doesn't fit."""
        if self.arguments is None:
            return dict(params)
        try:
            converted = msgspec.convert(dict(params), self.arguments)
        except msgspec.ValidationError as refused:
            raise StepError(f"The parameters of {self.name} are wrong: {refused}", "CONFIGURATION") from None
        return {name: getattr(converted, name) for name in self.arguments.__struct_fields__}

    async def call(self, params: Mapping[str, Any], context: HandlerContext, threads: DaemonThreads) -> dict[str, Any]:
        """What the function answers, as JSON. Raises StepError, whatever went wrong inside."""
        arguments = self.bound(params)
        if self.takes_context is not None:
            arguments[self.takes_context] = context
        try:
            if inspect.iscoroutinefunction(self.function):
                answer = await self.function(**arguments)
            else:
                answer = await threads.run(lambda: self.function(**arguments))
                if inspect.isawaitable(answer):
                    answer = await answer
            return self._as_object(answer)
        except StepError:
            raise
        except _ANY as error:  # The code is the user's: any error of it is the step's.
            log.info("handler %s failed", self.name, exc_info=error)
            raise StepError(told(error), category_of(error)) from error

    def _as_object(self, answer: object) -> dict[str, Any]:
        plain = {} if answer is None else msgspec.to_builtins(answer, str_keys=True)
        if not isinstance(plain, dict):
            raise StepError(
                f"The handler {self.name} answered with {type(answer).__name__}, not an object.", "INTERNAL"
            )
        if b"\\u0000" in msgspec.json.encode(plain):
            raise StepError(f"The answer of the handler {self.name} holds a NUL character.", "INTERNAL")
        return plain


class Handlers:
    """The handlers by name, and why some that should be there are not."""

    def __init__(self, found: Mapping[str, Callable[..., Any]], broken: Mapping[str, str] | None = None) -> None:
        """Raises BadHandler for a function that can't serve as a handler."""
        self._found = {name: registered(name, function) for name, function in found.items()}
        self.broken: dict[str, str] = dict(broken or {})

    def get(self, name: str) -> Registered:
        """Raises StepError CONFIGURATION for a name that nothing is registered under."""
        if name in self.broken:
            raise StepError(f"The handler {name} can't be used: {self.broken[name]}", "CONFIGURATION")
        if name not in self._found:
            raise StepError(f"No installed package registers the handler {name}.", "CONFIGURATION")
        return self._found[name]

    def schemas(self) -> dict[str, dict[str, Any]]:
        """The JSON Schema of each handler's parameters."""
        return {name: found.schema for name, found in sorted(self._found.items())}


def installed() -> Handlers:
    """What the installed packages register. One that can't be imported is logged, and named to whoever asks for it."""
    functions: dict[str, Callable[..., Any]] = {}
    broken: dict[str, str] = {}
    for entry in list(entry_points(group=GROUP))[:HANDLERS_MAX]:
        try:
            function = entry.load()
            registered(entry.name, function)
        except Exception as error:  # Importing runs code of others, which may raise anything.
            log.error("the handler %s (%s) can't be used", entry.name, entry.value, exc_info=error)
            broken[entry.name] = told(error)
        else:
            functions[entry.name] = function
    return Handlers(functions, broken)


def registered(name: str, function: Callable[..., Any]) -> Registered:
    """Raises BadHandler for a name or a function that can't serve."""
    if not _NAME.fullmatch(name):
        raise BadHandler(f"{name!r} is no dotted name.")
    if not callable(function):
        raise BadHandler(f"{name} is no function.")
    hints = get_type_hints(function)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    context: str | None = None
    is_open = False
    for parameter in inspect.signature(function).parameters.values():
        kind = hints.get(parameter.name, Any)
        if kind is HandlerContext:
            context = parameter.name
        elif parameter.kind is parameter.VAR_KEYWORD:
            is_open = True
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            raise BadHandler(f"{name} takes {parameter.name} by position; parameters of steps have names.")
        elif parameter.default is parameter.empty:
            fields.append((parameter.name, kind))
        else:
            fields.append((parameter.name, kind, _default(parameter.default)))
    if is_open and fields:
        raise BadHandler(f"{name} takes named parameters and any others; it must be one or the other.")
    arguments = None if is_open else msgspec.defstruct("Parameters", fields, kw_only=True, forbid_unknown_fields=True)
    return Registered(name, function, arguments, context, inspect.getdoc(function))


def _default(value: Any) -> Any:
    """A mutable default must be made anew each time, as msgspec wants it."""
    return msgspec.field(default_factory=lambda: value) if isinstance(value, list | dict | set) else value


def told(error: BaseException) -> str:
    """An error in one line of bounded length."""
    said = error.detail if isinstance(error, RgridError) else str(error)
    return f"{type(error).__name__}: {said}"[:ERROR_MAX]


def category_of(error: BaseException) -> ErrorCategory:
    """What kind of error an exception stands for."""
    for kind, category in _CATEGORIES:
        if isinstance(error, kind):
            return category
    return "UNKNOWN"
