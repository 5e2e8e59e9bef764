"""From a request for a batch to the one append that makes it with all its executions, and from a batch to the one that
runs some of them once more."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

import msgspec

from projections import execution_detail
from rgrid.api import links
from rgrid.api.batch_requests import BatchCreate, BatchItem, check_batch_names, check_batch_shape, merged, template_of
from rgrid.api.batch_views import BatchItemRef, RetriedExecution
from rgrid.api.execution_requests import declared
from rgrid.api.grid import Grid
from rgrid.api.input_cache import cached_inputs
from rgrid.api.submission import as_input, command_again, command_for, reserve, sealed_again
from rgrid.eventstore.append import Rider
from rgrid.eventstore.handle import NewStream
from rgrid.executions.batch import DECIDER as BATCH
from rgrid.executions.batch_events import BatchRetried, RetriedItem
from rgrid.executions.commands import CreateBatch, RetryBatch, SubmitExecution
from rgrid.executions.events import DeclaredInput, StoredFile
from rgrid.executions.execution import DECIDER
from rgrid.kernel.clock import now
from rgrid.kernel.ids import new_id
from rgrid.kernel.messages import Cause

AT_ONCE_MAX: Final = 64

Submission = tuple[str, SubmitExecution]
"""(id of the new execution, its command)."""


async def batch_of(
    grid: Grid, batch_id: str, body: BatchCreate, created_by: str
) -> tuple[CreateBatch, list[Submission]]:
    """Checks everything in the order in which clients are told what is wrong; stores the script once; seals the
    variables. Raises Malformed (422), Invalid (400), NotFound (404)."""
    check_batch_shape(body)
    await grid.runtimes.resolve(body.runtime)
    check_batch_names(body)
    inputs = await _inputs_of(grid, body)
    # Variables are sealed for each execution apart.
    template = msgspec.structs.replace(template_of(body), env_vars={})
    shared = await command_for(grid, "", template, created_by)
    await reserve(grid, body.timeout_seconds, body.cpu, len(body.items))
    ids = [new_id("exec") for _ in body.items]
    sealed = await grid.data_keys.seal_new(
        {
            DECIDER.stream_id(execution_id): merged(body.env_vars, item.env_vars) or {}
            for execution_id, item in zip(ids, body.items, strict=True)
        }
    )
    submissions = [
        (
            execution_id,
            msgspec.structs.replace(
                _item(shared, item, batch_id, index, execution_id, sealed[DECIDER.stream_id(execution_id)]),
                inputs=inputs[index][0],
                verified=inputs[index][1],
            ),
        )
        for index, (execution_id, item) in enumerate(zip(ids, body.items, strict=True))
    ]
    batch = CreateBatch(
        name=body.name,
        total=len(body.items),
        max_parallel=body.max_parallel,
        fail_fast=body.fail_fast,
        failures_max=body.failures_max,
        user_metadata=body.user_metadata,
        created_by=created_by,
    )
    return batch, submissions


async def _inputs_of(grid: Grid, body: BatchCreate) -> list[tuple[list[DeclaredInput], list[StoredFile]]]:
    """For each item what it declares and what of that the cache holds; the rest has to fit the quota."""
    found: list[tuple[list[DeclaredInput], list[StoredFile]]] = []
    to_come_bytes = 0
    for item in body.items:
        specs = declared(item.input_files)
        cached = await cached_inputs(grid, item.cached_input_refs, specs)
        held = {file.name for file in cached}
        to_come_bytes += sum(spec.size_bytes or 0 for spec in specs if spec.name not in held)
        found.append(([as_input(spec) for spec in specs], cached))
    await grid.quota.check(to_come_bytes)
    return found


def _item(
    shared: SubmitExecution,
    item: BatchItem,
    batch_id: str,
    index: int,
    execution_id: str,
    env_sealed: dict[str, str],
) -> SubmitExecution:
    return msgspec.structs.replace(
        shared,
        name=item.name or shared.name,
        args=shared.args if item.args is None else item.args,
        env_sealed=env_sealed,
        user_metadata=merged(shared.user_metadata, item.user_metadata),
        batch_id=batch_id,
        batch_index=index,
        root_execution_id=execution_id,
    )


def references(grid: Grid, submissions: Sequence[Submission], base: str) -> list[BatchItemRef]:
    """The new executions, each with addresses for the inputs that are still to come."""
    expires_at = now() + timedelta(seconds=grid.settings.upload_ttl_s)
    return [
        BatchItemRef(
            index=index,
            execution_id=execution_id,
            status="queued" if len(command.verified) == len(command.inputs) else "awaiting_inputs",
            upload_urls={one.name: links.upload(grid, execution_id, one, expires_at, base) for one in command.inputs}
            if len(command.verified) < len(command.inputs)
            else None,
        )
        for index, (execution_id, command) in enumerate(submissions)
    ]


def new_streams(submissions: Sequence[Submission]) -> list[NewStream]:
    return [NewStream(DECIDER, execution_id, command) for execution_id, command in submissions]


async def again(grid: Grid, execution_ids: Sequence[str], created_by: str) -> list[Submission]:
    """What runs these executions once more. Raises Gone for inputs that are no longer kept."""
    details = await execution_detail.get_many(grid.store, execution_ids)
    commands: list[SubmitExecution] = []
    for first in range(0, len(execution_ids), AT_ONCE_MAX):
        some = execution_ids[first : first + AT_ONCE_MAX]
        commands += await asyncio.gather(*(command_again(grid, details[each], created_by) for each in some))
    new = {new_id("exec"): details[execution_id] for execution_id in execution_ids}
    sealed = await sealed_again(grid, new)
    return [
        (execution_id, msgspec.structs.replace(command, env_sealed=sealed[execution_id]))
        for execution_id, command in zip(new, commands, strict=True)
    ]


def retried_items(submissions: Sequence[Submission]) -> list[RetriedItem]:
    return [
        RetriedItem(original_execution_id=command.retry_of or "", execution_id=execution_id, index=command.batch_index)
        for execution_id, command in submissions
    ]


def accepted(event: BatchRetried, submissions: Sequence[Submission]) -> list[Submission]:
    """Those that nobody else has retried in the meantime."""
    kept = {item.execution_id for item in event.items}
    return [(execution_id, command) for execution_id, command in submissions if execution_id in kept]


def retried(submissions: Sequence[Submission], indexes: dict[str, int]) -> list[RetriedExecution]:
    """`indexes` by the execution whose place is taken."""
    return [
        RetriedExecution(
            original_execution_id=command.retry_of or "",
            execution_id=execution_id,
            index=indexes[command.retry_of or ""],
        )
        for execution_id, command in submissions
    ]


async def retry_in_batch(
    grid: Grid,
    execution_id: str,
    command: SubmitExecution,
    cause: Cause,
    riders: Callable[[Any, Sequence[Any], int], Sequence[Rider]],
) -> int:
    """Runs one execution of a batch once more, in its place; the position of the append. `riders` are those of the new
    execution's stream."""
    assert command.batch_id is not None
    stream = NewStream(DECIDER, execution_id, command)
    handled = await grid.handler.handle(
        BATCH,
        command.batch_id,
        RetryBatch(items=retried_items([(execution_id, command)]), requested_by=command.created_by, again=True),
        cause,
        along=lambda _state, _events: [stream],
        riders=lambda _state, _events, _version: riders(None, stream.events, len(stream.events)),
    )
    return handled.position
