"""The service's side of the worker protocol, for workers that share its process or its database."""

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import asyncpg

from projections import run_queue, workers
from rgrid.adapters.objects import ObjectStore
from rgrid.adapters.secrets import Secrets
from rgrid.eventstore.data_keys import DataKeys
from rgrid.eventstore.handle import Handler
from rgrid.eventstore.store import Store
from rgrid.executions import leases, logs, releases
from rgrid.executions.commands import ClaimExecution, FinishAttempt
from rgrid.executions.events import AttemptEnded, ExecutionSubmitted, StaleResultRefused, StoredArtifact
from rgrid.executions.execution import DECIDER, Execution
from rgrid.executions.following import LinesStored
from rgrid.executions.quota import Quota
from rgrid.kernel.clock import now
from rgrid.kernel.errors import Conflict, Rejected, RgridError, Unavailable
from rgrid.kernel.ids import new_command_id, new_id
from rgrid.kernel.messages import Cause
from rgrid.kernel.rates import RateTable
from rgrid.pool.outputs import content_type_of
from rgrid.pool.protocol import (
    Assignment,
    InputRef,
    Lease,
    LeaseLost,
    LogLine,
    Outcome,
    Renewal,
    StoredOutput,
    WorkerInfo,
)
from rgrid.postgres.pool import GONE
from rgrid.runners import heartbeats
from rgrid.runners.commands import RegisterWorker, StopWorker
from rgrid.runners.runner import DECIDER as WORKER
from rgrid.settings import Settings
from rgrid.web.metrics import Metrics

CLAIM_POLL_S: Final = 1.0
SIGNAL_POLL_S: Final = 0.5
RESERVED_S: Final = 5.0
CLAIMED_MAX: Final = 256

_RESERVE: Final = """
    insert into rgrid.claim_reservations as r (execution_id, reserved_until)
    select id, clock_timestamp() + make_interval(secs => $2) from unnest($1::text[]) id order by id
    on conflict (execution_id) do update set reserved_until = excluded.reserved_until
        where r.reserved_until <= clock_timestamp()
    returning execution_id
"""
_RELEASE: Final = "delete from rgrid.claim_reservations where execution_id = $1"


P = ParamSpec("P")
T = TypeVar("T")


def _unavailable(call: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A database that is away is what the protocol calls Unavailable: the worker tries again."""

    @functools.wraps(call)
    async def translated(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await call(*args, **kwargs)
        except GONE as away:
            raise Unavailable("The database is not reachable.", code="database_unavailable") from away

    return translated


class InProcessWork:
    """Implements `protocol.Work` on the event store and the operational tables.

    A claim reserves candidates first, so that workers do not try for the same ones, and then asks each aggregate;
    only the log decides who owns an attempt.
    """

    def __init__(
        self,
        *,
        pool: asyncpg.Pool,
        store: Store,
        handler: Handler,
        objects: ObjectStore,
        quota: Quota,
        data_keys: DataKeys,
        secrets: Secrets,
        settings: Settings,
        lines_stored: LinesStored,
        metrics: Metrics,
    ) -> None:
        self._pool = pool
        self._store = store
        self._handler = handler
        self._objects = objects
        self._quota = quota
        self._data_keys = data_keys
        self._secrets = secrets
        self._settings = settings
        self._rates = RateTable(settings.cost_rates, settings.rate_micros_per_vcpu_hour)
        self._lines_stored = lines_stored
        self._workers: dict[str, WorkerInfo] = {}
        self._turns: dict[str, int] = {}
        self._turn = count(1)
        self._claims = metrics.counter("rgrid_claims_total", "Attempts handed to workers.")
        self._results = metrics.counter("rgrid_attempt_results_total", "Attempts that ended.", ("end", "reason"))
        self._micros = metrics.counter("rgrid_cost_micros_total", "Cost of the attempts that ended, in micros.")
        self._owners: dict[Lease, str] = {}

    @_unavailable
    async def register(self, worker: WorkerInfo) -> None:
        self._workers[worker.worker_id] = worker
        command = RegisterWorker(
            hostname=worker.hostname,
            pid=worker.pid,
            boot_id=worker.boot_id,
            process_started_ticks=worker.process_started_ticks,
            runner_kind=worker.runner_kind,
            sandbox_level=worker.sandbox_level,
            slots=worker.slots,
            runtimes=worker.runtimes,
            version=worker.version,
            cores=worker.cores,
            memory_mb=worker.memory_mb,
        )
        await heartbeats.record(self._pool, worker.worker_id)
        await self._handler.handle(WORKER, worker.worker_id, command, _cause(worker.worker_id), new=True)

    @_unavailable
    async def stopped(self, worker_id: str) -> None:
        await self._handler.handle(WORKER, worker_id, StopWorker(), _cause(worker_id))

    @_unavailable
    async def claim(self, worker_id: str, slots: int, wait_s: float) -> list[Assignment]:
        worker = self._workers[worker_id]
        until = time.monotonic() + wait_s
        while True:
            committed = self._store.committed
            position, looks = committed.position, committed.looks
            claimed = await self._claim_now(worker, min(slots, CLAIMED_MAX))
            rest_s = until - time.monotonic()
            if claimed or rest_s <= 0:
                return claimed
            pause_s = min(rest_s, CLAIM_POLL_S)
            due = await run_queue.next_due(self._pool)
            if due is not None:
                pause_s = min(pause_s, max(0.001, (due - now()).total_seconds()))
            await committed.wait_beyond(position, pause_s, looks)

    async def _claim_now(self, worker: WorkerInfo, slots: int) -> list[Assignment]:
        waiting = await run_queue.candidates(self._pool, slots, worker.runtimes, worker.memory_mb, worker.cores)
        if not waiting:
            return []
        chosen = [one.execution_id for one in self._in_turn(waiting, slots)]
        mine = {row["execution_id"] for row in await self._pool.fetch(_RESERVE, chosen, RESERVED_S)}
        tries = [self._claim_one(worker, execution_id) for execution_id in chosen if execution_id in mine]
        return [assignment for assignment in await asyncio.gather(*tries) if assignment is not None]

    def _in_turn(self, waiting: Sequence[run_queue.Waiting], slots: int) -> list[run_queue.Waiting]:
        """Lanes take turns, the one that waited longest first, so that a large batch holds up nobody."""
        lanes: dict[str, list[run_queue.Waiting]] = {}
        for one in waiting:
            lanes.setdefault(one.lane, []).append(one)
        self._turns = {lane: turn for lane, turn in self._turns.items() if lane in lanes}
        chosen: list[run_queue.Waiting] = []
        while lanes and len(chosen) < slots:
            lane = min(lanes, key=lambda name: (self._turns.get(name, 0), lanes[name][0].queued_position))
            chosen.append(lanes[lane].pop(0))
            self._turns[lane] = next(self._turn)
            if not lanes[lane]:
                del lanes[lane]
        return chosen

    async def _claim_one(self, worker: WorkerInfo, execution_id: str) -> Assignment | None:
        command = ClaimExecution(
            worker_id=worker.worker_id,
            worker_hostname=worker.hostname,
            runner_kind=worker.runner_kind,
            sandbox_level=worker.sandbox_level,
            rate_micros=self._rates.at(worker.runner_kind, now()),
        )
        try:
            handled = await self._handler.handle(
                DECIDER,
                execution_id,
                command,
                _cause(worker.worker_id),
                riders=lambda state, _events, _version: [
                    leases.take(
                        execution_id, state.attempt, state.fencing_token, worker.worker_id, self._settings.lease_ttl_s
                    )
                ],
            )
        except (Rejected, Conflict) as refused:
            # Somebody else has it, it was cancelled a moment ago, or other workers filled its batch up to the limit.
            if isinstance(refused, Conflict):
                await self._pool.execute(_RELEASE, execution_id)
            return None
        state = handled.state
        self._claims.add()
        lease = Lease(execution_id=execution_id, attempt=state.attempt, fencing_token=state.fencing_token)
        self._owners[lease] = worker.worker_id
        try:
            return await self._assignment(lease, state)
        except RgridError as missing:
            await self.finish(lease, _not_started(missing.detail))
            return None

    async def _assignment(self, lease: Lease, state: Execution) -> Assignment:
        spec = state.spec
        assert spec is not None
        stream_id = DECIDER.stream_id(lease.execution_id)
        env = await self._data_keys.open(stream_id, spec.env_sealed) if spec.env_sealed else {}
        hidden = {name: self._secrets.resolve(reference) for name, reference in spec.secret_env.items()}
        last = -1 if state.attempt == 1 else await logs.last_sequence(self._pool, lease.execution_id)
        return Assignment(
            lease=lease,
            lease_ttl_s=self._settings.lease_ttl_s,
            script=InputRef(name="script", size_bytes=spec.script_size_bytes, sha256=spec.script_sha256),
            runtime=spec.runtime,
            args=spec.args,
            env={**env, **hidden},
            masked=list(hidden.values()),
            inputs=[InputRef(name=file.name, size_bytes=file.size_bytes, sha256=file.sha256) for file in state.inputs],
            timeout_s=spec.timeout_s,
            cpu=spec.cpu,
            memory_mb=spec.memory_mb,
            network=spec.network,
            next_sequence=last + 1,
            batch_id=spec.batch_id,
            batch_index=spec.batch_index,
            scheduled_at=spec.origin.scheduled_at if spec.origin is not None else None,
            requirements=_requirements(spec),
        )

    @_unavailable
    async def signals(self, worker_id: str, wait_s: float) -> Renewal:
        until = time.monotonic() + wait_s
        while True:
            cancel = [
                Lease(execution_id=held.execution_id, attempt=held.attempt, fencing_token=held.fencing_token)
                for held in await leases.to_cancel(self._pool, worker_id)
            ]
            drain = await workers.shall_drain(self._pool, worker_id)
            rest_s = until - time.monotonic()
            if cancel or drain or rest_s <= 0:
                return Renewal(lost=[], cancel=cancel, drain=drain)
            await asyncio.sleep(min(rest_s, SIGNAL_POLL_S))

    async def fetch_object(self, lease: Lease, sha256: str, target: Path) -> None:
        await self._objects.copy_to(sha256, target)

    @_unavailable
    async def append_logs(self, batch: Sequence[tuple[Lease, Sequence[LogLine]]]) -> list[Lease]:
        lines = [
            logs.NewLine(
                execution_id=lease.execution_id,
                attempt=lease.attempt,
                fencing_token=lease.fencing_token,
                sequence_number=line.sequence_number,
                stream=line.stream,
                logged_at=line.logged_at,
                message=line.message,
            )
            for lease, some in batch
            for line in some
        ]
        held = await logs.append(self._pool, lines)
        stored = [lease for lease, _ in batch if (lease.execution_id, lease.fencing_token) in held]
        self._lines_stored.tell([lease.execution_id for lease in stored])
        return [lease for lease, _ in batch if lease not in stored]

    async def store_output(self, lease: Lease, filename: str, path: Path) -> StoredOutput:
        await self._quota.check(path.stat().st_size)
        stored = await self._objects.put_file(path)
        self._quota.took(stored.size_bytes)
        return StoredOutput(
            filename=filename,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            content_type=content_type_of(filename),
        )

    @_unavailable
    async def finish(self, lease: Lease, outcome: Outcome) -> None:
        command = FinishAttempt(
            fencing_token=lease.fencing_token,
            end=outcome.end,
            exit_code=outcome.exit_code,
            failure_reason=outcome.failure_reason,
            error=outcome.error,
            hint=outcome.hint,
            started_at=outcome.started_at,
            duration_ms=outcome.duration_ms,
            stdout_size_bytes=outcome.stdout_size_bytes,
            stderr_size_bytes=outcome.stderr_size_bytes,
            output_truncated=outcome.output_truncated,
            artifacts=[
                StoredArtifact(
                    artifact_id=new_id("art"),
                    filename=output.filename,
                    size_bytes=output.size_bytes,
                    sha256=output.sha256,
                    content_type=output.content_type,
                )
                for output in outcome.outputs
            ],
            metadata=outcome.metadata,
            caused_by_network=outcome.caused_by_network,
        )
        handled = await self._handler.handle(
            DECIDER,
            lease.execution_id,
            command,
            _cause(self._owners.pop(lease, "unknown")),
            riders=lambda _state, _events, _version: [leases.drop(lease.execution_id, lease.fencing_token)],
        )
        self._lines_stored.tell([lease.execution_id])
        for event in handled.events:
            if isinstance(event, AttemptEnded):
                self._results.add(1, (event.status, event.failure_reason or "none"))
                self._micros.add(event.cost_micros)
        if any(isinstance(event, StaleResultRefused) for event in handled.events):
            # No event names what this worker has stored.
            await releases.release_now(self._pool, [output.sha256 for output in outcome.outputs])
            raise LeaseLost("The lease of this attempt is over; its result was refused and recorded.")


def _cause(worker_id: str) -> Cause:
    return Cause(actor=f"worker:{worker_id}", command_id=new_command_id())


def _requirements(spec: ExecutionSubmitted) -> InputRef | None:
    if spec.requirements_sha256 is None:
        return None
    size_bytes = spec.requirements_size_bytes or 0
    return InputRef(name="requirements.txt", size_bytes=size_bytes, sha256=spec.requirements_sha256)


def _not_started(error: str) -> Outcome:
    """An attempt that could not even be handed out, for example because a secret can't be read."""
    return Outcome(
        end="failed",
        exit_code=None,
        failure_reason="internal",
        error=error,
        hint=None,
        duration_ms=0,
        started_at=None,
        stdout_size_bytes=0,
        stderr_size_bytes=0,
        output_truncated=False,
        outputs=[],
        metadata={},
    )
