"""Follows the log of one execution to its end: over a WebSocket that is taken up again where it broke off, or by
asking every two seconds where WebSockets don't get through. No line comes twice, none is left out."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import msgspec

from rgrid.client.answers import Ended, Execution, LogLine, StatusChange
from rgrid.client.delivery import Delivery, Socket
from rgrid.client.problems import GridError, Problem, Refused, Unreachable
from rgrid.kernel.converting import convert

Followed = LogLine | StatusChange | Ended

RECONNECT_FIRST_S: Final = 1.0
RECONNECT_LAST_S: Final = 30.0
RECONNECTS_MAX: Final = 120
HANDSHAKES_GARBLED_MAX: Final = 3
# The service sends a heartbeat after 15 s of silence: three of them missing is a dead connection.
SILENCE_MAX_S: Final = 45.0
POLL_EVERY_S: Final = 2.0
POLLS_MAX: Final = 7 * 24 * 3600 // 2
FRAME_BYTES_MAX: Final = 16 * 1024 * 1024
_REFUSALS: Final = {
    4400: (400, "bad_parameter", "The service refused the cursor or the stream."),
    4401: (401, "credentials_invalid", "The service did not accept the key."),
    4403: (403, "scope_missing", "The key has no right to read logs."),
    4404: (404, "not_found", "Execution not found: {execution_id}"),
}
_RETRIED_HANDSHAKES: Final = frozenset({429, 500, 502, 503, 504})


class Source(Protocol):
    """What following needs of the client."""

    delivery: Delivery

    async def get(self, execution_id: str) -> Execution: ...
    def logs(
        self, execution_id: str, *, after: int = -1, stream: str | None = None
    ) -> AsyncGenerator[LogLine, None]: ...


class _NoWebSockets(Exception):
    """The way to the service does not let WebSockets through."""


class _BrokeOff(Exception):
    """The connection ended before the execution did."""


class Follower:
    """One reader's place in one log. `cursor` is the last sequence number seen."""

    def __init__(self, source: Source, execution_id: str, cursor: int = -1, stream: str | None = None) -> None:
        self.cursor = cursor
        self._source = source
        self._delivery = source.delivery
        self._execution_id = execution_id
        self._stream = stream
        self._failures = 0
        self._garbled = 0
        self._last_status: tuple[str, int] | None = None

    async def items(self) -> AsyncGenerator[Followed, None]:
        while self._failures <= RECONNECTS_MAX:
            try:
                async with aclosing(self._over_websocket()) as items:
                    async for item in items:
                        yield item
                return
            except _NoWebSockets:
                async with aclosing(self._by_asking()) as items:
                    async for item in items:
                        yield item
                return
            except _BrokeOff:
                wait_s = min(RECONNECT_FIRST_S * 2**self._failures, RECONNECT_LAST_S)
                self._failures += 1
                await self._delivery.wire.sleep(wait_s)
        raise Unreachable(self._delivery.url, f"the log broke off {RECONNECTS_MAX} times in a row")

    async def _over_websocket(self) -> AsyncGenerator[Followed, None]:
        from websockets.exceptions import ConnectionClosed

        socket = await self._connect()
        try:
            refused: dict[str, Any] = {}
            while True:
                try:
                    frame = msgspec.json.decode(await socket.receive(SILENCE_MAX_S))
                except TimeoutError:
                    raise _BrokeOff from None
                except ConnectionClosed as closed:
                    self._raise_if_final(closed.rcvd.code if closed.rcvd else 1006, refused)
                    raise _BrokeOff from None
                self._failures = self._garbled = 0
                if frame.get("type") == "error":
                    refused = frame
                    continue
                item = self._item(frame)
                if item is not None:
                    yield item
                if isinstance(item, Ended):
                    return
        finally:
            await socket.close()

    async def _connect(self) -> Socket:
        from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus

        query: dict[str, object] = {"cursor": self.cursor}
        if self._stream:
            query["stream"] = self._stream
        base = self._delivery.url.replace("http", "ws", 1)
        headers = {"Authorization": f"Bearer {self._delivery.key}"} if self._delivery.key else {}
        address = f"{base}/ws/executions/{self._execution_id}/logs?{urlencode(query)}"
        try:
            return await self._delivery.wire.socket(address, headers, FRAME_BYTES_MAX)
        except InvalidStatus as error:
            if error.response.status_code in _RETRIED_HANDSHAKES:
                raise _BrokeOff from None
            raise _NoWebSockets from None
        except InvalidMessage:
            # Also what a service in the middle of a restart looks like, so it takes several to give up.
            self._garbled += 1
            raise (_NoWebSockets if self._garbled >= HANDSHAKES_GARBLED_MAX else _BrokeOff) from None
        except InvalidHandshake:
            raise _NoWebSockets from None
        except OSError:
            raise _BrokeOff from None

    def _item(self, frame: dict[str, Any]) -> Followed | None:
        match frame.get("type"):
            case "log":
                return self._fresh(convert(frame, LogLine))
            case "status":
                return self._changed(convert(frame, StatusChange))
            case "complete":
                return convert(frame, Ended)
        return None

    def _fresh(self, line: LogLine) -> LogLine | None:
        if line.sequence_number <= self.cursor:
            return None
        self.cursor = line.sequence_number
        return line

    def _changed(self, change: StatusChange) -> StatusChange | None:
        if self._last_status == (change.status, change.attempt):
            return None
        self._last_status = (change.status, change.attempt)
        return change

    def _raise_if_final(self, close_code: int, refused: dict[str, Any]) -> None:
        if close_code in _REFUSALS:
            status, code, text = _REFUSALS[close_code]
            detail = str(refused.get("error") or text.format(execution_id=self._execution_id))
            raise Refused(Problem(status=status, detail=detail, code=str(refused.get("code") or code)))

    async def _by_asking(self) -> AsyncGenerator[Followed, None]:
        for _ in range(POLLS_MAX):
            # The status is read before the lines: lines that come with the end are then never missed.
            execution = await self._source.get(self._execution_id)
            attempt = execution.attempts[-1].attempt if execution.attempts else 0
            change = self._changed(StatusChange(status=execution.status, attempt=attempt))
            if change is not None:
                yield change
            async for line in self._source.logs(self._execution_id, after=self.cursor, stream=self._stream):
                fresh = self._fresh(line)
                if fresh is not None:
                    yield fresh
            if execution.is_over:
                yield Ended(
                    status=execution.status,
                    exit_code=execution.exit_code,
                    failure_reason=execution.failure_reason,
                    last_sequence_number=self.cursor,
                )
                return
            await self._delivery.wire.sleep(POLL_EVERY_S)
        raise GridError(f"{self._execution_id} is still not over after a week of asking.")
