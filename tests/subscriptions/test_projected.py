"""The support for tests of read models itself."""

import asyncio
from collections.abc import Sequence

import pytest
from following import DDL, Deposited, Unrelated, accounts
from projected import BEGAN_AT, projected, read_model, recorded

from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.pool import Connection
from rgrid.subscriptions.projection import Projection

GIVEN = [
    ("account-ann", Deposited(amount=3)),
    ("other-1", Unrelated()),
    ("account-bob", Deposited(amount=4)),
    ("account-ann", Deposited(amount=5)),
]


def test_given_events_then_rows(database: str) -> None:
    rows = projected(database, accounts(), GIVEN, "select stream_id, balance from accounts order by 1")
    assert rows == [{"stream_id": "account-ann", "balance": 8}, {"stream_id": "account-bob", "balance": 4}]


def test_positions_versions_and_times_are_those_of_a_log() -> None:
    placed = recorded(GIVEN, after=10)
    assert [(seen.position, seen.version) for seen in placed] == [(11, 1), (12, 1), (13, 1), (14, 2)]
    assert (placed[3].recorded_at - BEGAN_AT).total_seconds() == 14


def test_nothing_stays_behind(database: str) -> None:
    async def run() -> None:
        for _ in range(2):
            async with read_model(database, accounts(), recorded(GIVEN)) as connection:
                assert await connection.fetchval("select count(*) from deposits") == 3

    asyncio.run(run())


def test_a_batch_form_that_depends_on_the_size_of_pages_is_found_out(database: str) -> None:
    async def batch(conn: Connection, page: Sequence[AnyRecorded]) -> None:
        await conn.execute("insert into deposits values ($1, 'sizes', $2)", page[0].position, len(page))

    wrong = Projection(name="wrong", version=1, on=[Deposited], ddl=DDL, on_batch=batch)
    with pytest.raises(AssertionError, match="the page's size shows"):
        projected(database, wrong, GIVEN, "select amount from deposits")
