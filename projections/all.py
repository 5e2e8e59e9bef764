"""Every read model, by hand."""

from typing import Final

from projections import artifacts, batches, costs, executions, keys, run_queue, workers
from rgrid.subscriptions.projection import Projection

ALL: Final[tuple[Projection, ...]] = (
    artifacts.PROJECTION,
    batches.PROJECTION,
    costs.PROJECTION,
    executions.PROJECTION,
    keys.PROJECTION,
    run_queue.PROJECTION,
    workers.PROJECTION,
)
