"""Tickets on a real database: single use over all processes, bound to execution and caller, over after a minute."""

import asyncio
from datetime import timedelta
from pathlib import Path

from api.one_grid import Served, cause, served

from rgrid.access import key_secret, tickets
from rgrid.executions.commands import SubmitExecution
from rgrid.executions.execution import DECIDER
from rgrid.kernel.clock import now
from rgrid.kernel.ids import new_id
from rgrid.web.principal import Principal

CALLER = Principal(actor="key:key_1", actor_kind="key", scopes=("read",), key_id="key_1", name="ci")


async def submitted(one: Served) -> str:
    execution_id = new_id("exec")
    command = SubmitExecution(
        script_sha256="0" * 64,
        script_size_bytes=8,
        runtime="python:3.11",
        timeout_s=60,
        cpu=1,
        memory_mb=64,
        max_retries=0,
        inputs_deadline_s=60,
        root_execution_id=execution_id,
        created_by="test",
    )
    await one.grid.handler.handle(DECIDER, execution_id, command, cause())
    return execution_id


async def expire(one: Served) -> None:
    await one.grid.pool.execute("update rgrid.ws_tickets set expires_at = clock_timestamp()")


def test_a_ticket_is_issued_for_an_execution_there_is(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            execution_id = await submitted(one)
            response = await one.http.post("/ws-tickets", json={"execution_id": execution_id})
            body = response.json()
            assert (response.status_code, body["execution_id"]) == (201, execution_id)
            caller = await tickets.redeem(one.grid.pool, body["ticket"], execution_id)
            assert caller is not None
            assert (caller.name, caller.scopes) == ("admin", ("admin",))
            for unknown in ("exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X", "x"):
                missing = await one.http.post("/ws-tickets", json={"execution_id": unknown})
                assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
            assert (await one.http.post("/ws-tickets", json={})).status_code == 422

    asyncio.run(run())


def test_a_ticket_lasts_a_minute(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            before = now()
            issued = await tickets.issue(one.grid.pool, CALLER, "exec_1")
            assert before + timedelta(seconds=59) <= issued.expires_at <= now() + timedelta(seconds=61)
            await expire(one)
            assert await tickets.redeem(one.grid.pool, issued.ticket, "exec_1") is None

    asyncio.run(run())


def test_a_ticket_is_kept_as_its_hash_only(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            issued = await tickets.issue(one.grid.pool, CALLER, "exec_1")
            row = await one.grid.pool.fetchval("select t::text from rgrid.ws_tickets t")
            assert issued.ticket not in row
            assert key_secret.hash_of(issued.ticket) in row

    asyncio.run(run())


def test_a_ticket_works_once_over_all_processes(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one, served(database, tmp_path / "2") as two:
            for _ in range(10):
                issued = await tickets.issue(one.grid.pool, CALLER, "exec_1")
                tries = [tickets.redeem(each.grid.pool, issued.ticket, "exec_1") for each in (one, two, one, two)]
                answers = await asyncio.gather(*tries)
                assert [answer for answer in answers if answer is not None] == [CALLER]

    asyncio.run(run())


def test_a_ticket_of_another_execution_opens_nothing_and_is_not_used_up(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            issued = await tickets.issue(one.grid.pool, CALLER, "exec_1")
            assert await tickets.redeem(one.grid.pool, issued.ticket, "exec_2") is None
            for wrong in ("", "wst_", "wst_" + "x" * 43, "wst_" + "x" * 500, "wst_\u00e9", issued.ticket.upper()):
                assert await tickets.redeem(one.grid.pool, wrong, "exec_1") is None
            assert await tickets.redeem(one.grid.pool, issued.ticket, "exec_1") == CALLER

    asyncio.run(run())


def test_a_ticket_is_no_api_key_and_an_api_key_no_ticket(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            issued = await tickets.issue(one.grid.pool, CALLER, "exec_1")
            assert (await one.http.get("/me", headers=one.as_key(issued.ticket))).status_code == 401
            secret = (await one.http.post("/keys", json={"name": "ci", "scopes": ["read"]})).json()["key"]
            assert await tickets.redeem(one.grid.pool, secret, "exec_1") is None

    asyncio.run(run())


def test_who_was_let_in_by_a_key_no_longer_counts_once_it_is_revoked(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            key = (await one.http.post("/keys", json={"name": "ci", "scopes": ["read"]})).json()
            caller = await one.authenticator(key["key"])
            assert caller is not None
            assert await one.authenticator.still_counts(caller)
            await one.http.post(f"/keys/{key['id']}/rotate")
            assert await one.authenticator.still_counts(caller)
            await one.http.delete(f"/keys/{key['id']}")
            assert not await one.authenticator.still_counts(caller)

    asyncio.run(run())


def test_tickets_that_are_over_are_purged(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            for _ in range(3):
                await tickets.issue(one.grid.pool, CALLER, "exec_1")
            assert await tickets.purge(one.grid.pool) == 0
            await expire(one)
            kept = await tickets.issue(one.grid.pool, CALLER, "exec_1")
            assert await tickets.purge(one.grid.pool) == 3
            assert await tickets.redeem(one.grid.pool, kept.ticket, "exec_1") == CALLER

    asyncio.run(run())
