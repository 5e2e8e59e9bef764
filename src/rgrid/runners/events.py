"""Facts about workers. Public: projections and higher slices may import this. Stream `worker-{id}`.

A heartbeat is no fact worth keeping: the last one of each worker is in an operational table.
"""

from datetime import datetime
from typing import Final

from rgrid.kernel.messages import Event


class WorkerRegistered(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A worker process began. Hostname, boot id, pid and start ticks tell it from every other process."""

    hostname: str
    pid: int
    boot_id: str
    process_started_ticks: int
    runner_kind: str
    sandbox_level: str
    slots: int
    runtimes: list[str]
    version: str
    cores: int | None = None
    memory_mb: int | None = None
    registered_at: datetime


class WorkerDrainRequested(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The worker shall take nothing new, finish what it has, and stop."""

    requested_by: str
    reason: str | None = None
    requested_at: datetime


class WorkerStopped(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The worker said goodbye."""

    stopped_at: datetime


class WorkerLost(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The worker is silent for too long, or its process is gone. Its attempts are given to others."""

    reason: str
    last_heartbeat_at: datetime
    lost_at: datetime


class WorkerReturned(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A worker taken for lost was only silent: it is heard again, without the attempts it had."""

    returned_at: datetime


RunnerEvent = WorkerRegistered | WorkerDrainRequested | WorkerStopped | WorkerLost | WorkerReturned

TOPICS: Final[dict[str, type[Event]]] = {
    "worker.registered.v1": WorkerRegistered,
    "worker.drain_requested.v1": WorkerDrainRequested,
    "worker.stopped.v1": WorkerStopped,
    "worker.lost.v1": WorkerLost,
    "worker.returned.v1": WorkerReturned,
}
