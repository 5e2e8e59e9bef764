"""How far each subscriber has come. A subscriber's effect and its checkpoint commit in one transaction."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from rgrid.postgres.pool import Connection, Pool
from rgrid.subscriptions.supervision import LeadershipLost

Queryable: TypeAlias = "Connection | Pool"
"""For one statement either will do."""

LIVE_SCHEMA: Final = "rm"
NEXT_SCHEMA: Final = "rm_next"
WISHES: Final = "rgrid_wishes"
"""The channel that tells leaders to look for what was asked of them: retry, skip, rebuild."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    subscriber: str
    version: int
    position: int
    ready: bool
    tables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Move:
    """Advance from the `saved` position to `to`. Between `saved` and `after` lies nothing this subscriber wants, so a
    checkpoint found anywhere between them is as good as the saved one."""

    subscriber: str
    version: int
    saved: int
    after: int
    to: int


async def load(conn: Queryable, subscriber: str) -> list[Checkpoint]:
    """The checkpoints of every version of one subscriber, the newest version first."""
    rows = await conn.fetch(
        "select subscriber, version, position, ready, tables from rgrid.checkpoints"
        " where subscriber = $1 order by version desc",
        subscriber,
    )
    return [
        Checkpoint(row["subscriber"], row["version"], row["position"], row["ready"], tuple(row["tables"]))
        for row in rows
    ]


async def create(conn: Queryable, checkpoint: Checkpoint) -> None:
    await conn.execute(
        "insert into rgrid.checkpoints (subscriber, version, position, ready, tables) values ($1, $2, $3, $4, $5)"
        " on conflict (subscriber, version) do nothing",
        checkpoint.subscriber,
        checkpoint.version,
        checkpoint.position,
        checkpoint.ready,
        list(checkpoint.tables),
    )


async def move(conn: Connection, step: Move, schema: str = LIVE_SCHEMA) -> None:
    """The first statement of a subscriber's transaction: locks and advances the checkpoint, and sets the search path.

    Raises LeadershipLost when the checkpoint is elsewhere: this is the fence that keeps an event from being applied
    twice even while two processes believe they lead. Commits need not wait for the disk (`synchronous_commit = off`):
    after a crash of the database the effect and the checkpoint are lost together, and the events are applied again.
    """
    status = await conn.execute(
        "update rgrid.checkpoints set position = $5, updated_at = now()"
        " from (select set_config('search_path', $6, true), set_config('synchronous_commit', 'off', true)) as local"
        " where subscriber = $1 and version = $2 and position between $3 and $4",
        step.subscriber,
        step.version,
        step.saved,
        step.after,
        step.to,
        search_path(schema),
    )
    if status != "UPDATE 1":
        raise LeadershipLost(f"the checkpoint of {step.subscriber} v{step.version} has been moved by another")


async def move_idle(pool: Pool, steps: Sequence[Move]) -> frozenset[str]:
    """Advances many subscribers that met no event of theirs, in one statement; names those that were advanced."""
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("set local synchronous_commit = off")
        rows = await conn.fetch(
            "update rgrid.checkpoints c set position = s.to_position, updated_at = now()"
            " from unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[])"
            " as s(subscriber, version, saved, to_position)"
            " where c.subscriber = s.subscriber and c.version = s.version"
            " and c.position between s.saved and s.to_position returning c.subscriber",
            [step.subscriber for step in steps],
            [step.version for step in steps],
            [step.saved for step in steps],
            [step.to for step in steps],
        )
    return frozenset(row["subscriber"] for row in rows)


async def live_positions(pool: Pool, subscribers: Collection[str]) -> dict[str, int]:
    """The positions of those of these subscribers that are ready."""
    rows = await pool.fetch(
        "select subscriber, position from rgrid.checkpoints where ready and subscriber = any($1)", list(subscribers)
    )
    return {row["subscriber"]: row["position"] for row in rows}


def search_path(schema: str) -> str:
    """A projection finds its own tables and nothing else of rgrid; `public` is where extensions live."""
    return f"{schema}, public"
