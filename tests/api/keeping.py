"""A grid over HTTP with its clean-up, and executions that ended on other days: on a real database and a real store."""

import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import httpx
from web.serving import running

from rgrid.access.bootstrap import ensure_admin_key
from rgrid.access.key_uses import KeyUses
from rgrid.adapters.local_objects import LocalObjects
from rgrid.api import surface
from rgrid.api.authenticate import Authenticator
from rgrid.api.grid import Grid
from rgrid.assembly import assembled
from rgrid.eventstore.handle import Handler
from rgrid.executions import logs
from rgrid.executions.commands import ClaimExecution, ExecutionCommand, FinishAttempt, SubmitExecution
from rgrid.executions.events import DeclaredInput, StoredArtifact, StoredFile
from rgrid.executions.execution import DECIDER
from rgrid.executions.logs import NewLine
from rgrid.kernel.clock import now
from rgrid.kernel.ids import new_command_id, new_id
from rgrid.kernel.messages import Cause
from rgrid.retention import Retention
from rgrid.settings import Settings
from rgrid.web.health import Health
from rgrid.web.idempotency import Idempotency
from rgrid.web.live import Sockets
from rgrid.web.server import build
from rgrid.web.site import Site

SECRET = "sk_live_" + "R" * 43
LONG_AGO = timedelta(days=40)
Printed = tuple[int, int, Literal["stdout", "stderr"], str]
"""(sequence number, attempt, stream, message)."""
THREE_LINES: Sequence[Printed] = (
    (0, 1, "stdout", "line 0"),
    (1, 1, "stderr", "line 1"),
    (2, 1, "stdout", "line 2"),
)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class House:
    """A grid over HTTP, its clean-up, and executions of other days."""

    def __init__(
        self, grid: Grid, address: str, http: httpx.AsyncClient, reached_head: Callable[[], Awaitable[None]]
    ) -> None:
        self.grid, self.address, self.http, self.reached_head = grid, address, http, reached_head
        self.retention = Retention(
            pool=grid.pool,
            handler=grid.handler,
            settings=grid.settings,
            object_store=grid.objects,
            log_reader=grid.log_reader,
            reached_head=reached_head,
        )

    async def ran(
        self,
        ago: timedelta,
        inputs: dict[str, bytes],
        outputs: dict[str, bytes],
        *,
        ends: bool = True,
        printed: Sequence[Printed] = THREE_LINES,
    ) -> str:
        """An execution that ran then; with `ends=False` it still does."""
        grid, execution_id = self.grid, new_id("exec")
        then = Handler(grid.store, grid.handler._writer, lambda: now() - ago)

        async def send(command: ExecutionCommand) -> None:
            await then.handle(DECIDER, execution_id, command, cause())

        files = [await self._put(name, data) for name, data in inputs.items()]
        await send(
            SubmitExecution(
                script_sha256=await grid.objects.put_bytes(b"print(1)"), script_size_bytes=8, runtime="python:3.11",
                timeout_s=60, cpu=1, memory_mb=128, max_retries=0, inputs=[DeclaredInput(name=name) for name in inputs],
                verified=files, inputs_deadline_s=60, root_execution_id=execution_id, created_by="test",
            )
        )  # fmt: skip
        await send(
            ClaimExecution(
                worker_id="w", worker_hostname="h", runner_kind="process", sandbox_level="rlimits", rate_micros=8000
            )
        )
        lines = [
            NewLine(
                execution_id=execution_id, attempt=attempt, fencing_token=1, sequence_number=number, stream=stream,
                logged_at=now() - ago, message=message,
            )
            for number, attempt, stream, message in printed
        ]  # fmt: skip
        await logs.repair(grid.pool, lines)
        if ends:
            made = [await self._put(name, data) for name, data in outputs.items()]
            artifacts = [
                StoredArtifact(
                    artifact_id=new_id("art"), filename=one.name, size_bytes=one.size_bytes, sha256=one.sha256,
                    content_type="text/plain",
                )
                for one in made
            ]  # fmt: skip
            await send(
                FinishAttempt(
                    fencing_token=1, end="completed", exit_code=0, duration_ms=5, stdout_size_bytes=14,
                    stderr_size_bytes=7, artifacts=artifacts,
                )
            )  # fmt: skip
        await self.reached_head()
        return execution_id

    async def _put(self, name: str, data: bytes) -> StoredFile:
        return StoredFile(name=name, size_bytes=len(data), sha256=await self.grid.objects.put_bytes(data))

    def put_long_ago(self) -> None:
        """Every object was last put long enough ago for a clean-up to take it."""
        objects = self.grid.objects
        assert isinstance(objects, LocalObjects)
        for path in objects._folder.rglob("*"):
            if path.is_file():
                os.utime(path, (1, 1))

    async def get(self, path: str, status: int = 200) -> Any:
        answer = await self.http.get(path)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def there(self, data: bytes) -> bool:
        return await self.grid.objects.exists(sha256(data))


def cause() -> Cause:
    return Cause(actor="test", command_id=new_command_id())


@asynccontextmanager
async def house(dsn: str, folder: Path, **settings: Any) -> AsyncIterator[House]:
    async with assembled(Settings(data_dir=folder, encryption_key="00" * 32, **settings), dsn) as parts:
        grid = parts.grid
        grid.runtimes.found_here(["python:3.11"])
        await ensure_admin_key(grid.handler, SECRET)
        authenticator = Authenticator(grid.pool, KeyUses(grid.pool, now), grid.lease_tokens, now)
        site = Site(
            version="test",
            authenticate=authenticator,
            health=Health("test", now),
            idempotency=Idempotency(grid.pool, now),
            reached=parts.daemon.reached,
        )

        sockets = surface.websockets(grid, authenticator, Sockets())

        async def reached_head() -> None:
            await parts.daemon.reached(await grid.store.head(), timeout_s=30)

        headers = {"Authorization": f"Bearer {SECRET}"}
        async with (
            running(build(surface.operations(grid, authenticator), site, sockets)) as address,
            httpx.AsyncClient(base_url=f"{address}/api/v1", headers=headers, timeout=20) as http,
        ):
            await reached_head()
            yield House(grid, address, http, reached_head)
