"""One request and its answer: what every part of the plumbing needs to know about it, and the only way to respond."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Final

from rgrid.kernel.clock import monotonic_ms
from rgrid.kernel.errors import TooLarge
from rgrid.kernel.ids import new_ulid
from rgrid.web.principal import Principal
from rgrid.web.problems import Answer
from rgrid.web.rate_limit import Allowance

ASGIScope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[ASGIScope, Receive, Send], Awaitable[None]]

LINGER_MAX_S: Final = 2.0
LINGER_MAX_BYTES: Final = 64 * 1024 * 1024
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
_NO_STORE: Final = (b"cache-control", b"no-store")
_BODILESS: Final = (204, 304)


class ClientGone(Exception):
    """The client went away before its request was complete; nobody is left to answer."""


class Headers(Mapping[str, str]):
    """The headers of a request, decoded when somebody asks: most of them nobody ever does."""

    __slots__ = ("_pairs", "_raw")

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs
        self._raw = dict(pairs)

    def __getitem__(self, name: str) -> str:
        key = name.encode("latin-1")
        value = self._raw[key]
        if len(self._raw) != len(self._pairs):
            # A header that comes several times is one list (RFC 9110).
            value = b", ".join(each for other, each in self._pairs if other == key)
        return value.decode("latin-1")

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.encode("latin-1") in self._raw

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key.encode("latin-1") in self._raw else default


class Exchange:
    """A request on its way through the service."""

    __slots__ = ("allowance", "cors", "detail", "headers", "method", "path", "principal", "query_string", "receive",
                 "request_id", "route", "scope", "send", "started_ms", "status", "unread")  # fmt: skip

    def __init__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.method: str = scope.get("method", "GET")
        self.path: str = scope["path"]
        self.query_string: bytes = scope.get("query_string", b"")
        self.headers = Headers(scope["headers"])
        given = self.headers.get("x-request-id")
        self.request_id = given if given is not None and _REQUEST_ID.fullmatch(given) else new_ulid()
        self.principal: Principal | None = None
        self.allowance: Allowance | None = None
        self.cors: list[tuple[bytes, bytes]] = []
        self.route = "unmatched"
        self.status = 0
        self.detail = ""
        self.started_ms = monotonic_ms()
        self.unread = False

    @property
    def client_address(self) -> str | None:
        client = self.scope.get("client")
        return client[0] if client else None

    async def read_body(self, limit: int) -> bytes:
        """The whole body. Raises TooLarge as soon as it is known to be over the limit."""
        declared = self.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            raise self._too_large(limit)
        message = await self._next()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            parts, size = [body], len(body)
            while size <= limit and message.get("more_body"):
                message = await self._next()
                parts.append(message.get("body", b""))
                size += len(parts[-1])
            body = b"".join(parts)
        if len(body) > limit:
            raise self._too_large(limit)
        return body

    async def stream_body(self, limit: int) -> AsyncIterator[bytes]:
        """The body piece by piece, for uploads that don't fit into memory."""
        declared = self.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            raise self._too_large(limit)
        size, more = 0, True
        while more:
            message = await self._next()
            piece: bytes = message.get("body", b"")
            more = bool(message.get("more_body"))
            size += len(piece)
            if size > limit:
                raise self._too_large(limit)
            if piece:
                yield piece

    async def _next(self) -> Message:
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message

    def _too_large(self, limit: int) -> TooLarge:
        self.unread = True
        return TooLarge(f"The body is larger than {limit} bytes.")

    # ---------------------------------------------------------------- answering

    async def respond(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """Sends a whole answer."""
        out = self._start(status, headers)
        if status not in _BODILESS:
            out.append((b"content-length", b"%d" % len(body)))
        if self.method == "HEAD" or status in _BODILESS:
            body = b""
        if self.unread:
            out.append((b"connection", b"close"))
        await self.send({"type": "http.response.start", "status": status, "headers": out})
        if self.unread:
            await self.send({"type": "http.response.body", "body": body, "more_body": True})
            await self._linger()
            body = b""
        await self.send({"type": "http.response.body", "body": body})

    async def answer(self, answer: Answer) -> None:
        """Sends a problem."""
        await self.respond(answer.status, answer.headers, answer.body)

    async def stream(self, status: int, headers: Iterable[tuple[str, str]], pieces: AsyncIterator[bytes]) -> None:
        """Sends an answer as it is made, and stops making it when the client goes away."""
        await self.send({"type": "http.response.start", "status": status, "headers": self._start(status, headers)})
        if self.method == "HEAD":
            await self.send({"type": "http.response.body", "body": b""})
            return
        pump = asyncio.create_task(self._pump(pieces))
        gone = asyncio.create_task(self._until_gone())
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (pump, gone):
                if not task.done():
                    task.cancel()
            await asyncio.gather(pump, gone, return_exceptions=True)
        if pump.cancelled():
            self.detail = "client gone"
        elif (error := pump.exception()) is not None:
            raise error

    async def _pump(self, pieces: AsyncIterator[bytes]) -> None:
        try:
            async for piece in pieces:
                await self.send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()
        await self.send({"type": "http.response.body", "body": b""})

    async def _until_gone(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    def _start(self, status: int, headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
        self.status = status
        out = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        out.append((b"x-request-id", self.request_id.encode()))
        out.append(_NOSNIFF)
        out.append(_NO_STORE)
        if self.allowance is not None:
            out.append((b"ratelimit-limit", b"%d" % self.allowance.limit))
            out.append((b"ratelimit-remaining", b"%d" % self.allowance.remaining))
            out.append((b"ratelimit-reset", b"%d" % self.allowance.reset_s))
        if self.cors:
            out += self.cors
        return out

    async def _linger(self) -> None:
        """Drops what the client still sends, within bounds: closing at once would reset the connection, and the
        client would never see the answer that is on its way."""
        dropped = 0
        with contextlib.suppress(TimeoutError, ClientGone):
            async with asyncio.timeout(LINGER_MAX_S):
                while dropped <= LINGER_MAX_BYTES:
                    message = await self._next()
                    dropped += len(message.get("body", b""))
                    if not message.get("more_body"):
                        return
