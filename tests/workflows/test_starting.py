"""Starting a run: the version it is pinned to, its parameters, and what a retry takes over."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from api.one_grid import cause

from rgrid.assembly import assembled
from rgrid.eventstore.handle import Handler
from rgrid.kernel.errors import Invalid, NotFound, Rejected
from rgrid.kernel.ids import new_id
from rgrid.settings import Settings
from rgrid.workflows.commands import CancelRun, CompleteStep, DefineWorkflow, DeleteWorkflow, FailStep, StartStep
from rgrid.workflows.definition import DECIDER as DEFINITION
from rgrid.workflows.document import Outline, Policy
from rgrid.workflows.events import Parent
from rgrid.workflows.run import DECIDER as RUN
from rgrid.workflows.starting import DEPTH_MAX, retried, triggered

STEPS = [Outline(name=name, type="HANDLER", target_name="a.b") for name in ("a", "b", "c")]


def with_handler(database: str, folder: Path, run: Callable[[Handler], Awaitable[None]]) -> None:
    async def main() -> None:
        async with assembled(Settings(data_dir=folder, encryption_key="00" * 32), database, driving=False) as parts:
            await run(parts.grid.handler)

    asyncio.run(main())


async def defined(handler: Handler, name: str = "flow", **changes: Any) -> None:
    command = DefineWorkflow(
        **{
            "document_sha256": "0" * 64,
            "document_size_bytes": 1,
            "domain": "sales",
            "description": None,
            "tags": [],
            "parameters": [],
            "defaults": {},
            "outlines": STEPS,
            "policy": Policy(),
            "targets": [],
            "is_active": True,
            "defined_by": "test",
            **changes,
        }
    )
    await handler.handle(DEFINITION, name, command, cause())


async def begun(handler: Handler, name: str = "flow", **more: Any) -> str:
    run_id = new_id("run")
    command = await triggered(handler, run_id, name, {}, trigger="API", triggered_by="test", **more)
    await handler.handle(RUN, run_id, command, cause(), new=True)
    return run_id


async def tell(handler: Handler, run_id: str, *commands: Any) -> None:
    for command in commands:
        await handler.handle(RUN, run_id, command, cause())


def test_a_run_is_of_the_newest_version_or_of_the_one_named(database: str, tmp_path: Path) -> None:
    async def run(handler: Handler) -> None:
        await defined(handler)
        await defined(handler, document_sha256="1" * 64)
        newest = await triggered(handler, "run_1", "flow", {"x": 1}, trigger="API", triggered_by="ann")
        assert (newest.workflow_version, newest.document_sha256, newest.domain) == (2, "1" * 64, "sales")
        assert (newest.params, newest.triggered_by) == ({"x": 1}, "ann")
        first = await triggered(handler, "run_1", "flow", {}, version=1, trigger="API", triggered_by="ann")
        assert first.document_sha256 == "0" * 64
        with pytest.raises(NotFound):
            await triggered(handler, "run_1", "flow", {}, version=3, trigger="API", triggered_by="ann")

    with_handler(database, tmp_path, run)


def test_nothing_starts_of_what_is_not_there_or_inactive(database: str, tmp_path: Path) -> None:
    async def run(handler: Handler) -> None:
        with pytest.raises(NotFound):
            await begun(handler, "nowhere")
        await defined(handler, is_active=False)
        with pytest.raises(Rejected) as refused:
            await begun(handler)
        assert refused.value.code == "workflow_inactive"
        await defined(handler, "gone")
        await handler.handle(DEFINITION, "gone", DeleteWorkflow(deleted_by="test"), cause())
        with pytest.raises(NotFound):
            await begun(handler, "gone")

    with_handler(database, tmp_path, run)


def test_a_workflow_never_runs_within_itself(database: str, tmp_path: Path) -> None:
    async def run(handler: Handler) -> None:
        await defined(handler)
        for ancestors in (["flow"], ["flow", "between"], [f"w{number}" for number in range(DEPTH_MAX + 1)]):
            parent = Parent(run_id="run_0", step="a", attempt=1, ancestors=ancestors)
            with pytest.raises(Rejected) as refused:
                await begun(handler, parent=parent)
            assert refused.value.code == "recursive_workflow"
        await begun(handler, parent=Parent(run_id="run_0", step="a", attempt=1, ancestors=["other"]))

    with_handler(database, tmp_path, run)


def test_a_retry_begins_where_the_run_failed_and_keeps_what_was_done(database: str, tmp_path: Path) -> None:
    async def run(handler: Handler) -> None:
        await defined(handler)
        run_id = await begun(handler)
        await tell(
            handler,
            run_id,
            StartStep(step="a", attempt=1),
            CompleteStep(step="a", attempt=1, outputs={"n": 1}),
            StartStep(step="b", attempt=1),
        )
        with pytest.raises(Rejected):
            await retried(handler, run_id, "run_2", from_step=None, triggered_by="ann")
        await tell(handler, run_id, FailStep(step="b", attempt=1, error="no", category="TRANSFORM"))
        again = await retried(handler, run_id, "run_2", from_step=None, triggered_by="ann")
        assert (again.trigger, again.retry_of, again.from_step) == ("RETRY", run_id, "b")
        assert again.restored == {"a": {"n": 1}}
        assert (await retried(handler, run_id, "run_2", from_step="a", triggered_by="ann")).restored == {}
        with pytest.raises(Invalid) as refused:
            await retried(handler, run_id, "run_2", from_step="d", triggered_by="ann")
        assert refused.value.code == "unknown_step"
        with pytest.raises(NotFound):
            await retried(handler, new_id("run"), "run_2", from_step=None, triggered_by="ann")

    with_handler(database, tmp_path, run)


def test_a_run_that_was_cancelled_before_it_began_is_retried_from_its_first_step(database: str, tmp_path: Path) -> None:
    async def run(handler: Handler) -> None:
        await defined(handler)
        run_id = await begun(handler)
        await tell(handler, run_id, CancelRun(requested_by="ann"))
        assert (await retried(handler, run_id, "run_2", from_step=None, triggered_by="ann")).from_step == "a"

    with_handler(database, tmp_path, run)
