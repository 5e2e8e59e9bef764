"""The other end of the worker protocol, in memory: hands out work, fences by token, keeps what it is sent.

It is the remote side only; nothing of the worker is imitated here.
"""

import asyncio
import hashlib
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from rgrid.kernel.errors import NotFound, Unavailable
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

SIGNAL_POLL_S = 0.01


class GridDouble:
    """`down` makes every call fail as an unreachable service does; `expire` lets a lease run out."""

    def __init__(self, lease_ttl_s: float = 60.0) -> None:
        self.lease_ttl_s = lease_ttl_s
        self.objects: dict[str, bytes] = {}
        self.queue: list[Assignment] = []
        self.current: dict[str, Lease] = {}
        self.logs: dict[str, dict[int, LogLine]] = defaultdict(dict)
        self.appends: list[list[str]] = []
        self.outputs: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.outcomes: dict[str, list[Outcome]] = defaultdict(list)
        self.refused: list[tuple[str, Lease]] = []
        self.workers: list[WorkerInfo] = []
        self.stopped_workers: list[str] = []
        self.claims: list[int] = []
        self.renewals: list[list[Lease]] = []
        self.to_cancel: set[Lease] = set()
        self.drain = False
        self.quiet_signals = False
        self.down = False
        self.renewals_down = False
        self.store_fault: Exception | None = None
        self._renew_lock = threading.Lock()
        self._token = 0
        self._count = 0

    # The user's side

    def put(self, content: bytes | str, name: str) -> InputRef:
        data = content.encode() if isinstance(content, str) else content
        digest = hashlib.sha256(data).hexdigest()
        self.objects[digest] = data
        return InputRef(name=name, size_bytes=len(data), sha256=digest)

    def submit(self, script: str, inputs: dict[str, bytes] | None = None, **more: Any) -> str:
        self._count += 1
        execution_id = f"exec_{self._count:04d}"
        values: dict[str, Any] = {
            "lease": Lease(execution_id=execution_id, attempt=1, fencing_token=0),
            "lease_ttl_s": self.lease_ttl_s,
            "script": self.put(script, "script.py"),
            "runtime": "python:3.11",
            "args": [],
            "env": {},
            "masked": [],
            "inputs": [self.put(data, name) for name, data in (inputs or {}).items()],
            "timeout_s": 60,
            "cpu": 1.0,
            "memory_mb": 512,
            "network": False,
            "next_sequence": 0,
        }
        self.queue.append(Assignment(**{**values, **more}))
        return execution_id

    def expire(self, execution_id: str) -> None:
        self.current.pop(execution_id)

    def messages(self, execution_id: str, stream: str | None = None) -> list[str]:
        lines = sorted(self.logs[execution_id].values(), key=lambda line: line.sequence_number)
        return [line.message for line in lines if stream in (None, line.stream)]

    def outcome(self, execution_id: str) -> Outcome:
        (outcome,) = self.outcomes[execution_id]
        return outcome

    async def until_ended(self, *execution_ids: str) -> None:
        while not all(self.outcomes.get(one) for one in execution_ids):
            await asyncio.sleep(0.005)

    async def until_printed(self, execution_id: str, message: str) -> None:
        while message not in self.messages(execution_id):
            await asyncio.sleep(0.005)

    # The worker's side

    def _reachable(self) -> None:
        if self.down:
            raise Unavailable("the service is away")

    def _fence(self, lease: Lease, what: str) -> None:
        self._reachable()
        if self.current.get(lease.execution_id) != lease:
            self.refused.append((what, lease))
            raise LeaseLost("not the current lease")

    async def register(self, worker: WorkerInfo) -> None:
        self._reachable()
        self.workers.append(worker)

    async def claim(self, worker_id: str, slots: int, wait_s: float) -> list[Assignment]:
        self._reachable()
        self.claims.append(slots)
        give_up_at = asyncio.get_running_loop().time() + wait_s
        while not self.queue and asyncio.get_running_loop().time() < give_up_at:
            await asyncio.sleep(0.002)
            self._reachable()
        taken, self.queue = self.queue[:slots], self.queue[slots:]
        return [self._lease_out(assignment) for assignment in taken]

    def _lease_out(self, assignment: Assignment) -> Assignment:
        self._token += 1
        lease = replace(assignment.lease, fencing_token=self._token)
        self.current[lease.execution_id] = lease
        return replace(assignment, lease=lease)

    async def signals(self, worker_id: str, wait_s: float) -> Renewal:
        give_up_at = asyncio.get_running_loop().time() + wait_s
        while asyncio.get_running_loop().time() < give_up_at:
            self._reachable()
            if not self.quiet_signals and (self.to_cancel or self.drain):
                return Renewal(lost=[], cancel=list(self.to_cancel), drain=self.drain)
            await asyncio.sleep(SIGNAL_POLL_S)
        return Renewal(lost=[], cancel=[], drain=False)

    async def fetch_object(self, lease: Lease, sha256: str, target: Path) -> None:
        self._fence(lease, "fetch")
        if sha256 not in self.objects:
            raise NotFound("no such object")
        target.write_bytes(self.objects[sha256])

    async def append_logs(self, batch: Sequence[tuple[Lease, Sequence[LogLine]]]) -> list[Lease]:
        self._reachable()
        await asyncio.sleep(0)
        self.appends.append([lease.execution_id for lease, _ in batch])
        lost = []
        for lease, lines in batch:
            if self.current.get(lease.execution_id) != lease:
                self.refused.append(("logs", lease))
                lost.append(lease)
                continue
            for line in lines:
                stored = self.logs[lease.execution_id].setdefault(line.sequence_number, line)
                assert stored == line, "a repeated line must be the same line"
        return lost

    async def store_output(self, lease: Lease, filename: str, path: Path) -> StoredOutput:
        self._fence(lease, "output")
        if self.store_fault is not None:
            raise self.store_fault
        data = path.read_bytes()
        self.outputs[lease.execution_id][filename] = data
        digest = hashlib.sha256(data).hexdigest()
        kind = content_type_of(filename)
        return StoredOutput(filename=filename, size_bytes=len(data), sha256=digest, content_type=kind)

    async def finish(self, lease: Lease, outcome: Outcome) -> None:
        self._fence(lease, "finish")
        await asyncio.sleep(0)
        self.outcomes[lease.execution_id].append(outcome)
        self.to_cancel.discard(lease)
        del self.current[lease.execution_id]

    async def stopped(self, worker_id: str) -> None:
        self._reachable()
        self.stopped_workers.append(worker_id)

    def close(self) -> None:
        pass

    def renew(self, worker_id: str, leases: Sequence[Lease]) -> Renewal:
        if self.down or self.renewals_down:
            raise Unavailable("the service is away")
        with self._renew_lock:
            self.renewals.append(list(leases))
            lost = [lease for lease in leases if self.current.get(lease.execution_id) != lease]
            return Renewal(lost=lost, cancel=[one for one in leases if one in self.to_cancel], drain=self.drain)
