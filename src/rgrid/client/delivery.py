"""How a request gets its answer, without any I/O: what goes along, what is tried again and how often. `Wire` is the
I/O underneath; there is a blocking one and one for asyncio, and `drive` runs the same code over the former."""

import io
import secrets
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from rgrid.client.problems import Refused, Unreachable, refusal

T = TypeVar("T")
CONNECT_TIMEOUT_S: Final = 10.0
READ_TIMEOUT_S: Final = 90.0
RETRY_WAITS_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
RETRY_AFTER_MAX_S: Final = 300.0
RETRY_STATUSES: Final = frozenset({429, 502, 503, 504})
BLOCK_BYTES: Final = 256 * 1024

Query = Mapping[str, object] | Iterable[tuple[str, object]]
RetryNote = Callable[[str, float], None]
Job = Callable[[], Coroutine[Any, Any, None]]


class Body(Protocol):
    """A body to stream; `rewind` makes it ready to be sent once more."""

    size_bytes: int

    def rewind(self) -> None: ...
    def read(self, size: int = -1, /) -> bytes: ...


class BytesBody(io.BytesIO):
    """A body that is in memory already."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.size_bytes = len(content)

    def rewind(self) -> None:
        self.seek(0)


class Sink(Protocol):
    """Takes a successful answer piece by piece instead of keeping it; every try begins anew."""

    def begin(self, headers: Mapping[str, str]) -> None: ...
    def write(self, block: bytes) -> None: ...
    def end(self) -> None: ...


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Broken(Exception):
    """No whole answer came. `is_refused` means that nothing listens there."""

    def __init__(self, reason: str, *, is_refused: bool = False) -> None:
        super().__init__(reason)
        self.is_refused = is_refused


class Socket(Protocol):
    """An open WebSocket."""

    async def receive(self, timeout_s: float) -> str | bytes: ...
    async def close(self) -> None: ...


class Wire(Protocol):
    """What differs between blocking and asyncio."""

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, sink: Sink | None
    ) -> Reply:
        """One try; raises Broken. Header names of the reply are in lower case."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    async def aside(self, work: Callable[[], T]) -> T:
        """Work on local files that takes a while."""
        ...

    async def together(self, jobs: Sequence[Job], at_most: int, stop: threading.Event) -> None:
        """All jobs, `at_most` at a time; the first failure sets `stop`, ends the others and is raised."""
        ...

    async def socket(self, url: str, headers: Mapping[str, str], frame_bytes_max: int) -> Socket: ...


def drive(call: Coroutine[Any, Any, T]) -> T:
    """Runs to its end what awaits nothing but a blocking wire, and so never has to be taken up again."""
    try:
        call.send(None)
    except StopIteration as over:
        result: T = over.value
        return result
    raise AssertionError("something else than the wire was awaited")


def drive_each(items: AsyncGenerator[T, None]) -> Iterator[T]:
    """The same for what comes piece by piece."""
    try:
        while True:
            try:
                item = drive(anext(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        drive(items.aclose())


def no_note(_reason: str, _wait_s: float) -> None:
    """Tries again without a word."""


class Delivery:
    """Sends requests to one service over a wire, and remembers what the service said of its position."""

    def __init__(self, wire: Wire, url: str, key: str | None, on_retry: RetryNote, waits_s: tuple[float, ...]) -> None:
        self.wire = wire
        self.url = url.rstrip("/")
        self.key = key
        self._on_retry = on_retry
        self._waits_s = waits_s
        self._has_answered = False
        self._position = 0
        self._lock = threading.Lock()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: object = None,
        headers: Mapping[str, str] | None = None,
        retry: bool = True,
    ) -> Reply:
        """One request to the service and its whole answer; raises Refused or Unreachable."""
        sent = {"Accept": "application/json", **(headers or {})}
        if self.key:
            sent["Authorization"] = f"Bearer {self.key}"
        if method == "GET" and self._position:
            # So that what this client has written is in what it reads.
            sent["Rgrid-Min-Position"] = str(self._position)
        if method == "POST":
            sent.setdefault("Idempotency-Key", secrets.token_hex(16))
        payload = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            payload = BytesBody(msgspec.json.encode(body))
        return await self.exchange(method, self._address(path, query), sent, payload, retry=retry)

    async def exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None = None,
        *,
        retry: bool = True,
        sink: Sink | None = None,
    ) -> Reply:
        """One request to any address (signed URLs may point elsewhere), tried again as CLI and API agreed."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Unreachable(url, "the address must begin with http:// or https://")
        sent = {"Accept-Encoding": "identity", "User-Agent": "rgrid-client", **headers}
        if body is not None:
            sent["Content-Length"] = str(body.size_bytes)
        elif method in ("POST", "PUT"):
            sent["Content-Length"] = "0"
        waits = iter(self._waits_s if retry else ())
        while True:
            if body is not None:
                body.rewind()
            try:
                reply = await self.wire.send(method, url, sent, body, sink)
            except Broken as broken:
                failure: Refused | Unreachable = Unreachable(f"{parts.scheme}://{parts.netloc}", str(broken))
                # Reading from an address where nothing ever answered: say so at once, waiting would not help.
                hopeless = method == "GET" and not self._has_answered and broken.is_refused
                wait_s = None if hopeless else next(waits, None)
            else:
                self._has_answered = True
                if reply.status < 400:
                    self._remember(reply.headers.get("rgrid-position", ""))
                    return reply
                failure = refusal(reply.status, reply.body, reply.headers.get("x-request-id", ""))
                again = reply.status in RETRY_STATUSES or failure.code == "idempotency_in_progress"
                wait_s = next(waits, None) if again else None
                if wait_s is not None:
                    wait_s = _retry_after_s(reply.headers.get("retry-after"), wait_s)
            if wait_s is None:
                raise failure
            self._on_retry(str(failure), wait_s)
            await self.wire.sleep(wait_s)

    def _remember(self, position: str) -> None:
        """The position in the log of our own last write."""
        if position.isdecimal():
            with self._lock:
                self._position = max(self._position, int(position))

    def _address(self, path: str, query: Query) -> str:
        pairs = query.items() if isinstance(query, Mapping) else query
        kept = [(name, _query_text(value)) for name, value in pairs if value is not None]
        return f"{self.url}{path}?{urlencode(kept)}" if kept else f"{self.url}{path}"


def decoded(reply: Reply) -> Any:
    """The JSON of an answer."""
    try:
        return msgspec.json.decode(reply.body)
    except msgspec.DecodeError:
        raise Refused(refusal(reply.status, b"", reply.headers.get("x-request-id", "")).problem) from None


def _query_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _retry_after_s(header: str | None, otherwise_s: float) -> float:
    try:
        return min(max(float(header or ""), 0.0), RETRY_AFTER_MAX_S)
    except ValueError:
        return otherwise_s
