"""Workers over HTTP and their heartbeats, on a real database: listed, drained, lost, heard again."""

import asyncio
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from api.one_grid import Served, cause, served

from projections import workers
from rgrid.executions import leases
from rgrid.kernel.ids import new_id
from rgrid.runners import heartbeats
from rgrid.runners.commands import MarkWorkerLost, RegisterWorker, StopWorker, WelcomeBack
from rgrid.runners.host import Host, this_host
from rgrid.runners.process import settle
from rgrid.runners.runner import DECIDER

HERE = Host(hostname="here", boot_id="this boot")
ELSEWHERE = Host(hostname="elsewhere", boot_id="another boot")
TTL_S = 60.0


async def registered(one: Served, **changes: Any) -> str:
    worker_id = new_id("wrk")
    asked: dict[str, Any] = {
        "hostname": ELSEWHERE.hostname,
        "pid": 7,
        "boot_id": ELSEWHERE.boot_id,
        "process_started_ticks": 99,
        "runner_kind": "sandbox",
        "sandbox_level": "full",
        "slots": 4,
        "runtimes": ["python:3.11"],
        "version": "1.2.3",
    }
    await heartbeats.record(one.grid.pool, worker_id)
    await one.grid.handler.handle(DECIDER, worker_id, RegisterWorker(**(asked | changes)), cause())
    await one.seen()
    return worker_id


async def shown(one: Served, worker_id: str) -> dict[str, Any]:
    await one.seen()
    response = await one.http.get(f"/workers/{worker_id}")
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def lease(one: Served, worker_id: str, execution_id: str, claimed_ago_s: float = 0) -> None:
    rider = leases.take(execution_id, 1, 1, worker_id, TTL_S)
    await one.grid.pool.execute(rider.sql, *rider.args)
    await one.grid.pool.execute(
        "update rgrid.leases set claimed_at = clock_timestamp() - make_interval(secs => $2) where execution_id = $1",
        execution_id,
        claimed_ago_s,
    )


async def silence(one: Served, worker_id: str, seconds: float) -> None:
    """As if the worker had been heard that long ago, and registered before."""
    await one.grid.pool.execute(
        "update rgrid.worker_heartbeats set last_heartbeat_at = clock_timestamp() - make_interval(secs => $2)"
        " where worker_id = $1",
        worker_id,
        seconds,
    )
    await one.grid.pool.execute(
        "update rm.workers set started_at = started_at - interval '1 hour' where worker_id = $1", worker_id
    )


async def settled(one: Served, host: Host = HERE) -> list[str]:
    await one.seen()
    return await settle(one.grid.handler, await workers.watched(one.grid.pool), TTL_S, host)


def test_a_worker_shows_what_it_is_and_what_it_runs(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            worker_id = await registered(one)
            await lease(one, worker_id, "exec_2", 1)
            await lease(one, worker_id, "exec_1", 2)
            body = await shown(one, worker_id)
            heard, started = body.pop("last_heartbeat_at"), body.pop("started_at")
            assert datetime.fromisoformat(heard) >= datetime.fromisoformat(started) - timedelta(seconds=5)
            assert body == {
                "id": worker_id,
                "hostname": "elsewhere",
                "runner_kind": "sandbox",
                "sandbox_level": "full",
                "status": "active",
                "slots": 4,
                "running": 2,
                "current_executions": ["exec_1", "exec_2"],
                "runtimes": ["python:3.11"],
                "version": "1.2.3",
                "hourly_micros": 8_000,
                "stopped_at": None,
            }

    asyncio.run(run())


def test_draining_is_asked_for_once_and_seen_by_the_worker(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            worker_id = await registered(one)
            assert not await workers.shall_drain(one.grid.pool, worker_id)
            before = (await one.http.get(f"/workers/{worker_id}")).headers["etag"]
            response = await one.http.post(f"/workers/{worker_id}/drain", json={"reason": "new disk"})
            assert (response.status_code, response.json()["status"]) == (202, "draining")
            position = response.headers["rgrid-position"]
            after = await one.http.get(f"/workers/{worker_id}", headers={"Rgrid-Min-Position": position})
            assert after.json()["status"] == "draining"
            assert (before, after.headers["etag"]) == ('"1"', '"2"')
            assert await workers.shall_drain(one.grid.pool, worker_id)
            assert await workers.live_runtimes(one.grid.pool) is None, "a draining worker takes no work"

            again = await one.http.post(f"/workers/{worker_id}/drain")
            assert again.status_code == 202
            assert "rgrid-position" not in again.headers
            await one.grid.handler.handle(DECIDER, worker_id, StopWorker(), cause())
            body = await shown(one, worker_id)
            assert body["status"] == "stopped"
            assert body["last_heartbeat_at"] == body["stopped_at"] is not None
            refused = await one.http.post(f"/workers/{worker_id}/drain")
            assert (refused.status_code, refused.json()["current_status"]) == (409, "stopped")

    asyncio.run(run())


def test_what_is_no_worker_is_not_found(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            for worker_id in ("wrk_01JB2Z4M7K8P9Q0R1S2T3V4W5X", "key_01JB2Z4M7K8P9Q0R1S2T3V4W5X", "x"):
                assert (await one.http.get(f"/workers/{worker_id}")).status_code == 404
                refused = await one.http.post(f"/workers/{worker_id}/drain")
                assert (refused.status_code, refused.json()["detail"]) == (404, f"Worker not found: {worker_id}")

    asyncio.run(run())


def test_the_list_is_filtered_ordered_and_paged(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            ids = [await registered(one, hostname=f"host-{n}") for n in range(4)]
            await one.http.post(f"/workers/{ids[0]}/drain")
            await heartbeats.record(one.grid.pool, ids[1])
            await one.seen()
            page = (await one.http.get("/workers")).json()
            assert [worker["id"] for worker in page["data"]] == ids[::-1]
            heard = (await one.http.get("/workers", params={"sort": "last_heartbeat_at", "limit": 1})).json()
            assert heard["data"][0]["id"] == ids[1]
            draining = (await one.http.get("/workers", params={"status": "draining"})).json()
            assert [worker["id"] for worker in draining["data"]] == ids[:1]
            assert draining["pagination"]["total"] == 1
            names: list[str] = []
            asked: dict[str, str] = {"sort": "hostname", "order": "asc", "limit": "3"}
            for _ in range(2):
                page = (await one.http.get("/workers", params=asked)).json()
                names += [worker["hostname"] for worker in page["data"]]
                asked["cursor"] = page["pagination"]["next_cursor"] or ""
            assert names == [f"host-{n}" for n in range(4)]

    asyncio.run(run())


def test_a_silent_worker_is_lost_once_and_its_old_leases_are_over(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one, served(database, tmp_path / "2") as two:
            silent, heard = await registered(one), await registered(one)
            await lease(one, silent, "exec_1", 100)
            await silence(one, silent, TTL_S + 1)
            found = await asyncio.gather(settled(one), settled(two))
            assert sorted(found) == [[], [silent]], "one process records it"
            body = await shown(one, silent)
            assert body["status"] == "lost"
            quiet = datetime.fromisoformat((await shown(one, heard))["last_heartbeat_at"])
            assert datetime.fromisoformat(body["last_heartbeat_at"]) < quiet - timedelta(seconds=TTL_S - 5)
            assert await workers.ended_with_leases(one.grid.pool) == [silent]
            assert await workers.live_count(one.grid.pool) == 1

    asyncio.run(run())


def test_a_worker_that_never_sent_a_heartbeat_is_found(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            worker_id = await registered(one)
            await silence(one, worker_id, 0)
            await one.grid.pool.execute("delete from rgrid.worker_heartbeats")
            assert await settled(one) == [worker_id]

    asyncio.run(run())


def test_a_lost_worker_that_is_heard_again_is_back_and_keeps_what_it_claims(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            worker_id = await registered(one)
            await silence(one, worker_id, TTL_S + 1)
            assert await settled(one) == [worker_id]
            assert await settled(one) == []
            await heartbeats.record(one.grid.pool, worker_id)
            await lease(one, worker_id, "exec_1")
            await one.seen()
            assert await workers.ended_with_leases(one.grid.pool) == []
            assert await settled(one) == []
            body = await shown(one, worker_id)
            assert (body["status"], body["stopped_at"]) == ("active", None)

    asyncio.run(run())


def test_a_worker_whose_process_died_on_this_machine_is_lost_at_once(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        host = this_host()
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        ticks = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
        async with served(database, tmp_path) as one:
            place = {"hostname": host.hostname, "boot_id": host.boot_id}
            worker_id = await registered(one, **place, pid=child.pid, process_started_ticks=ticks)
            other = await registered(one, **place, pid=os.getpid(), process_started_ticks=ticks - 1)
            assert await settled(one, host) == [other], "the pid is another process by now"
            child.kill()
            child.communicate()
            assert await settled(one, host) == [worker_id]

    asyncio.run(run())


def test_runtimes_are_those_of_the_workers_that_take_work(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            pool, handler = one.grid.pool, one.grid.handler
            assert await workers.live_runtimes(pool) is None
            first = await registered(one, runtimes=["python:3.11", "node:22"])
            second = await registered(one, runtimes=["python:3.12"])
            assert await workers.live_runtimes(pool) == {"python:3.11", "node:22", "python:3.12"}
            lost = MarkWorkerLost(reason="No heartbeat.", last_heartbeat_at=datetime.fromisoformat("2026-01-05T00:00Z"))
            await handler.handle(DECIDER, first, lost, cause())
            await one.seen()
            assert await workers.live_runtimes(pool) == {"python:3.12"}
            await handler.handle(DECIDER, first, WelcomeBack(), cause())
            await handler.handle(DECIDER, second, StopWorker(), cause())
            await one.seen()
            assert await workers.live_runtimes(pool) == {"python:3.11", "node:22"}

    asyncio.run(run())


def test_heartbeats_of_workers_long_gone_are_forgotten(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            old, fresh = await registered(one), await registered(one)
            await silence(one, old, heartbeats.FORGET_AFTER_S + 1)
            assert await heartbeats.forget_old(one.grid.pool) == 1
            assert list(await heartbeats.last(one.grid.pool, [old, fresh])) == [fresh]

    asyncio.run(run())
