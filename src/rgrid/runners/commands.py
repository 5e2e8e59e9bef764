"""What may be asked of a worker's record. Public: drivers may import this."""

from datetime import datetime

from rgrid.kernel.messages import Command


class RegisterWorker(Command, frozen=True, kw_only=True):
    """A worker process begins; its id is new with every start."""

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


class DrainWorker(Command, frozen=True, kw_only=True):
    """Take nothing new, finish what is there, stop."""

    requested_by: str
    reason: str | None = None


class StopWorker(Command, frozen=True, kw_only=True):
    """The worker ends, with nothing left to do."""


class MarkWorkerLost(Command, frozen=True, kw_only=True):
    """Nobody hears from the worker; `last_heartbeat_at` is when it was last heard."""

    reason: str
    last_heartbeat_at: datetime


class WelcomeBack(Command, frozen=True, kw_only=True):
    """A heartbeat came after the worker had been taken for lost."""


RunnerCommand = RegisterWorker | DrainWorker | StopWorker | MarkWorkerLost | WelcomeBack
