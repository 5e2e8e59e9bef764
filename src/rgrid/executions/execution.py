"""The execution aggregate: one run of one script. Stream `execution-{id}`.

awaiting_inputs -> queued -> running -> completed | failed | timed_out | cancelled
running -> queued when an attempt was lost, failed through no fault of the script, or is to be retried by its rules
queued -> failed when no worker took it in time
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

from rgrid.executions import cost
from rgrid.executions.commands import (
    ArchiveLogs,
    CancelExecution,
    ClaimExecution,
    CompleteInputs,
    ExecutionCommand,
    ExpireInputs,
    ExpireLogs,
    ExpireObjects,
    ExpireWait,
    FinishAttempt,
    LoseAttempt,
    SubmitExecution,
)
from rgrid.executions.events import (
    AttemptEnded,
    CancelRequested,
    ExecutionCancelled,
    ExecutionClaimed,
    ExecutionCompleted,
    ExecutionEvent,
    ExecutionFailed,
    ExecutionQueued,
    ExecutionSubmitted,
    ExecutionTimedOut,
    FailureReason,
    InputsVerified,
    LogsArchived,
    LogsExpired,
    ObjectsExpired,
    OutputsStored,
    StaleResultRefused,
    StoredFile,
)
from rgrid.kernel.decider import Decider
from rgrid.kernel.errors import Rejected

Status = Literal["absent", "awaiting_inputs", "queued", "running", "completed", "failed", "timed_out", "cancelled"]
TERMINAL: Final = frozenset({"completed", "failed", "timed_out", "cancelled"})
RETRIED: Final[frozenset[FailureReason]] = frozenset({"worker_lost", "runtime_unavailable", "internal"})
ENDS: Final = (ExecutionCompleted, ExecutionFailed, ExecutionTimedOut, ExecutionCancelled)
_AS_ASKED: Final = tuple(set(SubmitExecution.__struct_fields__) & set(ExecutionSubmitted.__struct_fields__))
BACKOFF_S: Final = 1.0
BACKOFF_MAX_S: Final = 60.0


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """What decisions need. `fencing_token` is that of the newest claim, `settled_token` that of the last attempt
    whose end was accepted."""

    status: Status = "absent"
    spec: ExecutionSubmitted | None = None
    inputs: tuple[StoredFile, ...] = ()
    attempt: int = 0
    fencing_token: int = 0
    settled_token: int = 0
    retries: int = 0
    hourly_micros: int = 0
    claimed_at: datetime | None = None
    cost_micros: int = 0
    cancel_requested_by: str | None = None
    cancel_reason: str | None = None
    wait_until: datetime | None = None
    outputs: tuple[str, ...] = ()
    completed_at: datetime | None = None
    objects_expired: bool = False
    logs_archived_to: int = -1
    logs_archived_whole: bool = False
    log_blocks: tuple[str, ...] = ()
    logs_expired: bool = False


INITIAL: Final = Execution()


def decide(command: ExecutionCommand, state: Execution, now: datetime) -> Sequence[ExecutionEvent]:
    """The events that follow, `[]` when it is so already. Refuses with Rejected `illegal_transition`."""
    events = _decide(command, state, now)
    if state.spec is None or state.spec.origin is None:
        return events
    # Whoever waits for the end finds out from the event whether it is theirs.
    origin = state.spec.origin
    return [msgspec.structs.replace(one, origin=origin) if isinstance(one, ENDS) else one for one in events]


def _decide(command: ExecutionCommand, state: Execution, now: datetime) -> Sequence[ExecutionEvent]:
    match command:
        case SubmitExecution():
            return _submit(command, state, now)
        case CompleteInputs(files=files):
            if state.status == "awaiting_inputs":
                return [InputsVerified(files=files, verified_at=now), _queued(state.spec, 1, now, now)]
            if state.status in ("absent", "failed", "cancelled") and not state.attempt:
                raise _not_while(state, "can't take inputs")
            return []
        case ExpireInputs():
            deadline = state.spec.inputs_deadline if state.spec else None
            if state.status != "awaiting_inputs" or deadline is None or now < deadline:
                return []
            return [_failed(state, "input_missing", None, "The inputs were not uploaded in time.", now)]
        case ExpireWait():
            if state.status != "queued" or state.wait_until is None or now < state.wait_until:
                return []
            return [_failed(state, "runtime_unavailable", None, _waited_too_long(state), now)]
        case ClaimExecution():
            return _claim(command, state, now)
        case FinishAttempt():
            return _finish(command, state, now)
        case LoseAttempt():
            return _lose(command, state, now)
        case CancelExecution():
            return _cancel(command, state, now)
        case ExpireObjects(ended_before=ended_before):
            held = [*(file.sha256 for file in state.inputs), *state.outputs]
            if state.objects_expired or not held or not _had_ended(state, ended_before):
                return []
            return [ObjectsExpired(released=held, expired_at=now)]
        case ArchiveLogs():
            return _archive(command, state, now)
        case ExpireLogs(ended_before=ended_before):
            if state.logs_expired or not _had_ended(state, ended_before):
                return []
            released = list(state.log_blocks)
            return [LogsExpired(stdout=command.stdout, stderr=command.stderr, released=released, expired_at=now)]


def _had_ended(state: Execution, by: datetime) -> bool:
    return state.completed_at is not None and state.completed_at <= by


def _archive(command: ArchiveLogs, state: Execution, now: datetime) -> Sequence[ExecutionEvent]:
    """Nothing when somebody else was faster: blocks go on where those before them ended."""
    if state.logs_archived_whole or state.logs_expired or not _had_ended(state, command.ended_before):
        return []
    blocks = command.blocks
    if command.after != state.logs_archived_to or not (blocks or command.is_whole):
        return []
    lines = sum(block.stdout_lines + block.stderr_lines for block in blocks)
    return [LogsArchived(lines=lines, blocks=blocks, is_whole=command.is_whole, archived_at=now)]


def _submit(command: SubmitExecution, state: Execution, now: datetime) -> Sequence[ExecutionEvent]:
    if state.status != "absent":
        return []
    ready = len(command.verified) == len(command.inputs)
    spec = ExecutionSubmitted(
        **{name: getattr(command, name) for name in _AS_ASKED},
        submitted_at=now,
        inputs_deadline=None if ready else now + timedelta(seconds=command.inputs_deadline_s),
    )
    verified = [InputsVerified(files=command.verified, verified_at=now)] if command.verified else []
    return [spec, *verified, *([_queued(spec, 1, now, now)] if ready else [])]


def _claim(command: ClaimExecution, state: Execution, now: datetime) -> Sequence[ExecutionEvent]:
    if state.status != "queued" or state.spec is None:
        raise _not_while(state, "can't be claimed")
    return [
        ExecutionClaimed(
            attempt=state.attempt + 1,
            fencing_token=state.fencing_token + 1,
            worker_id=command.worker_id,
            worker_hostname=command.worker_hostname,
            runner_kind=command.runner_kind,
            sandbox_level=command.sandbox_level,
            hourly_micros=cost.hourly_micros(command.rate_micros, state.spec.cpu),
            claimed_at=now,
        )
    ]


def _finish(command: FinishAttempt, state: Execution, now: datetime) -> Sequence[ExecutionEvent]:
    if command.fencing_token == state.settled_token and command.fencing_token:
        return []
    if state.status != "running" or command.fencing_token != state.fencing_token:
        return [StaleResultRefused(fencing_token=command.fencing_token, end=command.end, refused_at=now)]
    ended = AttemptEnded(
        attempt=state.attempt,
        status=command.end,
        exit_code=command.exit_code,
        failure_reason=command.failure_reason,
        error=command.error,
        hint=command.hint,
        started_at=command.started_at or state.claimed_at or now,
        ended_at=now,
        duration_ms=command.duration_ms,
        cost_micros=cost.attempt_micros(command.duration_ms, state.hourly_micros),
        stdout_size_bytes=command.stdout_size_bytes,
        stderr_size_bytes=command.stderr_size_bytes,
        output_truncated=command.output_truncated,
        metadata=command.metadata,
    )
    stored = OutputsStored(attempt=state.attempt, artifacts=command.artifacts, stored_at=now)
    after = _after(ended, state, now, caused_by_network=command.caused_by_network)
    return [*([stored] if command.artifacts else []), ended, after]


def _lose(command: LoseAttempt, state: Execution, now: datetime) -> Sequence[ExecutionEvent]:
    if state.status != "running" or command.fencing_token != state.fencing_token:
        return []
    claimed_at = state.claimed_at or now
    duration_ms = max(0, round((command.last_heartbeat_at - claimed_at) / timedelta(milliseconds=1)))
    ended = AttemptEnded(
        attempt=state.attempt,
        status="lost",
        failure_reason="worker_lost",
        error=command.error,
        started_at=claimed_at,
        ended_at=now,
        duration_ms=duration_ms,
        cost_micros=cost.attempt_micros(duration_ms, state.hourly_micros),
    )
    return [ended, _after(ended, state, now)]


def _after(ended: AttemptEnded, state: Execution, now: datetime, *, caused_by_network: bool = False) -> ExecutionEvent:
    """What an ended attempt means for the execution."""
    total = state.cost_micros + ended.cost_micros
    reason: FailureReason = ended.failure_reason or "internal"
    is_no_fault = reason in RETRIED or (reason == "dependency_install" and caused_by_network)
    if ended.status == "completed":
        return ExecutionCompleted(finalized_cost_micros=total, completed_at=now)
    if state.spec is not None and _is_retried(ended, state, state.spec, is_no_fault=is_no_fault):
        return _queued(state.spec, state.attempt + 1, now, now + _backoff(state, state.spec))
    if ended.status == "timed_out":
        return ExecutionTimedOut(error=ended.error, finalized_cost_micros=total, completed_at=now)
    if state.cancel_requested_by is not None and (ended.status in ("cancelled", "lost") or is_no_fault):
        return ExecutionCancelled(
            cancelled_by=state.cancel_requested_by,
            reason=state.cancel_reason,
            finalized_cost_micros=total,
            completed_at=now,
        )
    return ExecutionFailed(
        failure_reason=reason,
        exit_code=ended.exit_code,
        error=ended.error,
        finalized_cost_micros=total,
        completed_at=now,
    )


def _is_retried(ended: AttemptEnded, state: Execution, spec: ExecutionSubmitted, *, is_no_fault: bool) -> bool:
    """Whether another attempt follows: by the submitter's rules, else only for what is no fault of the script."""
    if state.cancel_requested_by is not None or ended.status == "cancelled" or state.retries >= spec.max_retries:
        return False
    reason: FailureReason = "timeout" if ended.status == "timed_out" else ended.failure_reason or "internal"
    if spec.retry is None:
        return is_no_fault
    return reason in spec.retry.reasons or (reason == "exit_code" and ended.exit_code in spec.retry.exit_codes)


def _backoff(state: Execution, spec: ExecutionSubmitted) -> timedelta:
    """1, 2, 4 … 60 s with ±25 % jitter, drawn from the execution so that a decision stays a pure function."""
    seed = f"{spec.root_execution_id}:{spec.script_sha256}:{state.attempt}".encode()
    share = hashlib.blake2b(seed, digest_size=4).digest()
    jitter = 0.75 + 0.5 * int.from_bytes(share, "big") / 0xFFFF_FFFF
    first_s, max_s = (spec.retry.backoff_s, spec.retry.backoff_max_s) if spec.retry else (BACKOFF_S, BACKOFF_MAX_S)
    return timedelta(seconds=min(max_s, first_s * 2**state.retries) * jitter)


def _cancel(command: CancelExecution, state: Execution, now: datetime) -> Sequence[ExecutionEvent]:
    match state.status:
        case "running":
            if state.cancel_requested_by is not None:
                return []
            return [CancelRequested(requested_by=command.requested_by, reason=command.reason, requested_at=now)]
        case "awaiting_inputs" | "queued":
            return [
                ExecutionCancelled(
                    cancelled_by=command.requested_by,
                    reason=command.reason,
                    finalized_cost_micros=state.cost_micros,
                    completed_at=now,
                )
            ]
        case "cancelled":
            return []
        case _:
            raise _not_while(state, "can't be cancelled")


def _queued(spec: ExecutionSubmitted | None, attempt: int, now: datetime, not_before: datetime) -> ExecutionQueued:
    assert spec is not None
    return ExecutionQueued(
        attempt=attempt,
        runtime=spec.runtime,
        cpu=spec.cpu,
        memory_mb=spec.memory_mb,
        batch_id=spec.batch_id,
        not_before=not_before,
        queued_at=now,
        expires_at=None if spec.queue_timeout_s is None else not_before + timedelta(seconds=spec.queue_timeout_s),
        priority=spec.priority,
    )


def _waited_too_long(state: Execution) -> str:
    assert state.spec is not None
    return f"No worker took it within its queue timeout of {state.spec.queue_timeout_s} s."


def _failed(
    state: Execution, reason: FailureReason, exit_code: int | None, error: str, now: datetime
) -> ExecutionFailed:
    return ExecutionFailed(
        failure_reason=reason,
        exit_code=exit_code,
        error=error,
        finalized_cost_micros=state.cost_micros,
        completed_at=now,
    )


def _not_while(state: Execution, what: str) -> Rejected:
    return Rejected(f"The execution is {state.status} and {what}.", extra={"current_status": state.status})


def evolve(state: Execution, event: ExecutionEvent) -> Execution:
    """The state after a recorded event."""
    replace = msgspec.structs.replace
    match event:
        case ExecutionSubmitted():
            return Execution(status="awaiting_inputs", spec=event)
        case InputsVerified(files=files):
            return replace(state, inputs=(*state.inputs, *files))
        case ExecutionQueued(attempt=attempt, expires_at=expires_at):
            return replace(state, status="queued", retries=attempt - 1, wait_until=expires_at)
        case ExecutionClaimed():
            return replace(
                state,
                status="running",
                attempt=event.attempt,
                fencing_token=event.fencing_token,
                hourly_micros=event.hourly_micros,
                claimed_at=event.claimed_at,
            )
        case AttemptEnded():
            cost_micros = state.cost_micros + event.cost_micros
            # A lost attempt settled nothing: a result that its worker hands in later is refused and recorded.
            settled_token = state.settled_token if event.status == "lost" else state.fencing_token
            return replace(state, settled_token=settled_token, cost_micros=cost_micros)
        case CancelRequested():
            return replace(state, cancel_requested_by=event.requested_by, cancel_reason=event.reason)
        case ExecutionCompleted(completed_at=at):
            return replace(state, status="completed", completed_at=at)
        case ExecutionFailed(completed_at=at):
            return replace(state, status="failed", completed_at=at)
        case ExecutionTimedOut(completed_at=at):
            return replace(state, status="timed_out", completed_at=at)
        case ExecutionCancelled(completed_at=at):
            return replace(state, status="cancelled", completed_at=at)
        case OutputsStored(artifacts=artifacts):
            return replace(state, outputs=(*state.outputs, *(made.sha256 for made in artifacts)))
        case ObjectsExpired():
            return replace(state, objects_expired=True)
        case LogsArchived(blocks=blocks, is_whole=is_whole):
            to = blocks[-1].last if blocks else state.logs_archived_to
            hashes = (*state.log_blocks, *(block.sha256 for block in blocks))
            return replace(state, logs_archived_to=to, logs_archived_whole=is_whole, log_blocks=hashes)
        case LogsExpired():
            return replace(state, logs_expired=True, log_blocks=())
        case StaleResultRefused():
            return state


DECIDER: Final = Decider[ExecutionCommand, Execution, ExecutionEvent](
    noun="execution", initial=INITIAL, decide=decide, evolve=evolve
)
