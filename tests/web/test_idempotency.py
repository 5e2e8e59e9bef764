"""Repeated requests against a real database and the real event store: one effect, one reply, byte for byte."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from serving import running, site
from test_problems import check

from rgrid.eventstore.codec import Codec
from rgrid.eventstore.handle import Handler
from rgrid.eventstore.signal import Signal
from rgrid.eventstore.store import Store
from rgrid.eventstore.writer import GroupWriter
from rgrid.kernel import clock
from rgrid.kernel.decider import Decider
from rgrid.kernel.errors import Invalid, Rejected
from rgrid.kernel.ids import new_id
from rgrid.kernel.messages import Command, Event
from rgrid.postgres.pool import Pool, connect, open_pool
from rgrid.web import idempotency
from rgrid.web.idempotency import Idempotency
from rgrid.web.operation import Call, Operation, Reply
from rgrid.web.server import build

RUNNER = {"Authorization": "Bearer runner"}


class Make(Command, frozen=True, kw_only=True):
    name: str


class Made(Event, frozen=True, kw_only=True):
    name: str


def _decide(command: Make, state: str, now: datetime) -> list[Made]:
    if command.name == "bad":
        raise Rejected("No.")
    return [] if state else [Made(name=command.name)]


THING: Decider[Make, str, Made] = Decider("thing", "", _decide, lambda state, event: event.name)


class ThingCreate(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    params: dict[str, Any] = {}


class Thing(msgspec.Struct):
    id: str
    name: str
    secret: str | None


@dataclass
class Service:
    """One process of the service: an address, and what stands behind it."""

    address: str
    pool: Pool
    kept: Idempotency
    gate: asyncio.Event
    entered: asyncio.Event
    later: list[timedelta]

    async def post(self, key: str, body: Any, path: str = "/api/v1/things", **given: Any) -> httpx.Response:
        headers = RUNNER | {"Idempotency-Key": key} | given.pop("headers", {})
        async with httpx.AsyncClient(base_url=self.address, headers=headers, timeout=20) as http:
            return await http.post(path, json=body, **given)

    async def made(self) -> int:
        count: int = await self.pool.fetchval("select count(*) from rgrid.stored_events")
        return count


@asynccontextmanager
async def service(dsn: str, ttl_s: int = 3600) -> AsyncIterator[Service]:
    pool = await open_pool(dsn)
    codec = Codec({"thing.made.v1": Made})
    writer = GroupWriter(lambda: connect(dsn), codec, Signal())
    await writer.start()
    store = Store(pool, codec)
    handler = Handler(store, writer, clock.now)
    gate, entered = asyncio.Event(), asyncio.Event()
    gate.set()
    offset = [timedelta()]
    kept = Idempotency(pool, lambda: clock.now() + offset[0], ttl_s)

    async def create(call: Call[None, ThingCreate]) -> Reply:
        entered.set()
        await gate.wait()
        made = Reply(201, None)

        def riders(state: str, events: Any, version: int) -> Any:
            made.body = Thing(id=thing_id, name=state, secret="shown once")
            made.stored = Thing(id=thing_id, name=state, secret=None) if call.body.params.get("secret") else None
            made.etag = version
            made.location = f"/api/v1/things/{thing_id}"
            return call.riders(made)

        thing_id = new_id("thing")
        done = await handler.handle(THING, thing_id, Make(name=call.body.name), call.cause(), new=True, riders=riders)
        made.position = done.position
        return made

    async def touch(call: Call[None, None]) -> Reply:
        entered.set()
        return Reply(200, Thing(id=new_id("thing"), name="untouched", secret=None), position=0)

    flags: Any = frozenset({"idem", "mutates"})
    operations = [
        Operation(method="POST", path="/api/v1/things", auth="run", handler=create, body=ThingCreate,
                  ok={201: Thing}, flags=flags),
        Operation(method="POST", path="/api/v1/touch", auth="run", handler=touch, ok={200: Thing}, flags=flags),
    ]  # fmt: skip
    async with running(build(operations, site(idempotency=kept))) as address:
        yield Service(address, pool, kept, gate, entered, offset)
    await writer.stop()
    await pool.close()


def test_a_repeated_request_gets_the_same_bytes_and_makes_nothing(database: str) -> None:
    async def scenario() -> None:
        async with service(database) as here:
            first = await here.post("k1", {"name": "a", "params": {"x": 1, "y": 2}})
            again = await here.post("k1", {"params": {"y": 2, "x": 1}, "name": "a"}, path="/api/v1/things/")
            assert first.status_code == again.status_code == 201
            assert first.content == again.content
            for name in ("etag", "location", "rgrid-position", "content-type"):
                assert first.headers[name] == again.headers[name]
            assert "idempotency-replayed" not in first.headers
            assert again.headers["idempotency-replayed"] == "true"
            assert again.headers["x-request-id"] != first.headers["x-request-id"]
            assert await here.made() == 1
        async with service(database) as restarted:
            assert (await restarted.post("k1", {"name": "a", "params": {"x": 1, "y": 2}})).content == first.content
            assert await restarted.made() == 1

    asyncio.run(scenario())


def test_the_same_key_for_another_request_is_a_conflict(database: str) -> None:
    async def scenario() -> None:
        async with service(database) as here:
            await here.post("k1", {"name": "a"})
            check(await here.post("k1", {"name": "b"}), 409, "idempotency_conflict")
            check(
                await here.post("k1", {"name": "a"}, headers={"X-Other": "1"}, params={"x": 1}),
                422,
                "unknown_parameter",
            )
            assert await here.made() == 1

    asyncio.run(scenario())


def test_a_key_belongs_to_its_actor_and_path(database: str) -> None:
    async def scenario() -> None:
        async with service(database) as here:
            mine = await here.post("k1", {"name": "a"})
            other = await here.post("k1", {"name": "a"}, headers={"Authorization": "Bearer root"})
            assert mine.json()["id"] != other.json()["id"]
            assert (await here.post("k1", None, path="/api/v1/touch")).status_code == 200

    asyncio.run(scenario())


def test_what_is_shown_once_is_not_shown_again(database: str) -> None:
    async def scenario() -> None:
        async with service(database) as here:
            body = {"name": "a", "params": {"secret": True}}
            first, again = await here.post("k1", body), await here.post("k1", body)
            assert (first.json()["secret"], again.json()["secret"]) == ("shown once", None)
            assert first.json()["id"] == again.json()["id"]
            row = await here.pool.fetchval("select body from rgrid.idempotency_keys")
            assert b"shown once" not in row

    asyncio.run(scenario())


def test_a_request_that_writes_no_event_is_replayed_too(database: str) -> None:
    async def scenario() -> None:
        async with service(database) as here:
            first, again = [await here.post("k1", None, path="/api/v1/touch") for _ in range(2)]
            assert first.content == again.content
            assert again.headers["idempotency-replayed"] == "true"
            assert "rgrid-position" not in again.headers

    asyncio.run(scenario())


def test_a_failed_request_is_not_kept(database: str) -> None:
    async def scenario() -> None:
        async with service(database) as here:
            check(await here.post("k1", {"name": "bad"}), 409, "illegal_transition")
            check(await here.post("k1", {"nome": "a"}), 422, "validation_failed")
            assert (await here.post("k1", {"name": "good"})).status_code == 201

    asyncio.run(scenario())


def test_a_request_that_is_still_running_is_not_started_twice(database: str) -> None:
    async def scenario() -> None:
        async with service(database) as here:
            here.gate.clear()
            first = asyncio.create_task(here.post("k1", {"name": "a"}))
            await here.entered.wait()
            running_still = await here.post("k1", {"name": "a"})
            check(running_still, 409, "idempotency_in_progress")
            assert running_still.headers["retry-after"] == "1"
            check(await here.post("k1", {"name": "b"}), 409, "idempotency_conflict")
            here.gate.set()
            assert (await first).status_code == 201
            assert (await here.post("k1", {"name": "a"})).content == (await first).content

    asyncio.run(scenario())


def test_two_processes_with_one_key_make_one_thing(database: str) -> None:
    async def scenario() -> None:
        async with service(database) as one, service(database) as two:
            one.gate.clear()
            two.gate.clear()
            tasks = [asyncio.create_task(each.post("k1", {"name": "a"})) for each in (one, two)]
            await one.entered.wait()
            await two.entered.wait()
            one.gate.set()
            two.gate.set()
            first, second = [await task for task in tasks]
            assert first.status_code == second.status_code == 201
            assert first.content == second.content
            assert sorted("idempotency-replayed" in answer.headers for answer in (first, second)) == [False, True]
            assert await one.made() == 1

    asyncio.run(scenario())


def test_a_key_may_be_used_again_after_its_time_and_purging_forgets_only_such(database: str) -> None:
    async def scenario() -> None:
        async with service(database, ttl_s=60) as here:
            first = await here.post("k1", {"name": "a"})
            await here.post("k2", {"name": "b"})
            assert await here.kept.purge() == 0
            here.later[0] = timedelta(seconds=61)
            later = await here.post("k1", {"name": "c"})
            assert later.status_code == 201
            assert later.content != first.content
            assert await here.kept.purge() == 1
            assert await here.pool.fetchval("select count(*) from rgrid.idempotency_keys") == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "x" * 256])
def test_a_key_of_another_form_is_refused(key: str) -> None:
    with pytest.raises(Invalid):
        idempotency.check_key(key)
    assert idempotency.check_key("x" * 255)
