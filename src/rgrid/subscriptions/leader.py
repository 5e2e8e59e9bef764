"""What a leader does with its subscriber: build the tables when they are missing or old, then stay live."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from rgrid.postgres.pool import Pool
from rgrid.subscriptions import checkpoints, rebuild
from rgrid.subscriptions.checkpoints import LIVE_SCHEMA, NEXT_SCHEMA, Checkpoint
from rgrid.subscriptions.leadership import Leadership
from rgrid.subscriptions.process import Process, Reactor
from rgrid.subscriptions.progress import Progress
from rgrid.subscriptions.projection import Projection
from rgrid.subscriptions.rebuild import Standing
from rgrid.subscriptions.subscription import IDLE_S, Halted, ProcessTaker, ProjectionTaker, Subscription
from rgrid.subscriptions.supervision import LeadershipLost
from rgrid.subscriptions.tail import Tail

log = logging.getLogger(__name__)

HALTED_PAUSE_S: Final = 30.0
LULL_S: Final = 0.1
"""Between two pages of a projection that is up to date and that nobody waits for: under load a few large transactions
take the place of many small ones. A process pauses for nothing, because what it commands is waited for."""
SUPERSEDED_PAUSE_S: Final = 5.0
BUILDS_AT_ONCE_MAX: Final = 2  # a swap reads the log on a second connection: never let builds alone empty the pool

Work = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Desk:
    """What the leaders of one process share."""

    pool: Pool
    tail: Tail
    leadership: Leadership
    progress: Progress
    live: dict[str, Subscription] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    wished: dict[str, asyncio.Event] = field(default_factory=dict)
    building: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BUILDS_AT_ONCE_MAX))


def lead_projection(desk: Desk, projection: Projection, key: str) -> Work:
    """The work of one leadership, for the supervisor to repeat."""
    wished = desk.wished[projection.name] = asyncio.Event()

    async def work() -> None:
        standing = await _standing(desk, projection)
        if standing is Standing.SUPERSEDED:
            await _stand_back(desk, projection)
            return
        if standing is Standing.TO_BUILD:
            desk.states[projection.name] = "building"
            async with desk.building:
                await _build(desk, projection, wished)
        if projection.inline:
            await _watch_inline(desk, projection, key, wished)
        else:
            subscription = Subscription(desk.pool, desk.tail, ProjectionTaker(projection), LIVE_SCHEMA, wished)
            await _live_on(desk, subscription, key, LULL_S)

    return _led(desk, projection.name, key, work)


def lead_process(desk: Desk, process: Process, reactor: Reactor, key: str) -> Work:
    """The same for a process, which has nothing to build."""
    wished = desk.wished[process.name] = asyncio.Event()

    async def work() -> None:
        head = await desk.tail.store.head()
        taker = ProcessTaker(process, reactor)
        if not await checkpoints.load(desk.pool, process.name):
            begin = Checkpoint(process.name, process.version, head if process.from_head else 0, True)
            await checkpoints.create(desk.pool, begin)
        else:
            # The leader before may have reacted to anything that is in the log by now.
            taker.repeated_to = head
        await _live_on(desk, Subscription(desk.pool, desk.tail, taker, LIVE_SCHEMA, wished), key)

    return _led(desk, process.name, key, work)


def _led(desk: Desk, name: str, key: str, work: Work) -> Work:
    async def lead() -> None:
        desk.states[name] = "following"
        await desk.leadership.wait(key)
        try:
            await work()
        except Halted as halted:
            desk.states[name] = "halted"
            log.error("%s stands still: %s", name, halted)
            await asyncio.sleep(HALTED_PAUSE_S)
        finally:
            desk.live.pop(name, None)

    return lead


async def _stand_back(desk: Desk, projection: Projection) -> None:
    log.warning("a newer version of %s is there; this program leaves it alone", projection.name)
    desk.states[projection.name] = "superseded"
    await asyncio.sleep(SUPERSEDED_PAUSE_S)


async def _standing(desk: Desk, projection: Projection) -> Standing:
    return rebuild.standing(projection, await checkpoints.load(desk.pool, projection.name))


async def _build(desk: Desk, projection: Projection, wished: asyncio.Event) -> None:
    fresh = await rebuild.begin(desk.pool, projection)
    subscription = Subscription(desk.pool, desk.tail, ProjectionTaker(projection), NEXT_SCHEMA, wished)
    await subscription.resume(fresh)
    await rebuild.build(subscription, projection)


async def _live_on(desk: Desk, subscription: Subscription, key: str, lull_s: float = 0.0) -> None:
    name = subscription.taker.name
    await subscription.resume(await _ready(desk, subscription))
    desk.live[name] = subscription
    desk.states[name] = "live"
    desk.progress.note(name, subscription.position)
    while desk.leadership.holds(key):
        if subscription.wished.is_set():
            await _ready(desk, subscription)
        if await subscription.step():
            desk.progress.note(name, subscription.position)
            if lull_s and subscription.position >= desk.tail.end:
                await desk.progress.lull(lull_s)


async def _ready(desk: Desk, subscription: Subscription) -> Checkpoint:
    """The live checkpoint; LeadershipLost when it was outdated by a wish for a rebuild, or by a newer version."""
    name, version = subscription.taker.name, subscription.taker.version
    for known in await checkpoints.load(desk.pool, name):
        if known.ready and known.version == version:
            return known
    raise LeadershipLost(f"{name} v{version} is not the live version")


async def _watch_inline(desk: Desk, projection: Projection, key: str, wished: asyncio.Event) -> None:
    """Its tables hold whatever is committed, so it has come as far as the log was read."""
    position = -1
    desk.states[projection.name] = "live"
    while desk.leadership.holds(key):
        if wished.is_set():
            wished.clear()
            if await _standing(desk, projection) is not Standing.LIVE:
                raise LeadershipLost(f"{projection.name} is to be built again")
        page = await desk.tail.after(position, frozenset(), IDLE_S)
        if page is not None:
            position = page.end
            desk.progress.note(projection.name, position)
