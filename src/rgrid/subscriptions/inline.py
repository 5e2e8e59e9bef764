"""Projections applied within the append: what they show is never behind the log."""

from collections.abc import Sequence

from rgrid.kernel.errors import Unavailable
from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.pool import Connection
from rgrid.subscriptions.checkpoints import LIVE_SCHEMA, search_path
from rgrid.subscriptions.projection import Projection


async def apply_inline(conn: Connection, projections: Sequence[Projection], recorded: Sequence[AnyRecorded]) -> None:
    """Called by the event writer with all events of a batch, in its transaction, under the append lock.

    A projection that is not live yet is left out: its build takes the append lock for its last events. When a newer
    version is live, this program is too old to write, for its functions no longer fit the tables. From here to the end
    of the transaction the search path is that of projections. Events that none of them wants cost nothing.
    """
    wanted = {
        projection.name: [seen for seen in recorded if type(seen.event) in projection.kinds]
        for projection in projections
    }
    projections = [projection for projection in projections if wanted[projection.name]]
    if not projections:
        return
    live = await conn.fetch(
        "update rgrid.checkpoints c set updated_at = now(),"
        " position = case when c.version = mine.version then $3 else c.position end"
        " from unnest($1::text[], $2::int[]) as mine(subscriber, version),"
        " (select set_config('search_path', $4, true)) as local"
        " where c.subscriber = mine.subscriber and c.ready returning c.subscriber, c.version",
        [projection.name for projection in projections],
        [projection.version for projection in projections],
        recorded[-1].position,
        search_path(LIVE_SCHEMA),
    )
    versions = {row["subscriber"]: row["version"] for row in live}
    for projection in projections:
        version = versions.get(projection.name, 0)
        if version > projection.version:
            raise Unavailable(f"A newer program has taken over {projection.name}; this one can no longer write.")
        if version == projection.version:
            await projection.apply(conn, wanted[projection.name])
