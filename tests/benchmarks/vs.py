"""No-op jobs per second through rgrid's queue, against procrastinate and DBOS on the same Postgres in the same run.
The peers are the dependency group `bench`; one that is not installed is named and left out."""

import asyncio
import importlib.util
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path

from rgrid.postgres.embedded import EmbeddedPostgres
from rgrid.postgres.pool import connect
from tests.benchmarks.bench_grid import SOURCES
from tests.benchmarks.report import Figure, compared, in_turn

PEERS = {"procrastinate": "procrastinate", "dbos": "DBOS"}
WAIT_MAX_S = 600
_names = count(1)


def run(smoke: bool) -> list[Figure]:
    jobs, of_peers, rounds = (100, 50, 1) if smoke else (2_000, 500, 3)
    here = [peer for peer in PEERS if importlib.util.find_spec(peer) is not None]
    for peer in PEERS:
        if peer not in here:
            print(f"vs: {PEERS[peer]} is not measured, because it is not here (uv pip install --group bench)")
    with tempfile.TemporaryDirectory(prefix="rgrid-bench-") as folder:
        Path(folder).chmod(0o755)  # Postgres has a user of its own when this one is root
        embedded = EmbeddedPostgres(Path(folder) / "data")
        dsn = embedded.start()
        try:
            measures = [lambda: _measured("rgrid", dsn, jobs)]
            measures += [lambda peer=peer: _measured(peer, dsn, of_peers) for peer in here]  # type: ignore[misc]
            ours, *theirs = in_turn(rounds, *measures)
        finally:
            embedded.stop()
    what = "no-op jobs, submit to result"
    if not here:
        return [Figure("vs", what, ours, "/s")]
    return [compared("vs", what, "/s", ours, PEERS[peer], rate, "≥ 1") for peer, rate in zip(here, theirs, strict=True)]


def _measured(system: str, dsn: str, jobs: int) -> float:
    """In a process and a database of its own."""
    name = f"bench_{system}_{next(_names)}"
    asyncio.run(_create(dsn, name))
    words = [sys.executable, "-m", f"tests.benchmarks.vs_{system}", _of(dsn, name), str(jobs)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=SOURCES, timeout=WAIT_MAX_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return float(done.stdout.split()[-1])


async def _create(dsn: str, name: str) -> None:
    connection = await connect(dsn, name="bench")
    try:
        await connection.execute(f"create database {name}")
    finally:
        await connection.close()


def _of(dsn: str, database: str) -> str:
    """The same server, another database."""
    before, _, query = dsn.partition("?")
    return f"{before.rpartition('/')[0]}/{database}?{query}"
