"""From a request to run something to the command, in the order in which clients are told what is wrong."""

from rgrid.api.execution_requests import ExecutionCreate, InputFileSpec, check_template, declared, is_open_batch
from rgrid.api.grid import Grid
from rgrid.executions.commands import SubmitExecution
from rgrid.executions.events import DeclaredInput
from rgrid.executions.execution import DECIDER
from rgrid.kernel.errors import NotFound


async def command_for(grid: Grid, execution_id: str, body: ExecutionCreate, created_by: str) -> SubmitExecution:
    """Checks shape, runtime, names, cache references, batch; stores the script; seals the variables.

    Raises Malformed (422), Invalid (400), NotFound (404).
    """
    check_template(body)
    runtime = await grid.runtimes.resolve(body.runtime)
    inputs = declared(body.input_files)
    for reference in body.secret_env.values():
        grid.secrets.check(reference)
    if body.cached_input_refs:
        unknown = next(iter(body.cached_input_refs.values()))
        raise NotFound(f"Cached input not found: {unknown}", code="cache_reference_unknown")
    if body.batch_id is not None and not is_open_batch(body.batch_id):
        raise NotFound(f"Batch not found: {body.batch_id}")
    script = body.script_content.encode()
    sealed = await grid.data_keys.seal(DECIDER.stream_id(execution_id), body.env_vars) if body.env_vars else {}
    return SubmitExecution(
        name=body.name,
        script_sha256=await grid.objects.put_bytes(script),
        script_size_bytes=len(script),
        runtime=runtime,
        args=body.args,
        env_sealed=sealed,
        secret_env=body.secret_env,
        timeout_s=body.timeout_seconds,
        cpu=body.cpu,
        memory_mb=body.memory_mb,
        network=body.network,
        max_retries=body.max_retries,
        user_metadata=body.user_metadata,
        inputs=[_input(spec) for spec in inputs],
        inputs_deadline_s=grid.settings.inputs_deadline_s,
        batch_id=body.batch_id,
        root_execution_id=execution_id,
        created_by=created_by,
    )


def _input(spec: InputFileSpec) -> DeclaredInput:
    return DeclaredInput(name=spec.name, size_bytes=spec.size_bytes, sha256=spec.sha256, content_type=spec.content_type)
