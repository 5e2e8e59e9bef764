"""Every read model, by hand."""

from typing import Final

from projections import (
    artifacts,
    batches,
    costs,
    executions,
    input_cache,
    keys,
    objects,
    retention,
    run_queue,
    workers,
)
from rgrid.subscriptions.projection import Projection

ALL: Final[tuple[Projection, ...]] = (
    artifacts.PROJECTION,
    batches.PROJECTION,
    costs.PROJECTION,
    executions.PROJECTION,
    input_cache.PROJECTION,
    keys.PROJECTION,
    objects.PROJECTION,
    retention.PROJECTION,
    run_queue.PROJECTION,
    workers.PROJECTION,
)
