"""What waits for a worker, and in which order? Inline: a claim must see what was queued a moment ago.

Each batch is a lane of its own and single executions share one, so that lanes can be served in turn. Within a lane
`queued_position` orders them: the log's position of the event that queued it, less PRIORITY_STEP for each priority.
What runs of a batch with a limit is counted here, because only what is written with the claim can keep two workers
within it.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from importlib.resources import files
from typing import Final

import msgspec

from rgrid.executions.batch_events import BatchCancelRequested, BatchCreated, BatchFailedFast, BatchRetried
from rgrid.executions.events import (
    ExecutionCancelled,
    ExecutionClaimed,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionQueued,
    ExecutionTimedOut,
)
from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.paging import Queryable
from rgrid.postgres.pool import Connection
from rgrid.subscriptions.projection import Projection

LANES_MAX: Final = 1_000
OVERDUE_MAX: Final = 500
PRIORITY_STEP: Final = 1 << 56
"""More than there will ever be positions, so that a higher priority always goes first."""
_OF_BATCHES: Final = (BatchCreated, BatchCancelRequested, BatchFailedFast, BatchRetried)
_ENDS: Final = (ExecutionCompleted, ExecutionFailed, ExecutionTimedOut, ExecutionCancelled)
_BEGUN: Final = """
    with begun as (
        insert into run_queue_running (execution_id, lane)
        select b.execution_id, b.lane from unnest($1::text[], $2::text[]) as b(execution_id, lane)
        join run_queue_lanes l on l.lane = b.lane and (l.max_parallel is not null or l.fail_fast)
        on conflict do nothing returning lane
    )
    update run_queue_lanes l set running = l.running + n.count
    from (select lane, count(*) from begun group by lane) n where l.lane = n.lane
"""
_ENDED: Final = """
    with ended as (delete from run_queue_running where execution_id = any($1) returning execution_id, lane)
    update run_queue_lanes l
    set running = l.running - n.count, is_held = l.is_held or (l.fail_fast and n.has_failed)
    from (
        select lane, count(*), bool_or(execution_id = any($2)) as has_failed from ended group by lane
    ) n where l.lane = n.lane
"""


async def project(connection: Connection, batch: Sequence[AnyRecorded]) -> None:
    """In the order of the log as far as it shows: what holds for a lane, and what its executions do in between."""
    between: list[AnyRecorded] = []
    for at in batch:
        if isinstance(at.event, _OF_BATCHES):
            await _move(connection, between)
            between = []
            await _rule(connection, at)
        else:
            between.append(at)
    await _move(connection, between)


async def _rule(connection: Connection, at: AnyRecorded) -> None:
    if isinstance(at.event, BatchCreated):
        await connection.execute(
            "insert into run_queue_lanes (lane, max_parallel, fail_fast) values ($1, $2, $3)",
            at.entity_id,
            at.event.max_parallel,
            at.event.fail_fast,
        )
        return
    # The lane of an open batch isn't there to be held: others may still add to it.
    await connection.execute(
        "update run_queue_lanes set is_held = $2 where lane = $1", at.entity_id, not isinstance(at.event, BatchRetried)
    )


async def _move(connection: Connection, events: Sequence[AnyRecorded]) -> None:
    """The newest event of each execution decides whether it waits and whether it runs."""
    newest = {at.entity_id: at for at in events}
    lanes = {at.entity_id: at.event.batch_id or "" for at in events if isinstance(at.event, ExecutionQueued)}
    gone = {at.entity_id for at in events if not isinstance(at.event, ExecutionQueued)}
    if gone:
        left = await connection.fetch(
            "delete from run_queue where execution_id = any($1) returning execution_id, lane", list(gone)
        )
        lanes |= {row["execution_id"]: row["lane"] for row in left}
    failed = [at.entity_id for at in events if isinstance(at.event, ExecutionFailed | ExecutionTimedOut)]
    ended = [key for key, at in newest.items() if isinstance(at.event, _ENDS) or _is_again(at.event)]
    if ended:
        await connection.execute(_ENDED, ended, failed)
    if held := [lanes[key] for key in failed if lanes.get(key)]:
        await connection.execute("update run_queue_lanes set is_held = true where fail_fast and lane = any($1)", held)
    running = [key for key, at in newest.items() if isinstance(at.event, ExecutionClaimed) and lanes.get(key)]
    if running:
        await connection.execute(_BEGUN, running, [lanes[key] for key in running])
    waiting = [(key, at.event, at.position) for key, at in newest.items() if isinstance(at.event, ExecutionQueued)]
    if waiting:
        await connection.execute(
            "insert into run_queue (execution_id, lane, runtime, cpu, memory_mb, not_before, expires_at,"
            " queued_position) select * from unnest($1::text[], $2::text[], $3::text[], $4::float8[], $5::int[],"
            " $6::timestamptz[], $7::timestamptz[], $8::bigint[])",
            [key for key, _, _ in waiting],
            [event.batch_id or "" for _, event, _ in waiting],
            [event.runtime for _, event, _ in waiting],
            [event.cpu for _, event, _ in waiting],
            [event.memory_mb for _, event, _ in waiting],
            [event.not_before for _, event, _ in waiting],
            [event.expires_at for _, event, _ in waiting],
            [position - event.priority * PRIORITY_STEP for _, event, position in waiting],
        )


def _is_again(event: object) -> bool:
    """Whether it was claimed before and waits once more."""
    return isinstance(event, ExecutionQueued) and event.attempt > 1


PROJECTION: Final = Projection(
    name="run_queue",
    version=3,
    on=(*_OF_BATCHES, ExecutionQueued, ExecutionClaimed, *_ENDS),
    ddl=files("projections") / "run_queue.sql",
    inline=True,
    on_batch=project,
)


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate for a claim; `queued_position` orders those of one lane."""

    execution_id: str
    lane: str
    queued_position: int


_CANDIDATES: Final = """
    with recursive lanes as (
        (select lane from run_queue order by lane limit 1)
        union all
        select (select q.lane from run_queue q where q.lane > lanes.lane order by q.lane limit 1)
        from lanes where lanes.lane is not null
    )
    select head.execution_id, head.lane, head.queued_position
    from (
        select w.lane, least($1, n.max_parallel - n.running) as free
        from lanes w left join run_queue_lanes n using (lane)
        where w.lane is not null and n.is_held is not true and (n.max_parallel is null or n.running < n.max_parallel)
        limit $4
    ) l
    cross join lateral (
        select q.execution_id, q.lane, q.queued_position from run_queue q
        where q.lane = l.lane and q.not_before <= clock_timestamp() and q.runtime = any($2) and q.memory_mb <= $3
          and q.cpu <= $5 and not exists (select from rgrid.claim_reservations r
                          where r.execution_id = q.execution_id and r.reserved_until > clock_timestamp())
        order by q.queued_position limit l.free
    ) head
    order by head.queued_position
"""


async def candidates(
    connection: Queryable, limit: int, runtimes: Collection[str], memory_mb_max: int, cpu_max: float
) -> list[Waiting]:
    """The oldest `limit` of every lane that a worker of this size with these runtimes could run now; of a batch no more
    than its limit leaves room for."""
    rows = await connection.fetch(_CANDIDATES, limit, list(runtimes), memory_mb_max, LANES_MAX, cpu_max)
    return [Waiting(**dict(row)) for row in rows]


async def next_due(connection: Queryable) -> datetime | None:
    """When the next execution that waits for its time may start, None when none does."""
    due: datetime | None = await connection.fetchval(
        "select min(not_before) from run_queue where not_before > clock_timestamp()"
    )
    return due


async def depth(connection: Queryable) -> int:
    count: int = await connection.fetchval("select count(*) from run_queue")
    return count


async def lane_is_full(connection: Queryable, lane: str) -> bool:
    """Whether as many of a batch run as may."""
    full: bool | None = await connection.fetchval(
        "select max_parallel is not null and running >= max_parallel from run_queue_lanes where lane = $1", lane
    )
    return bool(full)


async def overdue(connection: Queryable) -> list[str]:
    """Executions that have waited for a worker for longer than they are willing to."""
    rows = await connection.fetch(
        "select execution_id from run_queue where expires_at <= clock_timestamp() order by expires_at limit $1",
        OVERDUE_MAX,
    )
    return [row["execution_id"] for row in rows]


_PLACE: Final = """
    with recursive me as (
        select q.lane, q.queued_position, (
            select count(*) from run_queue b where b.lane = q.lane and b.queued_position <= q.queued_position) as turn
        from run_queue q where execution_id = $1
    ), lanes as (
        (select lane from run_queue order by lane limit 1)
        union all
        select (select q.lane from run_queue q where q.lane > lanes.lane order by q.lane limit 1)
        from lanes where lanes.lane is not null
    )
    select me.turn + coalesce((
        select sum(ahead.n) from (
            select w.lane from lanes w left join run_queue_lanes n using (lane)
            where w.lane is not null and w.lane <> me.lane and n.is_held is not true
              and (n.max_parallel is null or n.running < n.max_parallel) limit $2
        ) l
        cross join lateral (
            select count(*) - (count(*) = me.turn and max(first.queued_position) > me.queued_position)::int as n
            from (select q.queued_position from run_queue q where q.lane = l.lane
                  order by q.queued_position limit me.turn) first
        ) ahead), 0)::bigint
    from me
"""


async def place(connection: Queryable, execution_id: str) -> int | None:
    """1 for the next one to be claimed, None when it doesn't wait. Lanes take turns: whoever is k-th in its lane
    comes after all that are earlier in theirs, but for lanes that have no turn now, because they are held or as many
    of them run as may. Looks at no more than k of each lane, in the lanes' index."""
    position: int | None = await connection.fetchval(_PLACE, execution_id, LANES_MAX)
    return position
