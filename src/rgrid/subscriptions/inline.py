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
    # Their checkpoints stay where they went live: the append lock keeps a swap away, and the position is the log's.
    live = await conn.fetch(
        "select c.subscriber, c.version from rgrid.checkpoints c,"
        " (select set_config('search_path', $2, true)) as local where c.ready and c.subscriber = any($1)",
        [projection.name for projection in projections],
        search_path(LIVE_SCHEMA),
    )
    versions = {row["subscriber"]: row["version"] for row in live}
    for projection in projections:
        version = versions.get(projection.name, 0)
        if version > projection.version:
            raise Unavailable(f"A newer program has taken over {projection.name}; this one can no longer write.")
        if version == projection.version:
            await projection.apply(conn, wanted[projection.name])
