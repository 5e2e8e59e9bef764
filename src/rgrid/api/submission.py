"""From a request to run something to the command, in the order in which clients are told what is wrong."""

from collections.abc import Mapping

from projections.execution_detail import TERMINAL, Detail
from rgrid.api.execution_requests import (
    ExecutionCreate,
    ExecutionTemplate,
    InputFileSpec,
    check_names,
    check_shape,
    declared,
    is_open_batch,
)
from rgrid.api.grid import Grid
from rgrid.api.input_cache import cached_inputs
from rgrid.api.requirements import keep, requirements_of
from rgrid.api.resource import kept_until
from rgrid.executions.batch import DECIDER as BATCH
from rgrid.executions.commands import SubmitExecution
from rgrid.executions.cost import reserve_micros
from rgrid.executions.events import DeclaredInput, RetryRules
from rgrid.executions.execution import BACKOFF_MAX_S, BACKOFF_S, DECIDER, RETRIED
from rgrid.kernel.clock import now
from rgrid.kernel.errors import Gone, NotFound, Rejected


async def command_for(grid: Grid, execution_id: str, body: ExecutionCreate, created_by: str) -> SubmitExecution:
    """Checks shape, runtime, names, cache references, batch; stores the script; seals the variables.

    Raises Malformed (422), Invalid (400), NotFound (404), SpendingLimit (402).
    """
    check_shape(body)
    runtime = await grid.runtimes.resolve(body.runtime)
    requirements = requirements_of(runtime, body.script_content, body.requirements_content)
    check_names(body)
    inputs = declared(body.input_files)
    for reference in body.secret_env.values():
        grid.secrets.check(reference)
    cached = await cached_inputs(grid, body.cached_input_refs, inputs)
    if body.batch_id is not None:
        await _check_open(grid, body.batch_id)
    held = {file.name for file in cached}
    await grid.quota.check(sum(spec.size_bytes or 0 for spec in inputs if spec.name not in held))
    reserved_micros = await reserve(grid, body.timeout_seconds, body.cpu)
    script = body.script_content.encode()
    requirements_sha256, requirements_size_bytes = await keep(grid, requirements)
    return SubmitExecution(
        name=body.name,
        script_sha256=await grid.objects.put_bytes(script),
        script_size_bytes=len(script),
        runtime=runtime,
        args=body.args,
        env_sealed=await grid.data_keys.seal(DECIDER.stream_id(execution_id), body.env_vars),
        secret_env=body.secret_env,
        timeout_s=body.timeout_seconds,
        cpu=body.cpu,
        memory_mb=body.memory_mb,
        network=body.network,
        max_retries=body.max_retries,
        user_metadata=body.user_metadata,
        inputs=[as_input(spec) for spec in inputs],
        verified=cached,
        inputs_deadline_s=grid.settings.inputs_deadline_s,
        batch_id=body.batch_id,
        root_execution_id=execution_id,
        created_by=created_by,
        retry=retry_rules(body),
        queue_timeout_s=body.queue_timeout_seconds,
        priority=body.priority,
        reserved_micros=reserved_micros,
        requirements_sha256=requirements_sha256,
        requirements_size_bytes=requirements_size_bytes,
    )


async def reserve(grid: Grid, timeout_s: int, cpu: float, count: int = 1) -> int:
    """What a spending limit keeps aside for each of `count` executions: the cost of its whole timeout at the highest
    price of today. Raises SpendingLimit when the month has too little left for all of them; whether it has is decided
    once more as their events are appended."""
    micros = reserve_micros(timeout_s, cpu, grid.rates.highest(now()))
    await grid.spending.allow(grid.pool, micros * count, now())
    return micros


def retry_rules(template: ExecutionTemplate) -> RetryRules | None:
    """The submitter's own rules, None for those of the grid."""
    backoff = (template.retry_backoff_seconds, template.retry_backoff_max_seconds)
    if template.retry_on is None and backoff == (BACKOFF_S, BACKOFF_MAX_S):
        return None
    wanted = sorted(RETRIED) if template.retry_on is None else template.retry_on
    return RetryRules(
        reasons=[one for one in wanted if isinstance(one, str)],
        exit_codes=[one for one in wanted if isinstance(one, int)],
        backoff_s=backoff[0],
        backoff_max_s=backoff[1],
    )


async def sealed_again(grid: Grid, details: Mapping[str, Detail]) -> dict[str, dict[str, str]]:
    """The variables of executions that run once more, sealed for the new streams; both by the new execution's id."""
    of_old = {DECIDER.stream_id(detail.execution_id): detail.spec.env_sealed for detail in details.values()}
    clear = await grid.data_keys.open_many(of_old)
    new = {
        DECIDER.stream_id(execution_id): clear[DECIDER.stream_id(detail.execution_id)]
        for execution_id, detail in details.items()
    }
    sealed = await grid.data_keys.seal_new(new)
    return {execution_id: sealed[DECIDER.stream_id(execution_id)] for execution_id in details}


async def command_again(grid: Grid, detail: Detail, created_by: str) -> SubmitExecution:
    """The same once more, its inputs by reference, still without its variables. An execution that ended before its
    inputs came waits for them again. Raises Rejected while it hasn't ended, Gone for what is no longer kept."""
    spec = detail.spec
    if detail.status not in TERMINAL:
        raise Rejected(
            f"Execution {detail.execution_id} is {detail.status} and can't be retried before it has ended.",
            extra={"current_status": detail.status},
        )
    await _check_inputs(grid, detail)
    reserved_micros = await reserve(grid, spec.timeout_s, spec.cpu)
    return SubmitExecution(
        name=spec.name,
        script_sha256=spec.script_sha256,
        script_size_bytes=spec.script_size_bytes,
        runtime=spec.runtime,
        args=spec.args,
        secret_env=spec.secret_env,
        timeout_s=spec.timeout_s,
        cpu=spec.cpu,
        memory_mb=spec.memory_mb,
        network=spec.network,
        max_retries=spec.max_retries,
        user_metadata=spec.user_metadata,
        inputs=spec.inputs,
        verified=list(detail.verified),
        inputs_deadline_s=grid.settings.inputs_deadline_s,
        batch_id=spec.batch_id,
        batch_index=spec.batch_index,
        retry_of=detail.execution_id,
        root_execution_id=spec.root_execution_id,
        created_by=created_by,
        retry=spec.retry,
        queue_timeout_s=spec.queue_timeout_s,
        priority=spec.priority,
        reserved_micros=reserved_micros,
        requirements_sha256=spec.requirements_sha256,
        requirements_size_bytes=spec.requirements_size_bytes,
    )


async def _check_open(grid: Grid, batch_id: str) -> None:
    """Raises NotFound for what can't be the id of a batch, Rejected for one that was made as a whole."""
    if not is_open_batch(batch_id):
        raise NotFound(f"Batch not found: {batch_id}")
    batch, _ = await grid.handler.load(BATCH, batch_id)
    if batch.is_closed:
        raise Rejected(f"{batch_id} was made as a whole; nothing can be added to it.", code="batch_closed")


async def _check_inputs(grid: Grid, detail: Detail) -> None:
    if not detail.verified:
        return
    until = kept_until(grid, detail)
    over = detail.objects_expired_at is not None or (until is not None and until <= now())
    for file in detail.verified:
        if over or not await grid.objects.touch(file.sha256):
            raise Gone(f"The input {file.name} of {detail.execution_id} is no longer kept.", code="inputs_expired")


def as_input(spec: InputFileSpec) -> DeclaredInput:
    return DeclaredInput(name=spec.name, size_bytes=spec.size_bytes, sha256=spec.sha256, content_type=spec.content_type)
