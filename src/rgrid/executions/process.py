"""What time does to executions: attempts whose lease is over are lost, inputs that never came fail."""

from collections.abc import Sequence

import asyncpg

from rgrid.eventstore.append import Rider
from rgrid.eventstore.handle import Handler
from rgrid.executions import leases
from rgrid.executions.commands import ExpireInputs, LoseAttempt
from rgrid.executions.execution import DECIDER
from rgrid.executions.following import LinesStored
from rgrid.kernel.ids import new_command_id
from rgrid.kernel.messages import Cause


async def lose_expired(
    pool: asyncpg.Pool,
    handler: Handler,
    lines_stored: LinesStored,
    dead_workers: Sequence[str],
    *,
    only_dead: bool = False,
) -> int:
    """End the attempts whose lease ran out (unless `only_dead`), and those of dead workers; how many. The only recovery
    rule there is: it needs the lease, not the worker's record."""
    over = await leases.expired(pool, dead_workers, only_dead=only_dead)
    for lease in over:
        drop = leases.drop(lease.execution_id, lease.fencing_token)

        def dropped(_state: object, _events: object, _version: int, drop: Rider = drop) -> list[Rider]:
            return [drop]

        command = LoseAttempt(
            fencing_token=lease.fencing_token,
            last_heartbeat_at=lease.renewed_at,
            error=f"The worker {lease.worker_id} was last heard of at {lease.renewed_at:%Y-%m-%dT%H:%M:%SZ}.",
        )
        handled = await handler.handle(DECIDER, lease.execution_id, command, _cause(), riders=dropped)
        if not handled.events:
            # The attempt had ended before; the row is a leftover.
            await pool.execute(drop.sql, *drop.args)
        lines_stored.tell([lease.execution_id])
    return len(over)


async def expire_inputs(handler: Handler, overdue: Sequence[str]) -> None:
    """Fail executions whose inputs did not come in time."""
    for execution_id in overdue:
        await handler.handle(DECIDER, execution_id, ExpireInputs(), _cause())


def _cause() -> Cause:
    return Cause(actor="system", command_id=new_command_id())
