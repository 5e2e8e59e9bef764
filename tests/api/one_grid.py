"""A grid for tests of controllers: real stores on a database of the test's own, served by uvicorn on a free port.

Two of them on one database stand for two processes: they share nothing but the database.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
from web.serving import running

from rgrid.access.bootstrap import ensure_admin_key
from rgrid.access.key_uses import KeyUses
from rgrid.api import (
    keys,
    me,
    tickets,
    workers,
    workflow_run_actions,
    workflow_run_bulk,
    workflow_run_logs,
    workflow_runs,
)
from rgrid.api.authenticate import Authenticator
from rgrid.api.grid import Grid
from rgrid.assembly import assembled
from rgrid.kernel.clock import monotonic_ms, now
from rgrid.kernel.ids import new_command_id
from rgrid.kernel.messages import Cause
from rgrid.settings import Settings
from rgrid.subscriptions.daemon import Daemon
from rgrid.web.health import Health
from rgrid.web.idempotency import Idempotency
from rgrid.web.server import build
from rgrid.web.site import Site

BOOTSTRAP = "sk_live_" + "B" * 43


@dataclass
class Served:
    """One process' worth of service, with a client that holds the first admin key."""

    grid: Grid
    authenticator: Authenticator
    uses: KeyUses
    daemon: Daemon
    http: httpx.AsyncClient

    async def seen(self) -> None:
        """Returns when every read model includes what is in the log now."""
        await self.daemon.reached(await self.grid.store.head())

    def as_key(self, secret: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {secret}"}


def cause() -> Cause:
    return Cause(actor="test", command_id=new_command_id())


@asynccontextmanager
async def served(
    dsn: str,
    folder: Path,
    clock: Callable[[], datetime] = now,
    ticks_ms: Callable[[], int] = monotonic_ms,
    *,
    driving: bool = True,
) -> AsyncIterator[Served]:
    """The whole of access, workers and workflow runs over HTTP. The clocks are those of the authenticator."""
    async with assembled(Settings(data_dir=folder, encryption_key="00" * 32), dsn, driving=driving) as parts:
        grid, daemon = parts.grid, parts.daemon
        await ensure_admin_key(grid.handler, BOOTSTRAP)
        uses = KeyUses(grid.pool, clock)
        authenticator = Authenticator(grid.pool, uses, grid.lease_tokens, clock, ticks_ms)
        operations = [
            *keys.operations(grid, authenticator),
            *me.operations(grid),
            *workers.operations(grid),
            *tickets.operations(grid),
            *workflow_runs.operations(grid),
            *workflow_run_actions.operations(grid),
            *workflow_run_bulk.operations(grid),
            *workflow_run_logs.operations(grid),
        ]
        site = Site(
            version="test",
            authenticate=authenticator,
            health=Health("test", now),
            idempotency=Idempotency(grid.pool, now),
            reached=daemon.reached,
        )
        async with (
            running(build(operations, site)) as address,
            httpx.AsyncClient(
                base_url=f"{address}/api/v1", headers={"Authorization": f"Bearer {BOOTSTRAP}"}, timeout=20
            ) as http,
        ):
            yield Served(grid, authenticator, uses, daemon, http)
