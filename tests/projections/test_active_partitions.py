"""One run at a time in each partition of a workflow, by the log's own order."""

import asyncio

import asyncpg
import pytest
from projected import projected, read_model
from run_lives import over, triggered

from projections import active_partitions
from projections.active_partitions import CONSTRAINT, PROJECTION

EU = '{"region":"EU"}'
ROWS = "select run_id, workflow_name from active_partitions order by run_id"


def test_a_partition_is_taken_until_the_run_in_it_ends(database: str) -> None:
    log = [("run-r1", triggered(partition=EU)), ("run-r2", triggered(partition='{"region":"US"}'))]

    async def active() -> list[str | None]:
        async with read_model(database, PROJECTION, log) as connection:
            return [await active_partitions.active(connection, name, EU) for name in ("refresh", "another")]

    assert asyncio.run(active()) == ["r1", None]
    ended = [*log, ("run-r1", over()), ("run-r3", triggered(partition=EU))]
    assert [row["run_id"] for row in projected(database, PROJECTION, ended, ROWS)] == ["r2", "r3"]


def test_a_second_run_in_a_partition_breaks_the_constraint(database: str) -> None:
    log = [("run-r1", triggered(partition=EU)), ("run-r2", triggered(partition=EU))]
    with pytest.raises(asyncpg.UniqueViolationError) as refused:
        projected(database, PROJECTION, log, ROWS)
    assert refused.value.constraint_name == CONSTRAINT


def test_the_order_of_the_log_counts_within_a_batch(database: str) -> None:
    log = [("run-r1", triggered(partition=EU)), ("run-r2", triggered(partition=EU)), ("run-r1", over())]

    async def together() -> None:
        async with read_model(database, PROJECTION, log):
            raise AssertionError("the second one began before the first one ended")

    with pytest.raises(asyncpg.UniqueViolationError):
        asyncio.run(together())


def test_runs_without_a_partition_and_dry_runs_are_not_counted(database: str) -> None:
    log = [("run-r1", triggered()), ("run-r2", triggered()), ("run-r3", triggered(partition=EU, dry_run=True))]
    assert projected(database, PROJECTION, log, ROWS) == []


def test_a_partition_of_any_length_is_one(database: str) -> None:
    long = '"' + "x" * 100_000 + '"'
    log = [("run-r1", triggered(name="n" * 200, partition=long))]
    assert len(projected(database, PROJECTION, log, ROWS)) == 1
