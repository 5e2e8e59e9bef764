"""The same HTTP plumbing, credentials and server with one operation that does nothing: the limit for `submit`."""

import asyncio
import socket
import sys

import msgspec
import uvicorn
import uvloop

from rgrid.access.key_uses import KeyUses
from rgrid.api.authenticate import Authenticator
from rgrid.api.execution_requests import ExecutionCreate
from rgrid.api.lease_tokens import LeaseTokens
from rgrid.kernel.clock import now
from rgrid.postgres.pool import open_pool
from rgrid.web.health import Health
from rgrid.web.operation import Call, Operation, Reply
from rgrid.web.rate_limit import RateLimiter
from rgrid.web.server import build
from rgrid.web.site import Site


class Done(msgspec.Struct):
    done: bool


async def noop(call: Call[None, ExecutionCreate]) -> Reply:
    return Reply(200, Done(done=True))


async def main(dsn: str) -> None:
    pool = await open_pool(dsn, name="noop")
    site = Site(
        version="0",
        authenticate=Authenticator(pool, KeyUses(pool, now), LeaseTokens(b"noop"), now),
        limiter=RateLimiter(1_000_000, 1_000_000),
        health=Health("0", now),
    )
    operation = Operation(method="POST", path="/noop", auth="run", handler=noop, ok={200: Done}, body=ExecutionCreate)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        build([operation], site), loop="none", http="httptools", lifespan="off", access_log=False, log_config=None,
        server_header=False,
        proxy_headers=False, backlog=2048,
    )  # fmt: skip
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await uvicorn.Server(config).serve([listener])


if __name__ == "__main__":
    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main(sys.argv[1]))
