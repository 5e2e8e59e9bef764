"""Migrations: each once, in order, whole or not at all, under one lock."""

import asyncio

import asyncpg
import pytest

from rgrid.postgres.migrate import Migration, MigrationTrouble, migrate, migrations, pending
from rgrid.postgres.pool import open_pool

ONE = Migration(1, "0001_one.sql", "create table rgrid.one (a int); insert into rgrid.one values (1);")
TWO = Migration(2, "0002_two.sql", "create table rgrid.two as select a + 1 as a from rgrid.one;")
THREE = Migration(3, "0003_three.sql", "create table rgrid.three (a int);")


async def applied(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("select name from rgrid.schema_migrations order by applied_at")
    await connection.close()
    return [row["name"] for row in rows]


def test_the_files_of_this_program_make_a_database_and_a_second_run_does_nothing(empty_database: str) -> None:
    async def scenario() -> None:
        names = [migration.name for migration in migrations()]
        assert await pending(empty_database) == names
        assert await migrate(empty_database) == names
        assert await migrate(empty_database) == []
        assert await pending(empty_database) == []

    asyncio.run(scenario())


def test_what_is_missing_is_applied_in_number_order_even_below_what_is_there(empty_database: str) -> None:
    async def scenario() -> None:
        assert await migrate(empty_database, [ONE, THREE]) == [ONE.name, THREE.name]
        assert await migrate(empty_database, [ONE, TWO, THREE]) == [TWO.name]
        assert await applied(empty_database) == [ONE.name, THREE.name, TWO.name]

    asyncio.run(scenario())


def test_a_migration_that_fails_leaves_nothing_and_names_itself(empty_database: str) -> None:
    async def scenario() -> None:
        broken = Migration(2, "0002_broken.sql", "create table rgrid.half (a int); select no_such_function();")
        with pytest.raises(MigrationTrouble, match=r"0002_broken.sql failed"):
            await migrate(empty_database, [ONE, broken])
        assert await applied(empty_database) == [ONE.name]
        assert await migrate(empty_database, [ONE, TWO]) == [TWO.name]
        connection = await asyncpg.connect(empty_database)
        assert await connection.fetchval("select to_regclass('rgrid.half')") is None
        await connection.close()

    asyncio.run(scenario())


def test_an_applied_file_that_was_changed_is_refused(empty_database: str) -> None:
    async def scenario() -> None:
        await migrate(empty_database, [ONE])
        with pytest.raises(MigrationTrouble, match="changed after it had been applied"):
            await migrate(empty_database, [Migration(1, ONE.name, ONE.sql + "-- mended"), TWO])
        assert await applied(empty_database) == [ONE.name]

    asyncio.run(scenario())


def test_a_database_of_a_newer_program_is_refused(empty_database: str) -> None:
    async def scenario() -> None:
        await migrate(empty_database, [ONE, TWO])
        with pytest.raises(MigrationTrouble, match="newer version"):
            await migrate(empty_database, [ONE])

    asyncio.run(scenario())


def test_many_migrators_at_once_apply_each_file_once(empty_database: str) -> None:
    async def scenario() -> None:
        done = await asyncio.gather(*(migrate(empty_database, [ONE, TWO, THREE]) for _ in range(6)))
        assert sorted(name for names in done for name in names) == [ONE.name, TWO.name, THREE.name]

    asyncio.run(scenario())


def test_a_pool_sees_the_operational_tables_without_naming_their_schema(database: str) -> None:
    async def scenario() -> None:
        pool = await open_pool(database, name="a test")
        assert await pool.fetchval("select count(*) from schema_migrations") == len(migrations())
        assert await pool.fetchval("show search_path") == "rgrid, rm"
        assert await pool.fetchval("show application_name") == "a test"
        await pool.close()

    asyncio.run(scenario())
