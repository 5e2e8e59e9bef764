"""The worker aggregate: one worker process from its registration to its end. Stream `worker-{id}`.

active -> draining -> stopped        active | draining -> lost -> active | draining, when it is heard again
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from rgrid.kernel.decider import Decider
from rgrid.kernel.errors import NotFound, Rejected
from rgrid.runners.commands import (
    DrainWorker,
    MarkWorkerLost,
    RegisterWorker,
    RunnerCommand,
    StopWorker,
    WelcomeBack,
)
from rgrid.runners.events import (
    RunnerEvent,
    WorkerDrainRequested,
    WorkerLost,
    WorkerRegistered,
    WorkerReturned,
    WorkerStopped,
)


class Runner(msgspec.Struct, frozen=True, kw_only=True):
    """Where a worker stands. `draining` outlives a loss: who comes back goes on draining."""

    status: Literal["absent", "active", "draining", "lost", "stopped"] = "absent"
    draining: bool = False


INITIAL: Final = Runner()


def decide(command: RunnerCommand, state: Runner, now: datetime) -> Sequence[RunnerEvent]:
    """The events that follow, `[]` when it is so already."""
    if state.status == "absent" and not isinstance(command, RegisterWorker):
        raise NotFound("There is no such worker.")
    match command:
        case RegisterWorker():
            return _register(command, state, now)
        case DrainWorker():
            if state.status in ("lost", "stopped"):
                raise Rejected(
                    f"The worker is {state.status} and can't be drained.", extra={"current_status": state.status}
                )
            if state.draining:
                return []
            return [WorkerDrainRequested(requested_by=command.requested_by, reason=command.reason, requested_at=now)]
        case StopWorker():
            return [] if state.status == "stopped" else [WorkerStopped(stopped_at=now)]
        case MarkWorkerLost():
            if state.status not in ("active", "draining"):
                return []
            return [WorkerLost(reason=command.reason, last_heartbeat_at=command.last_heartbeat_at, lost_at=now)]
        case WelcomeBack():
            return [WorkerReturned(returned_at=now)] if state.status == "lost" else []


def _register(command: RegisterWorker, state: Runner, now: datetime) -> Sequence[RunnerEvent]:
    if state.status == "lost":
        return [WorkerReturned(returned_at=now)]
    if state.status != "absent":
        return []
    return [
        WorkerRegistered(
            hostname=command.hostname,
            pid=command.pid,
            boot_id=command.boot_id,
            process_started_ticks=command.process_started_ticks,
            runner_kind=command.runner_kind,
            sandbox_level=command.sandbox_level,
            slots=command.slots,
            runtimes=command.runtimes,
            version=command.version,
            cores=command.cores,
            memory_mb=command.memory_mb,
            registered_at=now,
        )
    ]


def evolve(state: Runner, event: RunnerEvent) -> Runner:
    """The state after a recorded event."""
    match event:
        case WorkerRegistered():
            return Runner(status="active")
        case WorkerDrainRequested():
            return Runner(status="draining", draining=True)
        case WorkerReturned():
            return Runner(status="draining" if state.draining else "active", draining=state.draining)
        case WorkerLost():
            return Runner(status="lost", draining=state.draining)
        case WorkerStopped():
            return Runner(status="stopped", draining=state.draining)


DECIDER: Final = Decider[RunnerCommand, Runner, RunnerEvent](
    noun="worker", initial=INITIAL, decide=decide, evolve=evolve
)
