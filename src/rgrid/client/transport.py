"""HTTP for the client on the standard library alone: one kept connection per thread and host, streamed bodies,
timeouts, and the repeated tries that a service in the middle of a restart needs."""

import http.client
import io
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlencode, urlsplit

import msgspec

from rgrid.client.problems import Refused, Unreachable, refusal

CONNECT_TIMEOUT_S: Final = 10.0
READ_TIMEOUT_S: Final = 90.0
RETRY_WAITS_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
RETRY_AFTER_MAX_S: Final = 300.0
RETRY_STATUSES: Final = frozenset({429, 502, 503, 504})
BLOCK_BYTES: Final = 256 * 1024

Query = Mapping[str, object] | Iterable[tuple[str, object]]
RetryNote = Callable[[str, float], None]


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


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


def no_note(_reason: str, _wait_s: float) -> None:
    """Tries again without a word."""


class Transport:
    """Sends requests to one service. Safe to use from several threads: each has its own connections."""

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        on_retry: RetryNote = no_note,
        waits_s: tuple[float, ...] = RETRY_WAITS_S,
    ) -> None:
        self.url = url.rstrip("/")
        self.key = key
        self._on_retry = on_retry
        self._waits_s = waits_s
        self._local = threading.local()
        self._open: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._has_answered = False
        self._position = 0

    def call(
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
        return self.exchange(method, self._address(path, query), sent, payload, retry=retry)

    def exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None = None,
        *,
        retry: bool = True,
        consume: Callable[[http.client.HTTPResponse], None] | None = None,
    ) -> Reply:
        """One request to any address (signed URLs may point elsewhere), tried again as CLI and API agreed.

        `consume` reads a successful body piece by piece instead of keeping it; it starts anew with each try.
        """
        waits = iter(self._waits_s if retry else ())
        while True:
            try:
                reply = self._once(method, url, headers, body, consume)
            except (OSError, http.client.HTTPException) as error:
                failure: Refused | Unreachable = Unreachable(_origin(url), _reason(error))
                # Reading from an address where nothing ever answered: say so at once, waiting would not help.
                hopeless = method == "GET" and not self._has_answered and isinstance(error, ConnectionRefusedError)
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
            time.sleep(wait_s)

    def close(self) -> None:
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()

    def _remember(self, position: str) -> None:
        """The position in the log of our own last write."""
        if position.isdecimal():
            with self._lock:
                self._position = max(self._position, int(position))

    def _address(self, path: str, query: Query) -> str:
        pairs = query.items() if isinstance(query, Mapping) else query
        kept = [(name, _query_text(value)) for name, value in pairs if value is not None]
        return f"{self.url}{path}?{urlencode(kept)}" if kept else f"{self.url}{path}"

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None,
        consume: Callable[[http.client.HTTPResponse], None] | None,
    ) -> Reply:
        connection, reused = self._connection(url)
        # A DELETE can't be told apart from its repetition, so it never goes out on a connection that may be stale.
        if reused and method == "DELETE":
            connection.close()
            reused = False
        try:
            return self._send(connection, method, url, headers, body, consume)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            connection.close()
            if not reused:
                raise
            return self._send(connection, method, url, headers, body, consume)
        except BaseException:
            # Half-read answers must not be taken for the answer to the next request.
            connection.close()
            raise

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None,
        consume: Callable[[http.client.HTTPResponse], None] | None,
    ) -> Reply:
        if connection.sock is None:
            _connect(connection)
        parts = urlsplit(url)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        sent = {"Accept-Encoding": "identity", "User-Agent": "rgrid-client", **headers}
        if body is not None:
            body.rewind()
            sent["Content-Length"] = str(body.size_bytes)
        elif method in ("POST", "PUT"):
            sent["Content-Length"] = "0"
        try:
            connection.request(method, target, body=body, headers=sent)
        except (BrokenPipeError, ConnectionResetError):
            if body is None:
                raise
            # A server that refuses a body answers before it has read all of it: that answer is what counts.
        response = connection.getresponse()
        lowered = {name.lower(): value for name, value in response.getheaders()}
        if consume is not None and response.status < 400:
            consume(response)
            content = b""
        else:
            content = response.read()
        if response.will_close:
            connection.close()
        return Reply(response.status, lowered, content)

    def _connection(self, url: str) -> tuple[http.client.HTTPConnection, bool]:
        parts = urlsplit(url)
        kept: dict[str, http.client.HTTPConnection] = self._local.__dict__.setdefault("kept", {})
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in kept:
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise Unreachable(url, "the address must begin with http:// or https://")
            connection = (
                http.client.HTTPSConnection(
                    parts.hostname, parts.port, context=ssl.create_default_context(), blocksize=BLOCK_BYTES
                )
                if parts.scheme == "https"
                else http.client.HTTPConnection(parts.hostname, parts.port, blocksize=BLOCK_BYTES)
            )
            kept[origin] = connection
            with self._lock:
                self._open.append(connection)
        return kept[origin], kept[origin].sock is not None


def _connect(connection: http.client.HTTPConnection) -> None:
    connection.timeout = CONNECT_TIMEOUT_S
    connection.connect()
    assert connection.sock is not None
    connection.sock.settimeout(READ_TIMEOUT_S)


def decoded(reply: Reply) -> Any:
    """The JSON of an answer."""
    try:
        return msgspec.json.decode(reply.body)
    except msgspec.DecodeError:
        raise Refused(refusal(reply.status, b"", reply.headers.get("x-request-id", "")).problem) from None


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, socket.gaierror):
        return "the host name is unknown"
    if isinstance(error, TimeoutError):
        return "it took too long to answer"
    if isinstance(error, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError):
        return "the connection broke off"
    return str(error) or type(error).__name__


def _query_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _retry_after_s(header: str | None, otherwise_s: float) -> float:
    try:
        return min(max(float(header or ""), 0.0), RETRY_AFTER_MAX_S)
    except ValueError:
        return otherwise_s
