"""Services that tick at the same moment on one database, each by its own clock: one decision for each due time."""

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from random import Random

import pytest
from eventstore.log import cause, opened
from schedules.decision_checker import problems
from schedules.schedules_given import ID, at, create

from rgrid import catalogue
from rgrid.eventstore.handle import Handler
from rgrid.eventstore.store import Store
from rgrid.eventstore.writer import GroupWriter
from rgrid.postgres.pool import connect
from rgrid.schedules.commands import DecideDue
from rgrid.schedules.events import DueFired, Timing
from rgrid.schedules.schedule import DECIDER


class Service:
    """A process as the database sees it: a writer of its own, a clock of its own, a memory of its own."""

    def __init__(self, store: Store, writer: GroupWriter) -> None:
        self.moment = at("10:00")
        self.handler = Handler(store, writer, self.now, snapshot_every=10)
        self._parts = store, writer

    def now(self) -> datetime:
        return self.moment

    async def tick(self) -> None:
        await self.handler.handle(DECIDER, ID, DecideDue(), cause())

    def forget(self) -> None:
        """It was killed and started anew."""
        self.handler = Handler(*self._parts, self.now, snapshot_every=10)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_services_decide_once(database: str, seed: int) -> None:
    async def scenario() -> None:
        random = Random(seed)
        async with AsyncExitStack() as stack:
            log = await stack.enter_async_context(opened(database))
            store = Store(log.pool, catalogue.codec())
            services = []
            for _ in range(2):
                writer = GroupWriter(lambda: connect(database, name="writer"), store.codec, store.committed)
                await writer.start()
                stack.push_async_callback(writer.stop)
                services.append(Service(store, writer))
            command = create(Timing(interval_s=7), overlap_policy="ALLOW", misfire_policy="CATCH_UP", catch_up_limit=3)
            await services[0].handler.handle(DECIDER, ID, command, cause())
            time = at("10:00")
            for _ in range(60):
                time += timedelta(seconds=random.choice([1, 5, 20, 200]))
                for service in services:
                    service.moment = time + timedelta(seconds=random.uniform(-100, 100))
                    if random.random() < 0.1:
                        service.forget()
                await asyncio.gather(*(service.tick() for service in services for _ in range(2)))
            services[0].moment = time
            await services[0].tick()
            events = [one.event for one in await store.read_stream(f"schedule-{ID}")]
            assert problems(events, time) == []
            assert sum(isinstance(event, DueFired) for event in events) > 60

    asyncio.run(scenario())
