"""The blocking wire, on the standard library alone: one kept connection per thread and host, streamed bodies."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from rgrid.client.delivery import (
    BLOCK_BYTES,
    CONNECT_TIMEOUT_S,
    READ_TIMEOUT_S,
    RETRY_WAITS_S,
    Body,
    Broken,
    Delivery,
    Job,
    Query,
    Reply,
    RetryNote,
    Sink,
    decoded,
    drive,
    no_note,
)

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

__all__ = ["BlockingWire", "Transport", "decoded"]
T = TypeVar("T")


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
        self._wire = BlockingWire()
        self.delivery = Delivery(self._wire, url, key, on_retry, waits_s)
        self.url = self.delivery.url
        self.key = key

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
        return drive(self.delivery.call(method, path, query=query, body=body, headers=headers, retry=retry))

    def close(self) -> None:
        self._wire.close()


class BlockingSocket:
    """A WebSocket that blocks."""

    def __init__(self, opening: AbstractContextManager["ClientConnection"]) -> None:
        self._stack = ExitStack()
        self._connection = self._stack.enter_context(opening)

    async def receive(self, timeout_s: float) -> str | bytes:
        return self._connection.recv(timeout=timeout_s)

    async def close(self) -> None:
        self._stack.close()


class BlockingWire:
    """Nothing in here ever suspends: each call blocks until it is done."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._open: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - blocking is what this wire is for

    async def aside(self, work: Callable[[], T]) -> T:
        return work()

    async def together(self, jobs: Sequence[Job], at_most: int, stop: threading.Event) -> None:
        from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

        pool = ThreadPoolExecutor(at_most, thread_name_prefix="rgrid-client")
        try:
            done, _ = wait([pool.submit(_run, job) for job in jobs], return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    async def socket(self, url: str, headers: Mapping[str, str], frame_bytes_max: int) -> BlockingSocket:
        from websockets.sync.client import connect

        opening = connect(
            url,
            additional_headers=headers,
            open_timeout=CONNECT_TIMEOUT_S,
            close_timeout=1,
            max_size=frame_bytes_max,
            proxy=None,
        )
        return BlockingSocket(opening)

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, sink: Sink | None
    ) -> Reply:
        try:
            return self._send(method, url, headers, body, sink)
        except (OSError, http.client.HTTPException) as error:
            raise Broken(_reason(error), is_refused=isinstance(error, ConnectionRefusedError)) from error

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: Body | None, sink: Sink | None) -> Reply:
        connection, reused = self._connection(url)
        # A DELETE can't be told apart from its repetition, so it never goes out on a connection that may be stale.
        if reused and method == "DELETE":
            connection.close()
            reused = False
        try:
            return _exchange(connection, method, url, headers, body, sink)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            connection.close()
            if not reused:
                raise
            if body is not None:
                body.rewind()
            return _exchange(connection, method, url, headers, body, sink)
        except BaseException:
            # Half-read answers must not be taken for the answer to the next request.
            connection.close()
            raise

    def _connection(self, url: str) -> tuple[http.client.HTTPConnection, bool]:
        parts = urlsplit(url)
        kept: dict[str, http.client.HTTPConnection] = self._local.__dict__.setdefault("kept", {})
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in kept:
            assert parts.hostname is not None
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


def _run(job: Job) -> None:
    drive(job())


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: Body | None,
    sink: Sink | None,
) -> Reply:
    if connection.sock is None:
        connection.timeout = CONNECT_TIMEOUT_S
        connection.connect()
        assert connection.sock is not None
        connection.sock.settimeout(READ_TIMEOUT_S)
    parts = urlsplit(url)
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    try:
        connection.request(method, target, body=body, headers=headers)
    except (BrokenPipeError, ConnectionResetError):
        if body is None:
            raise
        # A server that refuses a body answers before it has read all of it: that answer is what counts.
    response = connection.getresponse()
    lowered = {name.lower(): value for name, value in response.getheaders()}
    content = b""
    if sink is not None and response.status < 400:
        sink.begin(lowered)
        while block := response.read(BLOCK_BYTES):
            sink.write(block)
        sink.end()
    else:
        content = response.read()
    if response.will_close:
        connection.close()
    return Reply(response.status, lowered, content)


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
