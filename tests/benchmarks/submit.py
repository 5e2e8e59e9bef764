"""Durable POST /executions against a no-op POST with the same credentials, and against one-row commits of pgbench;
commands per second in process with 64 writers against the same commits."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from rgrid.postgres.embedded import dsn_of_running
from tests.benchmarks.bench_grid import KEY, SOURCES, BenchGrid
from tests.benchmarks.report import Figure, compared, in_turn

CONNECTIONS = 64
WRITERS = 64
BODY = json.dumps({"script_content": "print(1)"})
LUA = f"""
wrk.method = "POST"
wrk.body = [[{BODY}]]
wrk.headers["Content-Type"] = "application/json"
wrk.headers["X-API-Key"] = "{KEY}"
"""


def run(smoke: bool) -> list[Figure]:
    seconds, rounds = (1, 1) if smoke else (5, 5)
    missing = [program for program in ("wrk", "pgbench") if shutil.which(program) is None]
    if missing:
        print(f"submit: not measured, because {', '.join(missing)} is not here (Debian: wrk, postgresql-client)")
        return []
    with BenchGrid(slots=0) as grid, tempfile.TemporaryDirectory() as folder:
        dsn = dsn_of_running(grid.folder / "data")
        assert dsn is not None
        lua = Path(folder) / "post.lua"
        lua.write_text(LUA)
        other = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.noop_service", dsn], stdout=subprocess.PIPE, text=True, cwd=SOURCES
        )
        try:
            assert other.stdout is not None
            noop_url = other.stdout.readline().strip() + "/noop"
            submit, noop, rows, commands = in_turn(
                rounds,
                lambda: _posts(f"{grid.url}/api/v1/executions", lua, seconds),
                lambda: _posts(noop_url, lua, seconds),
                lambda: _commits(dsn, Path(folder), seconds),
                lambda: _commands(dsn, seconds),
            )
        finally:
            other.terminate()
            other.wait(30)
    return [
        compared("submit", "durable POST /executions", "/s", submit, "no-op POST", noop, "≥ 0.7"),
        compared("submit", "durable POST /executions", "/s", submit, "pgbench one-row commits", rows, ""),
        compared("submit", "commands in process, 64 writers", "/s", commands, "pgbench one-row commits", rows, "≥ 2"),
    ]


def _posts(url: str, lua: Path, seconds: int) -> float:
    words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(lua), url]
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    assert "Non-2xx" not in said, said
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert found, said
    return float(found[1])


def _commits(dsn: str, folder: Path, seconds: int) -> float:
    script = folder / "row.sql"
    script.write_text("insert into bench_rows (state) values ('{\"by\": 1}');\n")
    subprocess.run(
        ["psql", "-q", dsn, "-c", "create table if not exists bench_rows (id bigserial primary key, state text)"],
        check=True, capture_output=True,
    )  # fmt: skip
    words = ["pgbench", "-n", "-f", str(script), "-c", str(CONNECTIONS), "-j", "1", "-T", str(seconds), dsn]
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    found = re.search(r"tps = ([\d.]+)", said)
    assert found, said
    return float(found[1])


def _commands(dsn: str, seconds: int) -> float:
    """The whole command path without HTTP: decide, encode, append, commit."""
    sys.path.insert(0, str(SOURCES / "tests"))
    from eventstore.log import COUNTER, Count, cause, opened

    async def main() -> float:
        async with opened(dsn) as log:
            done, began = 0, time.monotonic()

            async def write(writer: int) -> None:
                nonlocal done
                while time.monotonic() - began < seconds:
                    name = f"bench-{began}-{writer}-{done}"
                    await log.handler.handle(COUNTER, name, Count(by=1), cause(), new=True)
                    done += 1

            await asyncio.gather(*(write(writer) for writer in range(WRITERS)))
            return done / (time.monotonic() - began)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())
