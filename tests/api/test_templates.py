"""Execution templates: checked like a submission, with every input in the grid already."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from api.one_grid import cause

from rgrid.api.grid import Grid
from rgrid.api.templates import check_on_grid, check_template, execution_from
from rgrid.assembly import assembled
from rgrid.executions.commands import ClaimExecution, FinishAttempt
from rgrid.executions.events import ExecutionQueued, ExecutionSubmitted, InputsVerified, Origin, StoredArtifact
from rgrid.executions.execution import DECIDER
from rgrid.kernel.errors import Malformed, NotFound
from rgrid.kernel.ids import new_id
from rgrid.settings import Settings

ORIGIN = Origin(workflow_run_id="run_1", step="a", step_attempt=1)
SCRIPT = {"script_content": "print(1)"}


@asynccontextmanager
async def a_grid(dsn: str, folder: Path) -> AsyncIterator[Grid]:
    async with assembled(Settings(data_dir=folder, encryption_key="00" * 32), dsn) as parts:
        parts.grid.runtimes.found_here(["python:3.11"])
        yield parts.grid


async def made(grid: Grid, filename: str, content: bytes) -> str:
    """An execution that has made this file."""
    execution_id = new_id("exec")
    begun = await execution_from(grid, SCRIPT, execution_id, ORIGIN, name=None, created_by="test")
    await grid.handler.handle(DECIDER, execution_id, begun.command, cause(), new=True)
    claim = ClaimExecution(
        worker_id="w", worker_hostname="h", runner_kind="local", sandbox_level="namespaces", rate_micros=0
    )
    await grid.handler.handle(DECIDER, execution_id, claim, cause())
    artifact = StoredArtifact(
        artifact_id=new_id("art"),
        filename=filename,
        size_bytes=len(content),
        sha256=await grid.objects.put_bytes(content),
        content_type="text/plain",
    )
    end = FinishAttempt(fencing_token=1, end="completed", exit_code=0, duration_ms=1, artifacts=[artifact])
    await grid.handler.handle(DECIDER, execution_id, end, cause())
    return execution_id


def test_a_template_becomes_an_execution_that_knows_where_it_came_from(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with a_grid(database, tmp_path) as grid:
            first = await made(grid, "made/data.csv", b"a;b\n")
            template = {
                **SCRIPT,
                "timeout_seconds": 7,
                "input_files": ["data.csv"],
                "inputs": {"data.csv": {"execution_id": first, "filename": "made/data.csv"}},
            }
            execution_id = new_id("exec")
            begun = await execution_from(grid, template, execution_id, ORIGIN, name="flow.a", created_by="system")
            done = await grid.handler.handle(DECIDER, execution_id, begun.command, cause(), new=True)
            submitted, verified, queued = done.events
            assert isinstance(submitted, ExecutionSubmitted)
            assert isinstance(verified, InputsVerified)
            assert isinstance(queued, ExecutionQueued)
            assert submitted.origin == ORIGIN
            assert (submitted.name, submitted.timeout_s, submitted.created_by) == ("flow.a", 7, "system")
            [file] = verified.files
            assert (file.name, file.size_bytes) == ("data.csv", 4)
            assert await grid.objects.read_bytes(file.sha256, 10) == b"a;b\n"

    asyncio.run(run())


def test_an_input_that_nobody_made_is_not_found(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with a_grid(database, tmp_path) as grid:
            first = await made(grid, "data.csv", b"x")
            for execution_id, filename in ((new_id("exec"), "data.csv"), (first, "other.csv")):
                template = {**SCRIPT, "inputs": {"in": {"execution_id": execution_id, "filename": filename}}}
                with pytest.raises(NotFound):
                    await execution_from(grid, template, new_id("exec"), ORIGIN, name=None, created_by="test")
            with pytest.raises(NotFound):
                template = {**SCRIPT, "cached_input_refs": {"in": "objects/" + "0" * 64}}
                await execution_from(grid, template, new_id("exec"), ORIGIN, name=None, created_by="test")

    asyncio.run(run())


def test_a_wrong_template_is_refused_with_every_field(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with a_grid(database, tmp_path) as grid:
            with pytest.raises(Malformed) as refused:
                await execution_from(grid, {"cpu": 99}, new_id("exec"), ORIGIN, name=None, created_by="test")
            assert {field for field, _ in refused.value.fields} == {"cpu", "script_content"}
            assert not await check_on_grid(grid, SCRIPT)
            assert [field for field, _ in await check_on_grid(grid, {**SCRIPT, "runtime": "cobol"})] == ["runtime"]
            bad_secret = {**SCRIPT, "secret_env": {"A": "nonsense"}}
            assert await check_on_grid(grid, bad_secret)
            packages = {**SCRIPT, "requirements_content": "-e git://x"}
            assert [field for field, _ in await check_on_grid(grid, packages)] == ["requirements_content"]

    asyncio.run(run())


WRONG: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"script_content"}),
    ({**SCRIPT, "batch_id": "batch_12345678"}, {"batch_id"}),
    ({**SCRIPT, "env_vars": {"PATH": "x"}}, {"env_vars.PATH"}),
    ({**SCRIPT, "env_vars": {"A": "x"}, "secret_env": {"A": "env:A"}}, {"secret_env.A"}),
    ({**SCRIPT, "input_files": ["a.csv"]}, {"input_files[0]"}),
    ({**SCRIPT, "inputs": {"a.csv": {"execution_id": "e"}}}, {"inputs.a.csv.filename"}),
    ({**SCRIPT, "timeout_seconds": "soon"}, {"timeout_seconds"}),
]


@pytest.mark.parametrize(("template", "fields"), WRONG)
def test_what_is_wrong_is_named(template: dict[str, Any], fields: set[str]) -> None:
    assert {field for field, _ in check_template(template)} == fields
    assert {field for field, _ in check_template(template, expressions=True)} == fields


def test_what_is_still_to_be_evaluated_is_right_for_now() -> None:
    later = {
        "script_content": "${params.script}",
        "timeout_seconds": "${params.limit}",
        "args": "${params.args}",
        "inputs": {"a.b.csv": {"execution_id": "${steps.a.output.execution_id}", "filename": "x"}, "c": "${params.c}"},
    }
    assert check_template(later, expressions=True) == []
    assert {field for field, _ in check_template(later)} == {"timeout_seconds", "args", "inputs.c"}
    unknown = {**SCRIPT, "cpus": "${params.cpu}"}
    assert check_template(unknown, expressions=True) == [("cpus", "There is no such field.")]
