"""A grid whose workflow runs go on only as a test says: definitions and steps are commands, everything else is HTTP."""

import asyncio
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx
from api.one_grid import Served, cause, served

from rgrid.kernel.messages import Command
from rgrid.workflows.commands import (
    CompleteStep,
    ConfirmCancelled,
    DefineWorkflow,
    EndMapItem,
    FailStep,
    StartMapItems,
    StartStep,
    TriggerRun,
)
from rgrid.workflows.definition import DECIDER as DEFINITION
from rgrid.workflows.document import ErrorCategory, Outline, Parameter, Policy
from rgrid.workflows.run import DECIDER

T = TypeVar("T")
RUNS = "/workflows/runs"
STARTS_MAX_S = 60


class Desk:
    """Speaks to a grid that lives in a thread of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, service: Served) -> None:
        self._loop, self.service = loop, service

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(STARTS_MAX_S)

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.do(self.service.http.request(method, path, **more))

    def get(self, path: str, **query: Any) -> Any:
        """The answer to a request that must succeed."""
        answer = self.call("GET", path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, expected: int = 200, **query: Any) -> Any:
        answer = self.call("POST", path, params=query, **({} if body is None else {"json": body}))
        assert answer.status_code == expected, answer.text
        return answer.json()

    # ---------------------------------------------------------------- workflows

    def define(self, name: str, *outlines: Outline, policy: Policy | None = None, **more: Any) -> None:
        command = DefineWorkflow(
            document_sha256=more.pop("sha256", "ab" * 32),
            document_size_bytes=2,
            domain=more.pop("domain", None),
            description=None,
            tags=[],
            parameters=[Parameter(**one) for one in more.pop("parameters", [])],
            defaults=more.pop("defaults", {}),
            outlines=list(outlines),
            policy=policy or Policy(),
            targets=[],
            is_active=more.pop("is_active", True),
            defined_by="key:test",
        )
        self.do(self.service.grid.handler.handle(DEFINITION, name, command, cause()))

    def trigger(self, name: str, **body: Any) -> str:
        run_id: str = self.post(f"/workflows/trigger/{name}", body, 202)["run_id"]
        return run_id

    def begin(self, command: TriggerRun) -> None:
        """A run that no request has asked for."""
        self.do(self.service.grid.handler.handle(DECIDER, command.run_id, command, cause(), new=True))

    def command(self, run_id: str, command: Command) -> None:
        handled = self.do(self.service.grid.handler.handle(DECIDER, run_id, command, cause()))  # type: ignore[arg-type]
        assert handled.events, f"{command} changed nothing"

    def start(self, run_id: str, step: str, attempt: int = 1, **more: Any) -> None:
        self.command(run_id, StartStep(step=step, attempt=attempt, **more))

    def complete(self, run_id: str, step: str, attempt: int = 1, **more: Any) -> None:
        self.command(run_id, CompleteStep(**{"outputs": {}, **more, "step": step, "attempt": attempt}))

    def fail(self, run_id: str, step: str, attempt: int = 1, category: ErrorCategory = "INTERNAL") -> None:
        self.command(run_id, FailStep(step=step, attempt=attempt, error="broke", category=category))

    def stopped(self, run_id: str, step: str, attempt: int = 1) -> None:
        self.command(run_id, ConfirmCancelled(step=step, attempt=attempt))

    def items(self, run_id: str, command: StartMapItems | EndMapItem) -> None:
        self.command(run_id, command)

    def run(self, run_id: str, **query: Any) -> dict[str, Any]:
        run: dict[str, Any] = self.get(f"{RUNS}/{run_id}", **query)
        return run

    def steps(self, run_id: str) -> list[tuple[str, int, str]]:
        return [(one["step_name"], one["attempt"], one["status"]) for one in self.run(run_id)["steps"]]


@contextmanager
def desk(server: str, template: str, name: str) -> Iterator[Desk]:
    """Runs until the block ends, on a database of this name."""

    async def create() -> None:
        connection = await asyncpg.connect(server)
        await connection.execute(f"create database {name} template {template}")
        await connection.close()

    asyncio.run(create())
    with tempfile.TemporaryDirectory(prefix="rgrid-desk-") as folder:
        yield from _serving(server.replace("/postgres?", f"/{name}?"), Path(folder))


def _serving(dsn: str, folder: Path) -> Iterator[Desk]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    serving = served(dsn, folder, driving=False)
    try:
        service = asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result(STARTS_MAX_S)
        try:
            yield Desk(loop, service)
        finally:
            asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result(STARTS_MAX_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STARTS_MAX_S)
        loop.close()
