"""Every read model, by hand."""

from typing import Final

from projections import artifacts, executions, keys, run_queue, workers
from rgrid.subscriptions.projection import Projection

ALL: Final[tuple[Projection, ...]] = (
    artifacts.PROJECTION,
    executions.PROJECTION,
    keys.PROJECTION,
    run_queue.PROJECTION,
    workers.PROJECTION,
)
