"""What a worker and the service say to each other. Narrow on purpose: a worker on another machine speaks the same
over HTTP, and never holds the database's address or the object store's keys.

Every call about an attempt carries its `Lease`; the service refuses one that is no longer current with `LeaseLost`.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from rgrid.kernel.errors import Conflict

AttemptEnd = Literal["completed", "failed", "timed_out", "cancelled"]
FailureReason = Literal[
    "exit_code", "timeout", "out_of_memory", "worker_lost", "input_missing", "dependency_install",
    "runtime_unavailable", "cancelled", "internal",
]  # fmt: skip
Stream = Literal["stdout", "stderr"]


class LeaseLost(Conflict):
    """The attempt belongs to somebody else by now: stop it and forget it."""

    code = "lease_lost"


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Time-limited ownership of one attempt. The fencing token grows with every claim of the execution."""

    execution_id: str
    attempt: int
    fencing_token: int


class InputRef(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    size_bytes: int
    sha256: str


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to make. `env` is in clear and complete but for what the engine adds; `masked` are the secret
    values that must not reach a log line; `next_sequence` is the first log sequence number to use; `requirements` is
    the list of packages that the script needs."""

    lease: Lease
    lease_ttl_s: float
    script: InputRef
    runtime: str
    args: list[str]
    env: dict[str, str]
    masked: list[str]
    inputs: list[InputRef]
    timeout_s: int
    cpu: float
    memory_mb: int
    network: bool
    next_sequence: int
    batch_id: str | None = None
    batch_index: int | None = None
    scheduled_at: datetime | None = None
    requirements: InputRef | None = None


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One captured line, without its newline; valid UTF-8, no NUL, at most 64 KiB."""

    sequence_number: int
    stream: Stream
    message: str
    logged_at: datetime


class StoredOutput(msgspec.Struct, frozen=True, kw_only=True):
    """An output file that the object store holds. `filename` is relative to the working directory, POSIX."""

    filename: str
    size_bytes: int
    sha256: str
    content_type: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an attempt. `duration_ms` is wall time from process start to end on a monotonic clock;
    stdout and stderr sizes are what the script printed, before any cut. `caused_by_network` says of a failed
    installation of dependencies that another attempt may fare better."""

    end: AttemptEnd
    exit_code: int | None
    failure_reason: FailureReason | None
    error: str | None
    hint: str | None
    duration_ms: int
    started_at: datetime | None
    stdout_size_bytes: int
    stderr_size_bytes: int
    output_truncated: bool
    outputs: list[StoredOutput]
    metadata: dict[str, str]
    caused_by_network: bool = False


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself at registration. `worker_id` is new with every process start."""

    worker_id: str
    hostname: str
    pid: int
    boot_id: str
    process_started_ticks: int
    runner_kind: str
    sandbox_level: str
    slots: int
    runtimes: list[str]
    version: str
    cores: int
    memory_mb: int


class Renewal(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a heartbeat: which leases are lost, which attempts shall be cancelled, whether to drain."""

    lost: list[Lease]
    cancel: list[Lease]
    drain: bool


class Work(Protocol):
    """The service as a worker sees it."""

    async def register(self, worker: WorkerInfo) -> None: ...

    async def claim(self, worker_id: str, slots: int, wait_s: float) -> list[Assignment]:
        """At most `slots` attempts, oldest first; waits up to `wait_s` for the first one, then answers `[]`."""
        ...

    async def signals(self, worker_id: str, wait_s: float) -> Renewal:
        """What a worker should not wait for until its next heartbeat: attempts to cancel, whether to drain. Answers
        as soon as there is something new, else after `wait_s`."""
        ...

    async def fetch_object(self, lease: Lease, sha256: str, target: Path) -> None:
        """Write the object (script or input) to `target`, verified; raises NotFound."""
        ...

    async def append_logs(self, batch: Sequence[tuple[Lease, Sequence[LogLine]]]) -> list[Lease]:
        """Store lines of several attempts at once, durable on return; the leases that are lost (their lines are not
        stored). Repeating a line changes nothing."""
        ...

    async def store_output(self, lease: Lease, filename: str, path: Path) -> StoredOutput: ...

    async def finish(self, lease: Lease, outcome: Outcome) -> None: ...

    async def stopped(self, worker_id: str) -> None: ...


class Heartbeat(Protocol):
    """Renewal has an interface of its own, because it runs in a thread that the event loop cannot starve."""

    def renew(self, worker_id: str, leases: Sequence[Lease]) -> Renewal:
        """Blocking. Raises Unavailable when the service can't be reached."""
        ...

    def close(self) -> None:
        """Called by the thread that renewed, at its end."""
        ...
