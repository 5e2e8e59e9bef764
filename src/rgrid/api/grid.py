"""What controllers stand on: one value made by the composition root."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncpg

from projections import execution_detail
from projections.execution_detail import Detail
from rgrid.adapters.expressions import Evaluator
from rgrid.adapters.objects import ObjectStore
from rgrid.adapters.secrets import Secrets
from rgrid.adapters.signing import Signer
from rgrid.api.lease_tokens import LeaseTokens
from rgrid.api.runtimes import Runtimes
from rgrid.eventstore.data_keys import DataKeys
from rgrid.eventstore.handle import Handler
from rgrid.eventstore.store import Store
from rgrid.executions.following import LinesStored
from rgrid.executions.log_reader import LogReader
from rgrid.executions.quota import Quota
from rgrid.executions.spending import Spending
from rgrid.kernel.ids import is_id
from rgrid.kernel.rates import RateTable
from rgrid.settings import Settings
from rgrid.web.operation import missing
from rgrid.workflows.handlers import Handlers


@dataclass(frozen=True, slots=True)
class Grid:
    """The parts of one process that HTTP talks to."""

    settings: Settings
    pool: asyncpg.Pool
    store: Store
    handler: Handler
    objects: ObjectStore
    quota: Quota
    data_keys: DataKeys
    secrets: Secrets
    signer: Signer
    lease_tokens: LeaseTokens
    runtimes: Runtimes
    lines_stored: LinesStored
    log_reader: LogReader
    caught_up: Callable[[], Awaitable[None]]
    """Waits, within a bound, until the read side includes what this process has acknowledged."""
    rates: RateTable
    spending: Spending
    reached: Callable[..., Awaitable[None]]
    """Waits until every read model has come to a position; Unavailable after `timeout_s`."""
    handlers: Handlers
    evaluator: Evaluator


async def find(grid: Grid, execution_id: str, position: int | None = None) -> Detail:
    """The execution now, or at an earlier position. Raises NotFound, also for a malformed id."""
    detail = None
    if is_id("exec", execution_id):
        detail = await execution_detail.get(grid.store, execution_id, position)
    if detail is None:
        raise missing("Execution", execution_id)
    return detail
