"""Finds workers that are gone: silent for too long, or a process of this very machine that no longer runs."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from rgrid.eventstore.handle import Handler
from rgrid.kernel.ids import new_command_id
from rgrid.kernel.messages import Cause
from rgrid.runners.commands import MarkWorkerLost, WelcomeBack
from rgrid.runners.events import WorkerLost
from rgrid.runners.host import Host, process_runs
from rgrid.runners.runner import DECIDER


class Watched(Protocol):
    """What must be known of a worker that should be alive. `silent_s` is by the database's clock, so that no two
    clocks are compared."""

    @property
    def worker_id(self) -> str: ...
    @property
    def status(self) -> Literal["active", "draining", "lost"]: ...
    @property
    def hostname(self) -> str: ...
    @property
    def boot_id(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def process_started_ticks(self) -> int: ...
    @property
    def last_heartbeat_at(self) -> datetime: ...
    @property
    def silent_s(self) -> float: ...


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that should be alive and isn't, and how one knows."""

    worker_id: str
    last_heartbeat_at: datetime
    reason: str


Runs = Callable[[int, int], bool]
"""(pid, start ticks) -> whether that very process runs."""


def find_lost(
    workers: Sequence[Watched], lease_ttl_s: float, host: Host, runs: Runs, *, silence_counts: bool = True
) -> list[Gone]:
    """Those of these workers that are gone. A worker of another machine is judged by its heartbeats only, and by
    nothing while silence doesn't count."""
    found = []
    for worker in workers:
        if worker.status == "lost":
            continue
        if worker.silent_s > lease_ttl_s and silence_counts:
            reason = f"No heartbeat for {worker.silent_s:.0f} s."
        elif _is_here(worker, host) and not runs(worker.pid, worker.process_started_ticks):
            reason = "Its process ended without saying so."
        else:
            continue
        found.append(Gone(worker_id=worker.worker_id, last_heartbeat_at=worker.last_heartbeat_at, reason=reason))
    return found


def find_returned(workers: Sequence[Watched], lease_ttl_s: float, host: Host, runs: Runs) -> list[str]:
    """Those that were taken for lost and are heard again."""
    return [
        worker.worker_id
        for worker in workers
        if worker.status == "lost"
        and worker.silent_s <= lease_ttl_s
        and (not _is_here(worker, host) or runs(worker.pid, worker.process_started_ticks))
    ]


async def settle(
    handler: Handler, workers: Sequence[Watched], lease_ttl_s: float, host: Host, *, silence_counts: bool = True
) -> list[str]:
    """Record who got lost and who came back. The ids of the lost ones, whose leases are over."""
    lost = []
    for gone in find_lost(workers, lease_ttl_s, host, process_runs, silence_counts=silence_counts):
        command = MarkWorkerLost(reason=gone.reason, last_heartbeat_at=gone.last_heartbeat_at)
        handled = await handler.handle(DECIDER, gone.worker_id, command, _cause())
        if any(isinstance(event, WorkerLost) for event in handled.events):
            lost.append(gone.worker_id)
    for worker_id in find_returned(workers, lease_ttl_s, host, process_runs):
        await handler.handle(DECIDER, worker_id, WelcomeBack(), _cause())
    return lost


def _is_here(worker: Watched, host: Host) -> bool:
    return bool(host.boot_id) and (worker.hostname, worker.boot_id) == (host.hostname, host.boot_id)


def _cause() -> Cause:
    return Cause(actor="system", command_id=new_command_id())
