"""Every read model, by hand."""

from typing import Final

from projections import (
    active_partitions,
    artifacts,
    batches,
    costs,
    executions,
    input_cache,
    keys,
    log_blocks,
    objects,
    retention,
    run_queue,
    run_timers,
    run_tries,
    schedule_names,
    schedule_runs,
    schedules,
    workers,
    workflow_runs,
    workflows,
)
from rgrid.subscriptions.projection import Projection

ALL: Final[tuple[Projection, ...]] = (
    active_partitions.PROJECTION,
    artifacts.PROJECTION,
    batches.PROJECTION,
    costs.PROJECTION,
    executions.PROJECTION,
    input_cache.PROJECTION,
    keys.PROJECTION,
    log_blocks.PROJECTION,
    objects.PROJECTION,
    retention.PROJECTION,
    run_queue.PROJECTION,
    run_timers.PROJECTION,
    run_tries.PROJECTION,
    schedule_names.PROJECTION,
    schedule_runs.PROJECTION,
    schedules.PROJECTION,
    workers.PROJECTION,
    workflow_runs.PROJECTION,
    workflows.PROJECTION,
)
