"""Fixtures for everyone: one embedded server for the whole session, and a fresh migrated database per test."""

import asyncio
import gc
import itertools
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from prepared import unflushed

from rgrid.assembly import assembled
from rgrid.postgres.embedded import EmbeddedPostgres
from rgrid.postgres.migrate import migrate
from rgrid.settings import Settings

# Whoever starts this in the background of a script has interrupts ignored, and so would every program started here.
signal.signal(signal.SIGINT, signal.default_int_handler)

TEMPLATE = "rgrid_template"
WITH_READ_MODELS = "rgrid_template_with_read_models"
LONGEST = {"test_fuzz.py", "test_process_crashes.py", "test_runs_of_killed_services.py", "test_image.py"}
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that nobody has to wait for it at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    """Thousands of collected tests stay to the end: the collector need not look through them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """The address of a real server that lives as long as the session; its database is empty."""
    folder = Path(tempfile.mkdtemp(prefix="rgrid-"))
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


@pytest.fixture(scope="session")
def template_with_read_models(postgres_dsn: str, template_database: str) -> str:
    """A database as the first start of a service leaves it."""
    run_sql(postgres_dsn, f"create database {WITH_READ_MODELS} {_copied(template_database)}")

    async def start(folder: str) -> None:
        async with assembled(Settings(data_dir=Path(folder)), dsn_of(postgres_dsn, WITH_READ_MODELS)):
            pass

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(start(folder))
    return WITH_READ_MODELS


@pytest.fixture
def database(postgres_dsn: str, template_database: str) -> Iterator[str]:
    """The address of a database of this test's own, migrated."""
    yield from _database(postgres_dsn, _copied(template_database))


@pytest.fixture
def ready_database(postgres_dsn: str, template_with_read_models: str) -> Iterator[str]:
    """The address of a database of this test's own, with every read model: whole services start on it at once."""
    yield from _database(postgres_dsn, _copied(template_with_read_models))


@pytest.fixture
def empty_database(postgres_dsn: str) -> Iterator[str]:
    """The address of a database of this test's own, without any migration."""
    yield from _database(postgres_dsn, "")


def _database(postgres_dsn: str, how: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    run_sql(postgres_dsn, f"create database {name} {how}")
    yield dsn_of(postgres_dsn, name)
    run_sql(postgres_dsn, f"drop database {name} with (force)")


def _copied(template: str) -> str:
    """File by file, which costs half of writing every page of the copy to the server's log first."""
    return f"template {template} strategy file_copy"


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
