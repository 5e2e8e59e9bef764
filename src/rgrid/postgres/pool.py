"""Connections to Postgres: one way to open them, so that every process sees the same schemas."""

from typing import Final, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

# `rgrid` holds the event store and the operational tables, `rm` the read models.
SEARCH_PATH: Final = "rgrid, rm"
POOL_CONNECTIONS_MAX: Final = 10
STATEMENTS_MAX: Final = 100
CONNECT_WAIT_MAX_S: Final = 10.0
COMMAND_WAIT_MAX_S: Final = 60.0

# What asyncpg raises when the server is gone, going, or not there yet: the caller may try again.
GONE: Final[tuple[type[Exception], ...]] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what a connection raises whose server was killed in the middle of an answer
)


async def open_pool(
    dsn: str,
    *,
    name: str = "rgrid",
    connections_max: int = POOL_CONNECTIONS_MAX,
    statements_max: int = STATEMENTS_MAX,
    search_path: str = SEARCH_PATH,
) -> Pool:
    """A pool that opens its first connection now, so that a wrong address fails here. `name` shows in
    pg_stat_activity, `statements_max` is how many each connection keeps prepared."""
    return await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=connections_max,
        statement_cache_size=statements_max,
        timeout=CONNECT_WAIT_MAX_S,
        command_timeout=COMMAND_WAIT_MAX_S,
        reset=_as_it_is,
        server_settings=_session(name, search_path),
    )


async def connect(
    dsn: str, *, name: str = "rgrid", search_path: str = SEARCH_PATH
) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection outside every pool, for what must own its session: the writer, locks, LISTEN."""
    return await asyncpg.connect(dsn, timeout=CONNECT_WAIT_MAX_S, server_settings=_session(name, search_path))


async def _as_it_is(connection: Connection) -> None:
    """Nothing is left behind on a connection that is given back: settings are local to transactions, and who takes
    session locks or listens closes the connection. So the round trip that would clean it up is saved."""


def _session(name: str, search_path: str) -> dict[str, str]:
    # Compiling a plan costs more than any of our short queries takes.
    return {"application_name": name, "search_path": search_path, "jit": "off", "timezone": "UTC"}
