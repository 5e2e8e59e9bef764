"""Puts the parts of one process together, starts them in order and stops them in reverse."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from projections import batches, log_blocks
from projections import objects as object_holders
from projections.all import ALL
from rgrid import catalogue
from rgrid.adapters.expressions import Evaluator
from rgrid.adapters.local_objects import LocalObjects
from rgrid.adapters.master_key import MasterKeys, master_keys
from rgrid.adapters.objects import ObjectStore
from rgrid.adapters.s3_addresses import bucket_of
from rgrid.adapters.s3_objects import S3Objects
from rgrid.adapters.secrets import Secrets
from rgrid.adapters.signing import Signer
from rgrid.api.grid import Grid
from rgrid.api.lease_tokens import LeaseTokens
from rgrid.api.runtimes import Runtimes
from rgrid.api.schedule_targets import ScheduleTargets
from rgrid.api.step_executions import neighbours
from rgrid.eventstore.append import Inline
from rgrid.eventstore.data_keys import DataKeys
from rgrid.eventstore.handle import Handler
from rgrid.eventstore.store import Store
from rgrid.eventstore.writer import GroupWriter
from rgrid.executions import uploads
from rgrid.executions.batch_process import Unfinished, batch_process
from rgrid.executions.following import LinesStored
from rgrid.executions.log_reader import LogReader
from rgrid.executions.quota import Quota
from rgrid.executions.spending import Spending
from rgrid.kernel.clock import Now, now
from rgrid.kernel.errors import Unavailable
from rgrid.kernel.messages import AnyRecorded
from rgrid.kernel.rates import RateTable
from rgrid.postgres.migrate import migrate
from rgrid.postgres.pool import connect, open_pool
from rgrid.schedules.firing import Firing
from rgrid.schedules.process import schedule_process
from rgrid.settings import BadSetting, Settings
from rgrid.subscriptions.daemon import Daemon
from rgrid.subscriptions.inline import apply_inline
from rgrid.workflows.driving import Driver
from rgrid.workflows.handlers import Handlers, installed
from rgrid.workflows.neighbours import Neighbours
from rgrid.workflows.process import run_process

FIRST_BUILD_MAX_S: Final = 600.0
CAUGHT_UP_MAX_S: Final = 1.0
CLOSE_MAX_S: Final = 5.0
DAEMON_CONNECTIONS: Final = 8
"""One holds the leadership, the others are shared by all subscribers: page by page, nobody keeps one."""
DAEMON_STATEMENTS: Final = 400
"""What any of those connections may have prepared: the statements of every read model."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs in every process: the grid that drivers stand on, the daemon behind it, what brings runs of workflows
    forward, and what lets schedules fire."""

    grid: Grid
    daemon: Daemon
    driver: Driver
    neighbours: Neighbours
    firing: Firing
    dsn: str


@asynccontextmanager
async def assembled(
    settings: Settings,
    dsn: str,
    *,
    projecting: bool = True,
    driving: bool = True,
    handlers: Handlers | None = None,
    clock: Now = now,
) -> AsyncIterator[Parts]:
    """Everything but the drivers. Without `projecting` (a worker of its own) the process only listens to the log, and
    leaves the read models and the runs to the service; without `driving` runs go on only by commands. `handlers` are
    those of the installed packages, `clock` is what decisions and schedules go by."""
    keys = master_keys(settings)
    await migrate(dsn)
    async with contextlib.AsyncExitStack() as stack:
        evaluator = Evaluator()
        stack.push_async_callback(evaluator.close)
        pool = await _opened(stack, open_pool(dsn))
        store = Store(pool, catalogue.codec())
        spending = Spending()
        within = _within_append(spending)
        writer = GroupWriter(lambda: connect(dsn, name="rgrid writer"), store.codec, store.committed, within)
        handler = Handler(store, writer, clock)
        daemon_pool = await _opened(
            stack,
            open_pool(dsn, name="rgrid daemon", connections_max=DAEMON_CONNECTIONS, statements_max=DAEMON_STATEMENTS),
        )
        lines_stored = LinesStored()
        objects = await _objects(stack, settings)
        handlers = handlers or installed()
        runs = neighbours(lambda: grid, objects, evaluator)
        driver = Driver(pool, lambda: connect(dsn, name="rgrid handlers"), handler, handlers, runs)
        targets = ScheduleTargets(lambda: grid)
        firing = Firing(handler, targets, clock)
        processes = [
            batch_process(handler, _unfinished(pool, lambda position: daemon.reached(position)), lines_stored),
            *([run_process(driver, runs)] if driving else []),
            schedule_process(firing, targets.triggered),
        ]
        daemon = Daemon(daemon_pool, store, ALL if projecting else (), processes if projecting else (), handler)
        made = _Made(pool, store, handler, daemon, spending, objects, handlers, evaluator, lines_stored)
        grid = await _grid(settings, keys, made)
        if projecting:
            await driver.start()
        await daemon.start()
        stack.push_async_callback(daemon.stop)
        if projecting:
            # Writing begins when the inline read models are there to be written with.
            await daemon.reached(0, [one.name for one in ALL if one.inline], FIRST_BUILD_MAX_S)
            await daemon.reached(await store.head(), timeout_s=FIRST_BUILD_MAX_S)
        await writer.start()
        stack.push_async_callback(writer.stop)
        if projecting:
            stack.push_async_callback(driver.close)
        yield Parts(grid, daemon, driver, runs, firing, dsn)


@dataclass(frozen=True, slots=True)
class _Made:
    """What a grid is put together of."""

    pool: asyncpg.Pool
    store: Store
    handler: Handler
    daemon: Daemon
    spending: Spending
    objects: ObjectStore
    handlers: Handlers
    evaluator: Evaluator
    lines_stored: LinesStored


async def _grid(settings: Settings, keys: MasterKeys, made: _Made) -> Grid:
    pool, store, objects, daemon = made.pool, made.store, made.objects, made.daemon
    data_keys = DataKeys(pool, keys)
    await data_keys.check()

    async def caught_up() -> None:
        with contextlib.suppress(Unavailable):
            await daemon.reached(store.committed.position, timeout_s=CAUGHT_UP_MAX_S)

    async def held_bytes() -> int:
        return await object_holders.held_bytes(pool) + await uploads.held_bytes(pool)

    return Grid(
        settings=settings,
        pool=pool,
        store=store,
        handler=made.handler,
        objects=objects,
        quota=Quota(settings.objects_quota_bytes, held_bytes),
        data_keys=data_keys,
        secrets=Secrets(settings),
        signer=Signer(keys.derived("signing")),
        lease_tokens=LeaseTokens(keys.derived("lease tokens")[0]),
        runtimes=Runtimes(pool),
        lines_stored=made.lines_stored,
        log_reader=LogReader(pool, objects, lambda execution_id: log_blocks.of(pool, execution_id)),
        caught_up=caught_up,
        rates=RateTable(settings.cost_rates, settings.rate_micros_per_vcpu_hour),
        spending=made.spending,
        reached=daemon.reached,
        handlers=made.handlers,
        evaluator=made.evaluator,
    )


async def _objects(stack: contextlib.AsyncExitStack, settings: Settings) -> ObjectStore:
    """The object store that the settings name: a bucket, or a folder."""
    if settings.objects_url is not None and settings.objects_url.startswith("s3://"):
        return await stack.enter_async_context(S3Objects(bucket_of(settings)))
    folder = LocalObjects(storage(settings) / "objects")
    stack.callback(folder.close)
    return folder


def storage(settings: Settings) -> Path:
    """The folder in which objects lie; all processes of an installation need the same one. Raises
    BadSetting for an address of anything but a folder or a bucket."""
    if settings.objects_url is None:
        return settings.data_dir
    path = settings.objects_url.removeprefix("file://")
    if not path.startswith("/"):
        problem = "must be a folder, written from the root on, or s3://bucket/prefix"
        raise BadSetting(f"RGRID_OBJECTS_URL {problem}.", fields=[("RGRID_OBJECTS_URL", problem)])
    return Path(path)


def _within_append(spending: Spending) -> Inline:
    """What an append does beside storing its events: it keeps the month within its limit and the queue up to date."""
    inline = [projection for projection in ALL if projection.inline]

    async def within(connection: asyncpg.Connection, recorded: Sequence[AnyRecorded]) -> None:
        await spending.count(connection, recorded)
        await apply_inline(connection, inline, recorded)

    return within


def _unfinished(pool: asyncpg.Pool, reached: Callable[[int], Awaitable[None]]) -> Unfinished:
    async def unfinished(batch_id: str, position: int) -> list[str]:
        await reached(position)
        return await batches.unfinished(pool, batch_id, position)

    return unfinished


async def _opened(stack: contextlib.AsyncExitStack, opening: Awaitable[asyncpg.Pool]) -> asyncpg.Pool:
    pool = await opening
    stack.push_async_callback(_close, pool)
    return pool


async def _close(pool: asyncpg.Pool) -> None:
    try:
        async with asyncio.timeout(CLOSE_MAX_S):
            await pool.close()
    except TimeoutError:
        pool.terminate()
