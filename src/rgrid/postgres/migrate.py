"""Brings a database to the present layout: each numbered SQL file once, in order, in a transaction of its own."""

import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

import asyncpg
import msgspec

from rgrid.kernel.errors import Unavailable
from rgrid.postgres.pool import connect

SERVER_VERSION_MIN: Final = 14
LOCK_WAIT_MAX_S: Final = 120
_LOCK: Final = 0x7267726964  # "rgrid": one migrator at a time, whatever process it is in
_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


class MigrationTrouble(Unavailable):
    """The database can't be brought to the layout that this program needs."""

    code = "migration_failed"


class Migration(msgspec.Struct, frozen=True):
    """One numbered file."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """The files of this program in number order."""
    found = []
    for file in files("rgrid.postgres.migrations").iterdir():
        if match := _NAME.fullmatch(file.name):
            found.append(Migration(int(match[1]), file.name, file.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.number)
    numbers = [migration.number for migration in found]
    assert len(set(numbers)) == len(numbers), f"two migrations share a number: {numbers}"
    return found


async def migrate(dsn: str, wanted: Sequence[Migration] | None = None) -> list[str]:
    """Apply what is not yet applied and name it. Any number of processes may call this at the same time."""
    wanted = migrations() if wanted is None else wanted
    connection = await connect(dsn, name="rgrid migrate")
    try:
        major = connection.get_server_version().major
        if major < SERVER_VERSION_MIN:
            raise MigrationTrouble(f"Postgres {SERVER_VERSION_MIN} or newer is needed, this is {major}.")
        await connection.execute(f"set lock_timeout = '{LOCK_WAIT_MAX_S}s'")
        try:
            await connection.execute("select pg_advisory_lock($1)", _LOCK)
        except asyncpg.LockNotAvailableError:
            raise MigrationTrouble(
                f"Another process has been migrating this database for {LOCK_WAIT_MAX_S} s."
            ) from None
        # The session ends with this function, and the lock with the session.
        return await _apply(connection, wanted)
    finally:
        await connection.close()


async def pending(dsn: str) -> list[str]:
    """Names of the migrations that this database still lacks."""
    connection = await connect(dsn, name="rgrid migrate")
    try:
        if await connection.fetchval("select to_regclass('rgrid.schema_migrations')") is None:
            return [migration.name for migration in migrations()]
        applied = {row["number"] for row in await connection.fetch("select number from schema_migrations")}
        return [migration.name for migration in migrations() if migration.number not in applied]
    finally:
        await connection.close()


async def _apply(connection: "asyncpg.Connection[asyncpg.Record]", wanted: Sequence[Migration]) -> list[str]:
    await connection.execute(
        """
        create schema if not exists rgrid;
        create table if not exists rgrid.schema_migrations (
            number     integer primary key,
            name       text not null,
            checksum   text not null,
            applied_at timestamptz not null default clock_timestamp()
        );
        """
    )
    rows = await connection.fetch("select number, name, checksum from rgrid.schema_migrations")
    applied = {row["number"]: row for row in rows}
    _refuse_strangers(applied, wanted)
    done = []
    for migration in wanted:
        if migration.number in applied:
            continue
        try:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    "insert into rgrid.schema_migrations (number, name, checksum) values ($1, $2, $3)",
                    migration.number,
                    migration.name,
                    migration.checksum,
                )
        except asyncpg.PostgresError as problem:
            raise MigrationTrouble(f"Migration {migration.name} failed: {problem}.") from problem
        done.append(migration.name)
    return done


def _refuse_strangers(applied: dict[int, asyncpg.Record], wanted: Sequence[Migration]) -> None:
    """An applied file that has changed, or that this program doesn't have, means another layout than expected."""
    by_number = {migration.number: migration for migration in wanted}
    for number, row in sorted(applied.items()):
        mine = by_number.get(number)
        if mine is None:
            raise MigrationTrouble(
                f"The database has migration {row['name']}, which this version of rgrid doesn't know: "
                "a newer version has used it."
            )
        if mine.checksum != row["checksum"]:
            raise MigrationTrouble(f"Migration {mine.name} was changed after it had been applied.")
