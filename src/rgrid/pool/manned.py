"""A runner pool at work in this process: engine, claims, renewal; started, kept going and stopped as one."""

import asyncio
import contextlib
import logging
from typing import Final

from rgrid.pool import package_index
from rgrid.pool.engines.local import LocalEngine
from rgrid.pool.heartbeat import InProcessHeartbeat
from rgrid.pool.pool import RunnerPool
from rgrid.pool.protocol import Work
from rgrid.pool.tuning import PoolTuning
from rgrid.settings import Settings

log = logging.getLogger(__name__)

RESTART_PAUSE_S: Final = 1.0
HALT_MAX_S: Final = 15.0


class MannedPool:
    """`task` ends when the pool was stopped, or was asked to drain over the API."""

    def __init__(self, settings: Settings, dsn: str, work: Work, engine: LocalEngine) -> None:
        self._settings = settings
        self._dsn = dsn
        self._work = work
        self._engine = engine
        self._stop = asyncio.Event()
        self._pool = self._new_pool()
        self.task = asyncio.create_task(self._run(), name="runner pool")

    @property
    def level(self) -> str:
        return self._engine.level

    def _new_pool(self) -> RunnerPool:
        settings = self._settings
        tuning = PoolTuning(
            slots=settings.slots,
            renew_every_s=settings.renew_every_s,
            disk_quota_bytes=settings.disk_quota_bytes,
            log_bytes_max=settings.attempt_log_max_bytes,
            log_lines_max=settings.attempt_log_max_lines,
            output_files_max=settings.outputs_max_files,
            output_bytes_max=settings.outputs_max_bytes,
            install_timeout_s=settings.install_timeout_s,
            environments_max_bytes=settings.environments_max_bytes,
            environments_keep_days=settings.environments_keep_days,
            package_index=package_index.of_this_machine(),
        )
        heartbeat = InProcessHeartbeat(self._dsn, settings.lease_ttl_s)
        return RunnerPool(self._work, heartbeat, self._engine, tuning, self._engine.jobs)

    async def _run(self) -> None:
        while True:
            try:
                await self._pool.run(self._stop)
                return
            except Exception:  # The supervisor of the pool: a bug in it must not end the service.
                log.exception("the runner pool broke; it starts again as a new worker")
                await asyncio.sleep(RESTART_PAUSE_S)
                self._pool = self._new_pool()

    async def stop(self, drain_s: float) -> None:
        """Take nothing new, give running scripts `drain_s`, then kill their boxes; the grid gives them to others."""
        self._stop.set()
        done, _ = await asyncio.wait({self.task}, timeout=drain_s)
        if not done:
            self._pool.halt()
            await asyncio.wait({self.task}, timeout=HALT_MAX_S)
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await self._engine.close()
