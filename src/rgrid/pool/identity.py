"""What this worker says of itself: who it is among all processes that ever ran here, and what it can run."""

import os
from importlib import metadata
from pathlib import Path
from typing import Final

from rgrid.kernel.ids import new_id
from rgrid.pool.engines.engine import Engine
from rgrid.pool.protocol import WorkerInfo
from rgrid.runners.host import own_started_ticks, this_host

MEMORY_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def describe_worker(engine: Engine, slots: int) -> WorkerInfo:
    """A new worker id. Boot id, pid and start time together tell this process from any other that had its pid."""
    host = this_host()
    return WorkerInfo(
        worker_id=new_id("wrk"),
        hostname=host.hostname,
        pid=os.getpid(),
        boot_id=host.boot_id,
        process_started_ticks=own_started_ticks(),
        runner_kind=engine.runner_kind,
        sandbox_level=engine.level,
        slots=slots,
        runtimes=engine.runtimes(),
        version=_version(),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=_memory_mb(),
    )


def _version() -> str:
    try:
        return metadata.version("rgrid")
    except metadata.PackageNotFoundError:
        return "0"


def _memory_mb() -> int:
    """What the machine has, or the container's limit where that is less."""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in MEMORY_LIMITS:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            size = min(size, int(text))
    return size // (1024 * 1024)
