"""The same client for programs on asyncio.

async with AsyncClient("http://127.0.0.1:8000", key) as grid:
    execution = await grid.submit(Submission(script_content="print('hello')"))
    async for item in grid.follow(execution.execution_id):
        print(item)
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TypeVar

import aiohttp
from aiohttp.client import URL  # type: ignore[attr-defined]
from websockets.asyncio.client import ClientConnection, connect

from rgrid.client.batches import Batches
from rgrid.client.calls import Calls
from rgrid.client.delivery import (
    BLOCK_BYTES,
    CONNECT_TIMEOUT_S,
    READ_TIMEOUT_S,
    RETRY_WAITS_S,
    Body,
    Broken,
    BytesBody,
    Delivery,
    Job,
    Reply,
    RetryNote,
    Sink,
    no_note,
)
from rgrid.client.schedules import Schedules
from rgrid.client.workflows import Workflows

T = TypeVar("T")


class AsyncClient(Calls):
    """One service, one key, one event loop. Whoever cancels a task cancels the request that it waits for."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        on_retry: RetryNote = no_note,
        waits_s: tuple[float, ...] = RETRY_WAITS_S,
    ) -> None:
        self._wire = AsyncWire()
        super().__init__(Delivery(self._wire, url, key, on_retry, waits_s))
        self.batches = Batches(self)
        self.workflows = Workflows(self)
        self.schedules = Schedules(self)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._wire.close()


class AsyncSocket:
    """A WebSocket of asyncio."""

    def __init__(self, stack: AsyncExitStack, connection: ClientConnection) -> None:
        self._stack = stack
        self._connection = connection

    async def receive(self, timeout_s: float) -> str | bytes:
        return await asyncio.wait_for(self._connection.recv(), timeout_s)

    async def close(self) -> None:
        await self._stack.aclose()


class AsyncWire:
    """Requests over aiohttp; what takes a while on the disk goes to a thread."""

    def __init__(self) -> None:
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def aside(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(work)

    async def together(self, jobs: Sequence[Job], at_most: int, stop: threading.Event) -> None:
        gate = asyncio.Semaphore(at_most)

        async def one(job: Job) -> None:
            async with gate:
                await job()

        tasks = [asyncio.create_task(one(job)) for job in jobs]
        if not tasks:
            return
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            stop.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def socket(self, url: str, headers: Mapping[str, str], frame_bytes_max: int) -> AsyncSocket:
        stack = AsyncExitStack()
        opening = connect(
            url,
            additional_headers=headers,
            open_timeout=CONNECT_TIMEOUT_S,
            close_timeout=1,
            max_size=frame_bytes_max,
            proxy=None,
        )
        return AsyncSocket(stack, await stack.enter_async_context(opening))

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, sink: Sink | None
    ) -> Reply:
        outgoing = None if body is None else _Outgoing(body)
        # The address is signed as it stands: nothing in it may be written in another way.
        address = URL(url, encoded=True)
        data = None if outgoing is None else outgoing.data()
        # A DELETE can't be told apart from its repetition, so it never goes out on a connection that may be stale.
        session = self._session(is_fresh=method == "DELETE")
        try:
            async with session.request(method, address, headers=headers, data=data, allow_redirects=False) as answer:
                lowered = {name.lower(): value for name, value in answer.headers.items()}
                if sink is None or answer.status >= 400:
                    return Reply(answer.status, lowered, await answer.read())
                sink.begin(lowered)
                async for block in answer.content.iter_chunked(BLOCK_BYTES):
                    await asyncio.to_thread(sink.write, block)
                await asyncio.to_thread(sink.end)
                return Reply(answer.status, lowered, b"")
        except (aiohttp.ClientError, OSError) as error:
            if outgoing is not None and outgoing.failure is not None:
                raise outgoing.failure from None
            raise Broken(_reason(error), is_refused=_is_refused(error)) from error

    def _session(self, *, is_fresh: bool) -> aiohttp.ClientSession:
        # A session belongs to the loop that it is made in, so it is made at its first use.
        if is_fresh not in self._sessions:
            self._sessions[is_fresh] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=is_fresh),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._sessions[is_fresh]


class _Outgoing:
    """A body on its way. aiohttp makes a broken connection of whatever goes wrong with a body, so it is kept here."""

    def __init__(self, body: Body) -> None:
        self.failure: Exception | None = None
        self._body = body

    def data(self) -> bytes | AsyncIterator[bytes]:
        return self._body.getvalue() if isinstance(self._body, BytesBody) else self._blocks()

    async def _blocks(self) -> AsyncIterator[bytes]:
        while True:
            try:
                block = await asyncio.to_thread(self._body.read, BLOCK_BYTES)
            except Exception as error:
                self.failure = error
                raise
            if not block:
                return
            yield block


def _is_refused(error: Exception) -> bool:
    return isinstance(error, ConnectionRefusedError) or (
        isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError)
    )


def _reason(error: Exception) -> str:
    if _is_refused(error):
        return "connection refused"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host name is unknown"
    if isinstance(error, TimeoutError):
        return "it took too long to answer"
    if isinstance(
        error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | aiohttp.ClientPayloadError | ConnectionError
    ):
        return "the connection broke off"
    return str(error) or type(error).__name__
