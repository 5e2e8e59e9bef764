"""A transaction that stays open on the append lock holds up every write, and so every reader: find it and say so."""

from dataclasses import dataclass
from typing import Final

from rgrid.postgres.pool import Pool
from rgrid.subscriptions.rebuild import APPEND_LOCK

STALL_AFTER_S: Final = 5.0

_HOLDER = """
select a.pid, a.application_name, coalesce(a.state, '') as state,
       extract(epoch from clock_timestamp() - a.xact_start)::float8 as held_s,
       (select count(*) from pg_locks w where w.locktype = 'advisory' and not w.granted
           and w.database = l.database and w.classid = l.classid and w.objid = l.objid) as waiting
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and l.classid = 0 and l.objid = $1
  and l.database = (select oid from pg_database where datname = current_database())
  and a.xact_start < clock_timestamp() - make_interval(secs => $2)
"""


@dataclass(frozen=True, slots=True)
class Stall:
    """Who holds the append lock, for how long, and how many writers wait for it."""

    pid: int
    application_name: str
    state: str
    held_s: float
    waiting: int


async def append_stall(pool: Pool) -> Stall | None:
    """The transaction that has held the append lock for longer than STALL_AFTER_S."""
    row = await pool.fetchrow(_HOLDER, APPEND_LOCK, STALL_AFTER_S)
    return Stall(**row) if row else None
