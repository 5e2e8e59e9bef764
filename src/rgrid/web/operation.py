"""One declaration for each HTTP operation: routing, checks and the OpenAPI document all come from it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec

from rgrid.eventstore.append import Rider
from rgrid.kernel.errors import NotFound
from rgrid.kernel.ids import new_command_id
from rgrid.kernel.messages import Cause
from rgrid.web.conditional import AsOf
from rgrid.web.decoding import Formats, Written
from rgrid.web.pages import PageRequest, page_struct
from rgrid.web.principal import Auth, Principal

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Flag = Literal["page", "as_of", "etag", "if_match", "idem", "mutates"]
Kind = Literal["text", "binary", "sse", "html"]
Q = TypeVar("Q")
B = TypeVar("B")

MEDIA_TYPES: Final[Mapping[str, str]] = {
    "text": "text/plain; charset=utf-8",
    "binary": "application/octet-stream",
    "sse": "text/event-stream",
    "html": "text/html; charset=utf-8",
}
# Error statuses implied by what an operation is; its own `errors` come on top, `never` takes away.
IMPLIED: Final[Mapping[str, tuple[int, ...]]] = {
    "secured": (400, 401, 403, 429, 503),
    "position": (422, 503),
    "path": (404,),
    "query": (422,),
    "body": (400, 413, 415, 422),
    "page": (400, 503),
    "as_of": (400,),
    "idem": (400, 409),
    "if_match": (412,),
}


class ActionResponse(msgspec.Struct, kw_only=True):
    """What an action did: `status` is the state the resource is in now."""

    id: str
    status: str
    message: str


class NoQuery(msgspec.Struct, frozen=True):
    """No query parameters."""


class Streamed:
    """The body type of an operation that reads the raw bytes itself, through `Call.receive_stream`."""


@dataclass(slots=True)
class Reply:
    """What a handler answers. A struct body goes out as JSON; `bytes` and an iterator as they are.

    `etag` is the resource's version; `position` the log position of the last event written here (0 or None: none);
    `stored` replaces the body in what a repeated Idempotency-Key gets (a key's secret is shown once).
    """

    status: int
    body: Any = None
    etag: int | str | None = None
    position: int | None = None
    as_of_position: int | None = None
    location: str | None = None
    media_type: str | None = None
    headers: Sequence[tuple[str, str]] = ()
    stored: Any = None


@dataclass(slots=True)
class Call(Generic[Q, B]):
    """A request that has passed every check: credentials, scope, parameters, body."""

    actor: Principal
    path: dict[str, str]
    query: Q
    body: B
    request_id: str
    method: str
    url_path: str
    client_address: str | None = None
    traceparent: str | None = None
    page: PageRequest = field(default_factory=PageRequest)
    as_of: AsOf | None = None
    if_match: int | None = None
    create_only: bool = False
    min_position: int | None = None
    last_event_id: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    riders: Callable[[Reply], tuple[Rider, ...]] = lambda reply: ()
    """The statements that keep this reply for a repeated Idempotency-Key, in the transaction of its events."""
    receive_stream: Callable[[], AsyncIterator[bytes]] | None = None
    written: Written | None = None
    """How the body was written, unless that is JSON."""

    def cause(self) -> Cause:
        """Who wants it and why: one for each command, because each has an id of its own."""
        return Cause(
            actor=self.actor.actor,
            command_id=new_command_id(),
            correlation_id=self.request_id,
            request_id=self.request_id,
            traceparent=self.traceparent,
        )


Handler = Callable[[Call[Any, Any]], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """`ok` maps each success status to a struct type, `Page[T]`, "text", "binary", "sse" or "html"; `body_formats` are
    what a body may be written in beside JSON, by media type."""

    method: Method
    path: str
    auth: Auth
    handler: Handler
    ok: Mapping[int, Any]
    query: type[msgspec.Struct] = NoQuery
    body: Any = None
    body_optional: bool = False
    body_max_bytes: int | None = None
    body_formats: Formats = field(default_factory=dict)
    flags: frozenset[Flag] = frozenset()
    errors: tuple[int, ...] = ()
    never: tuple[int, ...] = ()
    sort: tuple[str, ...] = ()
    order_default: Literal["asc", "desc"] = "desc"
    limit_default: int = 20
    limit_max: int = 1000
    tags: tuple[str, ...] = ()
    summary: str = ""
    description: str = ""
    hidden: bool = False

    def __post_init__(self) -> None:
        assert self.path.startswith("/"), self.path
        assert self.ok, f"{self.name}: no success status"
        assert self.body is None or self.method != "GET", f"{self.name}: a GET has no body"
        assert not self.sort or "page" in self.flags, f"{self.name}: sort without page"
        assert "if_match" not in self.flags or self.method in ("PUT", "PATCH", "DELETE"), self.name

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def path_names(self) -> tuple[str, ...]:
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))

    @property
    def has_query(self) -> bool:
        return bool(self.flags & {"page", "as_of"}) or bool(self.query.__struct_fields__)

    @property
    def waits_for_position(self) -> bool:
        """Whether Rgrid-Min-Position means something here."""
        return self.method == "GET" and self.auth != "open"

    @property
    def error_statuses(self) -> tuple[int, ...]:
        """Every error status that the operation can answer with."""
        statuses = set(self.errors)
        if self.auth != "open":
            statuses.update(IMPLIED["secured"])
        if self.waits_for_position:
            statuses.update(IMPLIED["position"])
        if self.path_names:
            statuses.update(IMPLIED["path"])
        if self.has_query:
            statuses.update(IMPLIED["query"])
        if self.body is not None:
            statuses.update(IMPLIED["body"])
        for flag in ("page", "as_of", "idem", "if_match"):
            if flag in self.flags:
                statuses.update(IMPLIED[flag])
        statuses.add(500)
        return tuple(sorted(statuses - set(self.never)))


class AsOfParameter(msgspec.Struct, frozen=True):
    """The query parameter of an answer about the past."""

    as_of: Annotated[str | None, msgspec.Meta(description="An RFC 3339 time or an event position.")] = None


def query_kinds(operation: Operation) -> list[type[msgspec.Struct]]:
    """The structs that an operation's query parameters are decoded into: its own, then the page's, then as_of."""
    kinds: list[type[msgspec.Struct]] = [operation.query]
    if "page" in operation.flags:
        kinds.append(page_struct(operation.sort, operation.order_default, operation.limit_default, operation.limit_max))
    if "as_of" in operation.flags:
        kinds.append(AsOfParameter)
    return kinds


def missing(what: str, entity_id: str) -> NotFound:
    """The one sentence for what isn't there: `Schedule not found: sched_…`."""
    return NotFound(f"{what} not found: {entity_id}")
