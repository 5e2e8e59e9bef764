"""A real uvicorn server on a free port for an application made in the test's own event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn

from rgrid.kernel.clock import now
from rgrid.web.health import Health
from rgrid.web.operation import Operation
from rgrid.web.principal import Principal
from rgrid.web.server import build
from rgrid.web.site import Site

KEYS = {
    "reader": Principal(actor="key:r", actor_kind="key", scopes=("read",), key_id="r", name="reader"),
    "runner": Principal(actor="key:u", actor_kind="key", scopes=("run",), key_id="u", name="runner"),
    "root": Principal(actor="key:a", actor_kind="key", scopes=("admin",), key_id="a", name="root"),
    "lease": Principal(actor="worker:w", actor_kind="worker", subject="exec_1"),
}
READER = {"Authorization": "Bearer reader"}
RUNNER = {"Authorization": "Bearer runner"}
ADMIN = {"X-API-Key": "root"}


async def known(token: str) -> Principal | None:
    return KEYS.get(token)


def site(**changes: Any) -> Site:
    return Site(**({"version": "1.2.3", "authenticate": known, "health": Health("1.2.3", now)} | changes))


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[str]:
    """The address of the application, served until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", access_log=False, ws="websockets-sansio", lifespan="on")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            assert not task.done(), task.result()
            await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


@asynccontextmanager
async def client(
    *operations: Operation, headers: dict[str, str] | None = None, **changes: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service with these operations."""
    async with (
        running(build(operations, site(**changes))) as address,
        httpx.AsyncClient(base_url=address, headers=headers or {}, timeout=20) as http,
    ):
        yield http
