"""A grid on which workflows run: real stores, the process that drives runs, and handlers of the test's own."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from api.one_grid import cause

from rgrid.assembly import Parts, assembled
from rgrid.kernel.ids import new_id
from rgrid.kernel.messages import AnyRecorded
from rgrid.settings import Settings
from rgrid.ticker import RunChores
from rgrid.workflows.commands import DefineWorkflow, RunCommand
from rgrid.workflows.definition import DECIDER as DEFINITION
from rgrid.workflows.document import Document, Policy, Step, outline
from rgrid.workflows.handlers import Handlers
from rgrid.workflows.run import DECIDER as RUN
from rgrid.workflows.run_state import Run
from rgrid.workflows.starting import triggered

ENDS_MAX_S: Final = 30.0
Functions = Mapping[str, Callable[..., Any]]


@dataclass
class Running:
    """One process of a grid."""

    parts: Parts

    async def define(self, name: str, *steps: Step, policy: Policy | None = None, **more: Any) -> None:
        document = Document(name=name, steps=list(steps), policy=policy or Policy(), **more)
        data = msgspec.json.encode(document)
        command = DefineWorkflow(
            document_sha256=await self.parts.grid.objects.put_bytes(data),
            document_size_bytes=len(data),
            domain=document.domain,
            description=None,
            tags=[],
            parameters=document.parameters,
            defaults=document.defaults,
            outlines=[outline(step) for step in steps],
            policy=document.policy,
            targets=[],
            is_active=True,
            defined_by="test",
        )
        await self.parts.grid.handler.handle(DEFINITION, name, command, cause())

    async def trigger(self, name: str, params: Mapping[str, Any] | None = None, **more: Any) -> str:
        run_id = new_id("run")
        handler = self.parts.grid.handler
        command = await triggered(handler, run_id, name, params or {}, trigger="API", triggered_by="test", **more)
        await handler.handle(RUN, run_id, command, cause(), new=True)
        return run_id

    async def tell(self, run_id: str, *commands: RunCommand) -> None:
        for command in commands:
            await self.parts.grid.handler.handle(RUN, run_id, command, cause())

    async def state(self, run_id: str) -> Run:
        return (await self.parts.grid.handler.load(RUN, run_id))[0]

    async def until(self, run_id: str, holds: Callable[[Run], bool]) -> Run:
        """The run as soon as this holds of it."""
        give_up = time.monotonic() + ENDS_MAX_S
        while not holds(run := await self.state(run_id)):
            assert time.monotonic() < give_up, f"{run.status}: {run.steps}"
            await asyncio.sleep(0.01)
        return run

    async def ended(self, run_id: str) -> Run:
        return await self.until(run_id, lambda run: run.is_ended)

    async def ran(self, name: str, params: Mapping[str, Any] | None = None, **more: Any) -> Run:
        return await self.ended(await self.trigger(name, params, **more))

    async def events(self, run_id: str) -> list[AnyRecorded]:
        return await self.parts.grid.store.read_stream(f"run-{run_id}")


@asynccontextmanager
async def running(
    dsn: str, folder: Path, functions: Functions | None = None, *, ticks: bool = True
) -> AsyncIterator[Running]:
    """Until the block ends. Without `ticks` no time goes by for it."""
    settings = Settings(data_dir=folder, encryption_key="00" * 32)
    async with assembled(settings, dsn, handlers=Handlers(functions or {})) as parts:
        parts.grid.runtimes.found_here(["python:3.11"])
        time_goes_by = asyncio.create_task(_chores(parts) if ticks else asyncio.sleep(0))
        try:
            yield Running(parts)
        finally:
            time_goes_by.cancel()


async def _chores(parts: Parts) -> None:
    """What the ticker does, more often."""
    chores = RunChores(parts.grid.pool, parts.driver, parts.neighbours).chores()
    while True:
        await asyncio.sleep(0.05)
        for chore, _ in chores:
            await chore()


def step(name: str, kind: Any = "HANDLER", **more: Any) -> Step:
    return Step(name=name, type=kind, **more)


def how(run: Run) -> dict[str, str]:
    """How the steps ended; of skipped ones why."""
    return {name: one.skip_reason or one.status for name, one in run.steps.items()}


def kinds(events: Sequence[AnyRecorded]) -> list[str]:
    return [type(recorded.event).__name__ for recorded in events]
