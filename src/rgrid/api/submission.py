"""From a request to run something to the command, in the order in which clients are told what is wrong."""

from projections.execution_detail import TERMINAL, Detail
from rgrid.api.execution_requests import (
    ExecutionCreate,
    InputFileSpec,
    check_names,
    check_shape,
    declared,
    is_open_batch,
)
from rgrid.api.grid import Grid
from rgrid.api.input_cache import cached_inputs
from rgrid.api.resource import kept_until
from rgrid.executions.commands import SubmitExecution
from rgrid.executions.events import DeclaredInput
from rgrid.executions.execution import DECIDER
from rgrid.kernel.clock import now
from rgrid.kernel.errors import Gone, NotFound, Rejected


async def command_for(grid: Grid, execution_id: str, body: ExecutionCreate, created_by: str) -> SubmitExecution:
    """Checks shape, runtime, names, cache references, batch; stores the script; seals the variables.

    Raises Malformed (422), Invalid (400), NotFound (404).
    """
    check_shape(body)
    runtime = await grid.runtimes.resolve(body.runtime)
    check_names(body)
    inputs = declared(body.input_files)
    for reference in body.secret_env.values():
        grid.secrets.check(reference)
    cached = await cached_inputs(grid, body.cached_input_refs, inputs)
    if body.batch_id is not None and not is_open_batch(body.batch_id):
        raise NotFound(f"Batch not found: {body.batch_id}")
    held = {file.name for file in cached}
    await grid.quota.check(sum(spec.size_bytes or 0 for spec in inputs if spec.name not in held))
    script = body.script_content.encode()
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
        inputs=[_input(spec) for spec in inputs],
        verified=cached,
        inputs_deadline_s=grid.settings.inputs_deadline_s,
        batch_id=body.batch_id,
        root_execution_id=execution_id,
        created_by=created_by,
    )


async def command_again(grid: Grid, execution_id: str, detail: Detail, created_by: str) -> SubmitExecution:
    """The same once more, its inputs by reference and its variables sealed for the new stream. An execution that ended
    before its inputs came waits for them again. Raises Rejected while it hasn't ended, Gone for what is no longer kept.
    """
    spec = detail.spec
    if detail.status not in TERMINAL:
        raise Rejected(
            f"Execution {detail.execution_id} is {detail.status} and can't be retried before it has ended.",
            extra={"current_status": detail.status},
        )
    await _check_inputs(grid, detail)
    env = await grid.data_keys.open(DECIDER.stream_id(detail.execution_id), spec.env_sealed)
    return SubmitExecution(
        name=spec.name,
        script_sha256=spec.script_sha256,
        script_size_bytes=spec.script_size_bytes,
        runtime=spec.runtime,
        args=spec.args,
        env_sealed=await grid.data_keys.seal(DECIDER.stream_id(execution_id), env),
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
    )


async def _check_inputs(grid: Grid, detail: Detail) -> None:
    if not detail.verified:
        return
    until = kept_until(grid, detail)
    over = detail.objects_expired_at is not None or (until is not None and until <= now())
    for file in detail.verified:
        if over or not await grid.objects.touch(file.sha256):
            raise Gone(f"The input {file.name} of {detail.execution_id} is no longer kept.", code="inputs_expired")


def _input(spec: InputFileSpec) -> DeclaredInput:
    return DeclaredInput(name=spec.name, size_bytes=spec.size_bytes, sha256=spec.sha256, content_type=spec.content_type)
