"""WebSocket sessions: a stream of frames to one client, with heartbeats, bounded memory and honest close codes."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from rgrid.kernel.errors import (
    Forbidden,
    Invalid,
    Malformed,
    NotFound,
    RgridError,
    Unauthenticated,
    Unavailable,
)
from rgrid.web.exchange import ASGIScope, Receive, Send
from rgrid.web.principal import Authenticate, Principal, refused, token_of

log = logging.getLogger(__name__)

DONE, GOING_AWAY, TOO_LARGE, BROKEN, TOO_SLOW = 1000, 1001, 1009, 1011, 1013
REASON_MAX_BYTES: Final = 120
TURN_FRAMES: Final = 10  # then others have their turn, so that many sessions with much to say starve no request
_CODES: Final[Sequence[tuple[type[RgridError], int]]] = (
    (Unauthenticated, 4401),
    (Forbidden, 4403),
    (NotFound, 4404),
    (Malformed, 4400),
    (Invalid, 4400),
    (Unavailable, TOO_SLOW),
)

Frame = Any
"""A struct that becomes one JSON text frame, or the bytes of one."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one session may take up, and how patient it is."""

    heartbeat_s: float = 15.0
    stalled_s: float = 30.0
    recheck_s: float = 10.0
    frames_max: int = 1000
    bytes_max: int = 4 * 1024 * 1024
    client_frame_max_bytes: int = 4096
    close_wait_max_s: float = 30.0


class Sockets:
    """The open sessions of a process, so that a stopping service can tell them."""

    def __init__(self) -> None:
        self.closing = asyncio.Event()
        self._open: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._open)

    def enter(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def close_all(self, wait_max_s: float = 5.0) -> None:
        """Closes every session with 1001 and waits for them, within a bound."""
        self.closing.set()
        if self._open:
            await asyncio.wait(set(self._open), timeout=wait_max_s)


@dataclass(slots=True)
class Talk:
    """What a session says: `frames` until the end, `heartbeat` in silence, `refused` before it closes in error.

    `valid` is asked now and then whether the caller may still listen.
    """

    frames: AsyncIterator[Frame]
    heartbeat: Callable[[], Frame]
    valid: Callable[[], Awaitable[bool]] | None = None


async def converse(
    receive: Receive,
    send: Send,
    open_talk: Callable[[], Awaitable[Talk]],
    refused: Callable[[RgridError], Frame],
    sockets: Sockets,
    bounds: Bounds = Bounds(),
) -> None:
    """Accepts the handshake, then opens the talk, so that a refusal can reach the client as a close code."""
    await receive()
    await send({"type": "websocket.accept"})
    sockets.enter()
    session = _Session(receive, send, refused, bounds)
    try:
        talk = await open_talk()
    except RgridError as error:
        await session.refuse(error)
        return
    except Exception:  # The last line of defence of a session: it is logged, and the client is told.
        log.exception("a session could not be opened")
        await session.close(BROKEN, "internal")
        return
    await session.run(talk, sockets.closing)


class _Session:
    def __init__(self, receive: Receive, send: Send, refused: Callable[[RgridError], Frame], bounds: Bounds) -> None:
        self._receive = receive
        self._send = send
        self._refused = refused
        self._bounds = bounds
        self._outbox = _Outbox(bounds)
        self._gone = False

    async def run(self, talk: Talk, closing: asyncio.Event) -> None:
        parts = [
            asyncio.create_task(self._fill(talk.frames)),
            asyncio.create_task(self._drain(talk.heartbeat)),
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._watch(talk.valid)),
            asyncio.create_task(_until(closing)),
        ]
        filling = parts[0]
        try:
            # Filling may end well before everything is sent; any other part's end is the session's.
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            if done == {filling} and filling.exception() is None:
                done, _ = await asyncio.wait(parts[1:], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            close = getattr(talk.frames, "aclose", None)
            if close is not None:
                await close()
        await self._end(next(part for part in parts if part in done and (part is not filling or _error(part))))

    async def _end(self, first: "asyncio.Task[tuple[int, str] | None]") -> None:
        error = _error(first)
        if isinstance(error, RgridError):
            await self.refuse(error)
        elif error is not None:
            log.error("a session broke", exc_info=error)
            await self.close(BROKEN, "internal")
        elif (outcome := first.result()) is not None:
            await self.close(*outcome)

    async def refuse(self, error: RgridError) -> None:
        """An error frame that says why, then the close code that fits."""
        code = next((code for kind, code in _CODES if isinstance(error, kind)), BROKEN)
        if not self._gone:
            await self._bounded(self._text(self._refused(error)))
        await self.close(code, error.code)

    async def close(self, code: int, reason: str) -> None:
        if not self._gone:
            shown = reason.encode()[:REASON_MAX_BYTES].decode(errors="ignore")
            await self._bounded(self._send({"type": "websocket.close", "code": code, "reason": shown}))

    async def _bounded(self, sending: Awaitable[None]) -> None:
        """A client that doesn't read sees the code if it reads again in time, and can't hold the session for ever."""
        try:
            await asyncio.wait_for(sending, self._bounds.close_wait_max_s)
        except (TimeoutError, OSError, RuntimeError):
            self._gone = True

    async def _text(self, frame: Frame) -> None:
        await self._send({"type": "websocket.send", "text": msgspec.json.encode(frame).decode()})

    async def _fill(self, frames: AsyncIterator[Frame]) -> None:
        filled = 0
        async for frame in frames:
            filled += 1
            if filled % TURN_FRAMES == 0:
                await asyncio.sleep(0)
            await self._outbox.put(frame if isinstance(frame, bytes) else msgspec.json.encode(frame))
        await self._outbox.put(None)

    async def _drain(self, heartbeat: Callable[[], Frame]) -> tuple[int, str]:
        drained = 0
        while True:
            if not len(self._outbox):
                try:
                    async with asyncio.timeout(self._bounds.heartbeat_s):
                        await self._outbox.any()
                except TimeoutError:
                    await self._text(heartbeat())
                continue
            raw = self._outbox.get()
            if raw is None:
                return DONE, "done"
            await self._send({"type": "websocket.send", "text": raw.decode()})
            self._outbox.sent()
            drained += 1
            if drained % TURN_FRAMES == 0:
                await asyncio.sleep(0)

    async def _listen(self) -> tuple[int, str] | None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._gone = True
                return None
            said = message.get("bytes") or (message.get("text") or "").encode()
            if len(said) > self._bounds.client_frame_max_bytes:
                return TOO_LARGE, "frame too large"

    async def _watch(self, valid: Callable[[], Awaitable[bool]] | None) -> tuple[int, str]:
        """Ends the session of a client that doesn't read, or that may no longer listen."""
        bounds = self._bounds
        tick_s = min(bounds.stalled_s / 10, bounds.recheck_s)
        since_check_s = 0.0
        while True:
            await asyncio.sleep(tick_s)
            if self._outbox.stalled():
                return TOO_SLOW, "too slow"
            since_check_s += tick_s
            if valid is not None and since_check_s >= bounds.recheck_s:
                since_check_s = 0.0
                if not await valid():
                    raise Unauthenticated("The credentials are no longer valid.", code="credentials_invalid")


class _Outbox:
    """Frames on their way to one client: at most so many and so many bytes, the one being sent among them."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._frames: deque[tuple[float, bytes | None]] = deque()
        self._bytes = 0
        self._sending: tuple[float, int] | None = None
        self._room = asyncio.Event()
        self._more = asyncio.Event()
        self._room.set()

    async def put(self, raw: bytes | None) -> None:
        while self._full():
            self._room.clear()
            await self._room.wait()
        self._frames.append((time.monotonic(), raw))
        self._bytes += len(raw or b"")
        self._more.set()

    def __len__(self) -> int:
        return len(self._frames)

    async def any(self) -> None:
        """Waits until there is a frame."""
        while not self._frames:
            self._more.clear()
            await self._more.wait()

    def get(self) -> bytes | None:
        at, raw = self._frames.popleft()
        self._sending = (at, len(raw or b""))
        return raw

    def sent(self) -> None:
        assert self._sending is not None
        self._bytes -= self._sending[1]
        self._sending = None
        self._room.set()

    def stalled(self) -> bool:
        """Whether as much as may wait has been waiting for too long."""
        if not self._full():
            return False
        oldest = self._sending[0] if self._sending else self._frames[0][0]
        return time.monotonic() - oldest > self._bounds.stalled_s

    def _full(self) -> bool:
        waiting = len(self._frames) + (self._sending is not None)
        return waiting >= self._bounds.frames_max or self._bytes >= self._bounds.bytes_max


async def _until(closing: asyncio.Event) -> tuple[int, str]:
    await closing.wait()
    return GOING_AWAY, "server going away"


def _error(part: "asyncio.Task[Any]") -> BaseException | None:
    return None if not part.done() or part.cancelled() else part.exception()


async def caller_of(
    scope: ASGIScope, authenticate: Authenticate, redeem: Authenticate, ticket: str | None
) -> Principal:
    """The principal of a handshake: by header, or by a ticket in the query. Keys are never taken from the query."""
    headers = scope["headers"]
    named = {name for name, _ in headers}
    if ticket is not None and not named & {b"authorization", b"x-api-key"}:
        principal = await redeem(ticket)
    else:
        principal = await authenticate(token_of(headers))
    if principal is None:
        raise refused()
    return principal
