"""The second small interface: given a prepared folder and a command, run it in a box and say how it ended."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

import msgspec

OutputSink = Callable[[Literal["stdout", "stderr"], bytes], None]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One process to run. `work_dir` on this machine is `/work` in the box (the only place for outputs, inputs are
    already in it), `script_path` is read-only there, `env` is the whole environment. `environment` is a virtual
    environment to run in. `shown` folders are there to be read under their own path; into `kept` such jobs may write,
    and they alone, all of them as one user."""

    job_id: str
    runtime: str
    script_path: Path
    args: list[str]
    env: dict[str, str]
    work_dir: Path
    timeout_s: float
    cpu: float
    memory_mb: int
    network: bool
    disk_quota_bytes: int
    environment: Path | None = None
    shown: tuple[Path, ...] = ()
    kept: Path | None = None


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How the process ended. `exit_code` is the script's, or 128 + n after signal n, or None when it never ran or ran
    out of time; `why` tells out of memory, timeout, cancel, disk quota and faults of the box from a plain exit."""

    why: Literal["exited", "timeout", "cancelled", "out_of_memory", "disk_quota", "runtime_unavailable", "internal"]
    exit_code: int | None
    duration_ms: int
    memory_peak_bytes: int | None
    error: str | None
    metadata: dict[str, str]


class Running(Protocol):
    """A started job."""

    async def wait(self) -> Ended:
        """Returns when every process of the box is gone."""
        ...

    def cancel(self) -> None:
        """SIGTERM to the script, SIGKILL to the whole box 10 s later; `wait` then says `cancelled`."""
        ...

    def kill(self) -> None:
        """SIGKILL to the whole box now (the lease is lost, or the worker stops)."""
        ...


class Engine(Protocol):
    """Starts jobs. `level` is the isolation reached, as probed at start; kinds are sandbox, container and process."""

    @property
    def runner_kind(self) -> str: ...

    @property
    def level(self) -> str: ...

    def runtimes(self) -> list[str]: ...

    def identity(self, runtime: str) -> str | None:
        """A text that is another one for another interpreter; None for a runtime that takes no packages."""
        ...

    async def start(self, job: Job, sink: OutputSink) -> Running:
        """`sink` gets raw bytes as they are read, in order of arrival, on the event loop, and must not block."""
        ...

    async def close(self) -> None: ...
