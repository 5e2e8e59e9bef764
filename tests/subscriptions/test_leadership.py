"""Many processes, one leader per subscriber: nothing is skipped, nothing is applied twice, somebody takes over."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from following import WAIT_S, Bank, accounts, bank, until

OTHER_PROCESS = """
import asyncio, sys
from following import accounts, bank

async def run() -> None:
    async with bank(sys.argv[1], [accounts()]) as service:
        await service.daemon.reached(0, timeout_s=60)
        print("ready", flush=True)
        for count in range(100_000):
            await service.deposit(sys.argv[2], 1, after=count)

asyncio.run(run())
"""


async def start_other_process(dsn: str, account: str) -> asyncio.subprocess.Process:
    """A service in a process of its own, depositing without end; returns when its read side is there."""
    here = Path(__file__).resolve().parent
    paths = [str(here), *sys.path, str(here.parent.parent / "src")]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        OTHER_PROCESS,
        dsn,
        account,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), WAIT_S) == b"ready\n"
    return process


def test_two_processes_apply_every_event_once(database: str) -> None:
    async def run() -> None:
        async with bank(database, [accounts()]) as one, bank(database, [accounts()]) as two:

            async def write(service: Bank, name: str) -> int:
                position = 0
                for count in range(200):
                    position = await service.deposit(name, 1, after=count)
                return position

            positions = await asyncio.gather(write(one, "ann"), write(two, "bob"))
            await one.daemon.reached(max(positions), timeout_s=WAIT_S)
            await two.daemon.reached(max(positions), timeout_s=WAIT_S)
            assert await one.applied() == await one.logged()
            assert await one.balances() == {"ann": 200, "bob": 200}
            assert sorted([await one.state(), await two.state()]) == ["following", "live"]

    asyncio.run(run())


def test_another_process_takes_over_when_the_leader_is_killed(database: str) -> None:
    async def run() -> None:
        leader = await start_other_process(database, "theirs")
        async with bank(database, [accounts()]) as service:
            assert await service.state() == "following"
            for count in range(50):
                await service.deposit("mine", 1, after=count)
            os.kill(leader.pid, signal.SIGKILL)
            await leader.wait()
            position = await service.deposit("mine", 1, after=50)
            await service.daemon.reached(position, timeout_s=WAIT_S)
            assert await service.state() == "live"
            assert await service.applied() == await service.logged()

    asyncio.run(run())


def test_a_leader_that_loses_its_locks_begins_again_where_it_stood(database: str) -> None:
    async def run() -> None:
        async with bank(database, [accounts()]) as service:
            position = 0
            for count in range(30):
                position = await service.deposit("ann", 1, after=count)
                if count % 10 == 5:
                    await service.pool.execute(
                        "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and objsubid = 2"
                        " and database = (select oid from pg_database where datname = current_database())"
                    )
            await service.daemon.reached(position, timeout_s=WAIT_S)
            assert await service.applied() == await service.logged()

    asyncio.run(run())


def test_a_leader_that_was_overtaken_unawares_applies_nothing_twice(database: str) -> None:
    """The fence: somebody else moves the checkpoint, and a page that was read before is not applied on top."""

    async def run() -> None:
        async with bank(database, [accounts()]) as service:
            await service.daemon.reached(await service.deposit("ann", 1), timeout_s=WAIT_S)
            async with service.pool.acquire() as conn, conn.transaction():
                await conn.execute("update rgrid.checkpoints set position = 2")
                await conn.execute("insert into rm.deposits values (2, 'account-ann', 1)")
                await service.deposit("ann", 1, after=1)
            position = await service.deposit("ann", 1, after=2)
            await service.daemon.reached(position, timeout_s=WAIT_S)
            assert await service.applied() == [1, 2, 3]

    asyncio.run(run())


def test_an_orderly_stop_hands_over_at_once(database: str) -> None:
    async def run() -> None:
        async with bank(database, [accounts()]) as two, bank(database, [accounts()], started=False) as one:
            await two.daemon.reached(0, timeout_s=WAIT_S)
            await one.daemon.start()
            await two.daemon.stop()

            async def leads() -> bool:
                return await one.state() == "live"

            await until(leads)
            position = await one.deposit("ann", 1)
            await one.daemon.reached(position, timeout_s=WAIT_S)

    asyncio.run(run())
