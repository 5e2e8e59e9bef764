"""Fixtures for everyone: one embedded server for the whole session, and a fresh migrated database per test."""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from prepared import unflushed

from rgrid.postgres.embedded import EmbeddedPostgres
from rgrid.postgres.migrate import migrate

TEMPLATE = "rgrid_template"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """The address of a real server that lives as long as the session; its database is empty."""
    folder = Path(tempfile.mkdtemp(prefix="rgrid-", dir="/tmp"))
    server = EmbeddedPostgres(folder)
    try:
        dsn = server.start()
        asyncio.run(unflushed(dsn))
        yield dsn
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def template_database(postgres_dsn: str) -> str:
    """A migrated database that the others are copied from."""
    run_sql(postgres_dsn, f"create database {TEMPLATE}")
    asyncio.run(migrate(dsn_of(postgres_dsn, TEMPLATE)))
    return TEMPLATE


@pytest.fixture
def database(postgres_dsn: str, template_database: str) -> Iterator[str]:
    """The address of a database of this test's own, migrated."""
    yield from _database(postgres_dsn, f"template {template_database}")


@pytest.fixture
def empty_database(postgres_dsn: str) -> Iterator[str]:
    """The address of a database of this test's own, without any migration."""
    yield from _database(postgres_dsn, "")


def _database(postgres_dsn: str, how: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    run_sql(postgres_dsn, f"create database {name} {how}")
    yield dsn_of(postgres_dsn, name)
    run_sql(postgres_dsn, f"drop database {name} with (force)")


def dsn_of(postgres_dsn: str, database_name: str) -> str:
    return postgres_dsn.replace("/postgres?", f"/{database_name}?")


def run_sql(dsn: str, sql: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    asyncio.run(run())
