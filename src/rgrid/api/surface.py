"""Everything this service answers over HTTP, by hand: one line per slice."""

from collections.abc import Mapping

from rgrid.access import tickets as ticket_store
from rgrid.api import (
    artifacts,
    batches,
    cost,
    cost_limit,
    executions,
    input_cache,
    inputs,
    keys,
    logs,
    me,
    runtimes,
    schedule_runs,
    schedules,
    tickets,
    workers,
    workflow_definitions,
    workflow_run_actions,
    workflow_run_bulk,
    workflow_run_logs,
    workflow_runs,
    workflow_schema,
)
from rgrid.api.authenticate import Authenticator
from rgrid.api.grid import Grid
from rgrid.api.log_stream import PATH as LOG_SOCKET
from rgrid.api.log_stream import log_socket
from rgrid.api.schedule_targets import ScheduleTargets
from rgrid.web.exchange import App
from rgrid.web.live import Sockets
from rgrid.web.operation import Operation
from rgrid.web.principal import Principal


def operations(grid: Grid, authenticator: Authenticator) -> list[Operation]:
    """Every operation but those that every service has (health, metrics, documents)."""
    targets = ScheduleTargets(lambda: grid)
    return [
        *me.operations(grid),
        *keys.operations(grid, authenticator),
        *tickets.operations(grid),
        *executions.operations(grid),
        *batches.operations(grid),
        *inputs.operations(grid),
        *input_cache.operations(grid),
        *artifacts.operations(grid),
        *logs.operations(grid),
        *runtimes.operations(grid.runtimes),
        *workers.operations(grid),
        *schedule_runs.operations(grid, targets),
        *schedules.operations(grid, targets),
        *cost.operations(grid),
        *cost_limit.operations(grid),
        *workflow_definitions.operations(grid),
        *workflow_schema.operations(),
        *workflow_runs.operations(grid),
        *workflow_run_actions.operations(grid),
        *workflow_run_bulk.operations(grid),
        *workflow_run_logs.operations(grid),
    ]


def websockets(grid: Grid, authenticator: Authenticator, sockets: Sockets) -> Mapping[str, App]:
    async def redeem(ticket: str, execution_id: str) -> Principal | None:
        caller = await ticket_store.redeem(grid.pool, ticket, execution_id)
        return caller if caller is not None and await authenticator.still_counts(caller) else None

    return {LOG_SOCKET: log_socket(grid, authenticator, redeem, sockets)}
