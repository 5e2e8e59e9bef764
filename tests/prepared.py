"""Servers for tests that cost little: a data folder as a first start leaves it is made once, and copied for each
service whose first start is not what is tested."""

import asyncio
import atexit
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import asyncpg

from rgrid.assembly import assembled
from rgrid.postgres.embedded import EmbeddedPostgres
from rgrid.settings import Settings

# No test pulls the plug of the machine: what a killed server has written is there, flushed or not.
UNFLUSHED = ("fsync = off", "full_page_writes = off", "synchronous_commit = off")
_SET_IN = "postgres/cluster/postgresql.auto.conf"


def prepare(data: Path, *, flushes: bool = False) -> None:
    """Gives a data folder that isn't there yet its database, with every migration and read model. With `flushes` the
    server writes as durably as anybody's does."""
    if data.exists():
        return
    subprocess.run(["cp", "-a", str(_template()), str(data)], check=True)
    if flushes:
        (data / _SET_IN).write_text("")


@functools.cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="rgrid-prepared-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    server = EmbeddedPostgres(folder)
    try:
        asyncio.run(_fill(server.start(), folder))
    finally:
        server.stop()
    return folder


async def _fill(dsn: str, folder: Path) -> None:
    await unflushed(dsn)
    async with assembled(Settings(data_dir=folder), dsn):
        pass


async def unflushed(dsn: str) -> None:
    """From now on the server doesn't wait for the disk."""
    connection = await asyncpg.connect(dsn)
    try:
        for setting in UNFLUSHED:
            await connection.execute(f"alter system set {setting}")
        await connection.execute("select pg_reload_conf()")
    finally:
        await connection.close()
