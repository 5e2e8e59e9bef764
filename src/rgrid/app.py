"""The composition root: settings become a database, the grid, and its drivers: HTTP, time and the runner pool."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from importlib.metadata import version
from typing import Any, Final, TypeVar, cast

import uvicorn
import uvloop

from projections import objects
from rgrid.access import tickets
from rgrid.access.bootstrap import ensure_admin_key
from rgrid.access.key_uses import WRITE_EVERY_S, KeyUses
from rgrid.api import condition, surface, workflow_folder
from rgrid.api.authenticate import Authenticator
from rgrid.api.grid import Grid
from rgrid.api.workflow_folder import WorkflowFolder
from rgrid.assembly import Parts, assembled
from rgrid.executions.process import note_usage
from rgrid.kernel.clock import now
from rgrid.kernel.errors import Unavailable
from rgrid.pool.engines.local import LocalEngine
from rgrid.pool.in_process import InProcessWork
from rgrid.pool.manned import MannedPool
from rgrid.pool.package_index import of_this_machine
from rgrid.postgres.embedded import EmbeddedPostgres, dsn_of_running
from rgrid.postgres.pool import GONE, connect
from rgrid.retention import Purged, Retention
from rgrid.runners.host import this_host
from rgrid.settings import Settings, load
from rgrid.ticker import CLEAN_EVERY_S, NOTE_EVERY_S, Chore, RunChores, ScheduleChores, Ticker
from rgrid.web import openapi
from rgrid.web.access_log import log_to_stderr
from rgrid.web.health import Health
from rgrid.web.idempotency import Idempotency
from rgrid.web.live import Sockets
from rgrid.web.metrics import Metrics
from rgrid.web.outage import Outage
from rgrid.web.rate_limit import RateLimiter
from rgrid.web.server import build
from rgrid.web.site import Site

log = logging.getLogger(__name__)

VERSION: Final = version("rgrid")
T = TypeVar("T")
OnReady = Callable[[str], None]
BACKLOG: Final = 2048
KEEP_ALIVE_S: Final = 75
LAST_WRITE_MAX_S: Final = 5.0
GC_THRESHOLD: Final = (50_000, 20, 100)
REACHED_MAX_S: Final = 60.0
FRAME_MAX_BYTES: Final = 64 * 1024


def serve(settings: Settings, on_ready: OnReady = lambda url: None) -> int:
    """Run everything until SIGTERM or SIGINT; the process' exit code. `on_ready` gets the service's URL as soon as
    readiness is 200. Call it from the main thread, before any event loop."""
    log_to_stderr(settings.log_level)
    if settings.database_url is not None:
        return _run(_serve(settings, settings.database_url, None, on_ready))
    # The server is a child that dies with the thread that made it: this one, which outlives the loop.
    embedded = EmbeddedPostgres(settings.data_dir, programs_dir=settings.postgres_bin)
    try:
        return _run(_serve(settings, embedded.start(), embedded, on_ready))
    finally:
        embedded.stop()


def work(settings: Settings) -> int:
    """Run a runner pool alone, on the database of a running service, until SIGTERM or SIGINT."""
    return _beside(settings, _work)


def tick(settings: Settings) -> int:
    """Let schedules fire, on the database of a running service, until SIGTERM or SIGINT."""
    return _beside(settings, _tick)


def _beside(settings: Settings, main: Callable[[Settings, str], Coroutine[Any, Any, int]]) -> int:
    log_to_stderr(settings.log_level)
    dsn = settings.database_url or dsn_of_running(settings.data_dir)
    if dsn is None:
        log.error("no service runs on %s; start one with `rgrid up`, or set RGRID_DATABASE_URL", settings.data_dir)
        return 1
    return _run(main(settings, dsn))


def purge(settings: Settings, *, orphans: bool) -> Purged:
    """Clean up on the database of an installation, whether its service runs or not. Raises Unavailable."""
    log_to_stderr(settings.log_level)
    dsn = settings.database_url or dsn_of_running(settings.data_dir)
    if dsn is not None:
        return _run(_purge(settings, dsn, orphans=orphans))
    embedded = EmbeddedPostgres(settings.data_dir, programs_dir=settings.postgres_bin)
    try:
        return _run(_purge(settings, embedded.start(), orphans=orphans))
    finally:
        embedded.stop()


async def _purge(settings: Settings, dsn: str, *, orphans: bool) -> Purged:
    async with assembled(settings, dsn) as parts:
        done = await _retention(parts).purge(orphans=orphans)
        await Idempotency(parts.grid.pool, now, settings.idempotency_ttl_s).purge()
        await tickets.purge(parts.grid.pool)
    return done


def openapi_document() -> dict[str, Any]:
    """The interface document; needs no database, because declaring an operation touches none."""
    from rgrid.web.docs import own_operations

    settings = load()
    grid = cast(Grid, _Unconnected(settings))
    declared = surface.operations(grid, cast(Authenticator, None))
    site = Site(version=VERSION, health=Health(VERSION, now))
    return openapi.document([*declared, *own_operations(declared, site)], VERSION)


class _Unconnected:
    """Stands where a grid would, for declarations only."""

    runtimes = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings


def _run(main: Coroutine[Any, Any, T]) -> T:
    # What is loaded by now stays for good, and events, states and calls hold no cycles: the collector has little to
    # find among many objects, so it looks seldom.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def _engine(settings: Settings) -> LocalEngine:
    folders = of_this_machine().folders
    jobs, minimum = settings.data_dir / "jobs", settings.min_sandbox
    return await LocalEngine.open(jobs, minimum=minimum, more=settings.runtimes, shown=folders)


async def _serve(settings: Settings, dsn: str, embedded: EmbeddedPostgres | None, on_ready: OnReady) -> int:
    stop = _stop_signal()
    listener = _listen(settings)
    host, port = listener.getsockname()[:2]
    engine_opening = asyncio.create_task(_engine(settings))
    async with contextlib.AsyncExitStack() as stack:
        ends = {asyncio.create_task(stop.wait(), name="stop")}
        if embedded is not None:
            ends.add(asyncio.create_task(embedded.watch(), name="postgres"))
        for end in ends:
            stack.push_async_callback(_cancelled, end)
        parts = await stack.enter_async_context(assembled(settings, dsn))
        engine = await engine_opening
        parts.grid.runtimes.found_here(engine.runtimes())
        if engine.why_not:
            log.warning("scripts run at the sandbox level %s: %s", engine.level, "; ".join(engine.why_not))
        service = _Service(parts, engine)
        await ensure_admin_key(parts.grid.handler, settings.bootstrap_key)
        server = service.server()
        serving = asyncio.create_task(server.serve([listener]), name="http")
        await service.start()
        await server.listening.wait()
        service.ready = True
        on_ready(f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}")  # noqa: S104 -- a comparison
        await asyncio.wait({serving, *ends}, return_when=asyncio.FIRST_COMPLETED)
        log.info("stopping")
        await service.stop()
        server.should_exit = True
        await serving
        # Without its database a service is worth nothing; whoever supervises it may have better luck.
        broken = [error for end in ends if end.done() and (error := end.exception()) is not None]
        for error in broken:
            log.error("%s", error)
    return 1 if broken else 0


async def _work(settings: Settings, dsn: str) -> int:
    stop = _stop_signal()
    engine = await _engine(settings)
    async with assembled(settings, dsn, projecting=False) as parts:
        pool = MannedPool(settings, dsn, _in_process(parts, Metrics()), engine)
        await asyncio.wait({pool.task, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
        await pool.stop(settings.drain_s)
    return 0


async def _tick(settings: Settings, dsn: str) -> int:
    stop = _stop_signal()
    async with assembled(settings, dsn, projecting=False) as parts:
        chores = ScheduleChores(parts.grid.pool, parts.firing, parts.grid.reached)
        ticker = _ticker(parts, chores.chores())
        ticker.start()
        log.info("schedules fire from here, too")
        await stop.wait()
        ticker.stop()
        await chores.settled()
    return 0


def _ticker(parts: Parts, more: Sequence[tuple[Chore, float]]) -> Ticker:
    grid = parts.grid
    return Ticker(
        pool=grid.pool,
        handler=grid.handler,
        settings=grid.settings,
        lines_stored=grid.lines_stored,
        host=this_host(),
        more=more,
    )


class _Service:
    """The drivers of a service process and the order in which they stop."""

    def __init__(self, parts: Parts, engine: LocalEngine) -> None:
        self.ready = False
        self._parts = parts
        self._engine = engine
        self._metrics = Metrics()
        self._sockets = Sockets()
        self._pool: MannedPool | None = None
        grid = parts.grid
        self._uses = KeyUses(grid.pool, now)
        self._authenticator = Authenticator(grid.pool, self._uses, grid.lease_tokens, now)
        self._outage = Outage(lambda: connect(parts.dsn, name="rgrid watch"))
        self._watching: asyncio.Task[None] | None = None
        self._idempotency = Idempotency(grid.pool, now, grid.settings.idempotency_ttl_s)
        folder = grid.settings.workflows
        self._folder = None if folder is None else WorkflowFolder(grid, folder)
        self._firing = ScheduleChores(grid.pool, parts.firing, grid.reached)
        self._ticker = _ticker(
            parts,
            [
                (self._idempotency.purge, CLEAN_EVERY_S),
                (lambda: tickets.purge(grid.pool), CLEAN_EVERY_S),
                (self._uses.write, WRITE_EVERY_S),
                (lambda: note_usage(grid.pool, grid.handler), NOTE_EVERY_S),
                *_retention(parts).chores(),
                *RunChores(grid.pool, parts.driver, parts.neighbours).chores(),
                *([] if self._folder is None else [(self._folder.look, workflow_folder.LOOK_EVERY_S)]),
                *(self._firing.chores() if grid.settings.scheduler else []),
            ],
        )

    def server(self) -> "_Server":
        grid, settings = self._parts.grid, self._parts.grid.settings
        checks = condition.checks(grid, self._parts.daemon, lambda: self.ready, lambda: self._engine.level)
        condition.gauge(self._metrics, grid, self._parts.daemon)

        async def reached(position: int) -> None:
            await self._parts.daemon.reached(position, timeout_s=settings.position_wait_s)

        site = Site(
            version=VERSION,
            authenticate=self._authenticator,
            limiter=RateLimiter(settings.rate_limit, settings.rate_burst),
            metrics=self._metrics,
            health=Health(VERSION, now, checks, lambda: condition.facts(grid, self._parts.daemon), lambda: self.ready),
            idempotency=self._idempotency,
            outage=self._outage,
            reached=reached,
            body_max_bytes=settings.body_max_bytes,
            cors_origins=frozenset(settings.cors_origins),
            metrics_open=settings.metrics_open,
        )
        return _Server(
            uvicorn.Config(
                build(
                    surface.operations(grid, self._authenticator),
                    site,
                    surface.websockets(grid, self._authenticator, self._sockets),
                ),
                loop="none",
                http="httptools",
                ws="websockets-sansio",
                ws_max_size=FRAME_MAX_BYTES,
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=settings.shutdown_grace_s,
            )
        )

    async def start(self) -> None:
        """Time first, so that what an earlier process left behind is noticed; then the workers."""
        grid = self._parts.grid
        self._watching = asyncio.create_task(self._outage.watch(), name="database watch")
        await self._ticker.reap()
        if self._folder is not None:
            await self._folder.look()
        self._ticker.start()
        if grid.settings.slots:
            self._pool = MannedPool(
                grid.settings, self._parts.dsn, _in_process(self._parts, self._metrics), self._engine
            )

    async def stop(self) -> None:
        self.ready = False
        if self._pool is not None:
            await self._pool.stop(self._parts.grid.settings.drain_s)
        else:
            await self._engine.close()
        self._ticker.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._firing.settled(), LAST_WRITE_MAX_S)
        await self._sockets.close_all()
        with contextlib.suppress(TimeoutError, *GONE):
            await asyncio.wait_for(self._uses.write(), LAST_WRITE_MAX_S)
        if self._watching is not None:
            await _cancelled(self._watching)


def _retention(parts: Parts) -> Retention:
    grid = parts.grid

    async def reached_head() -> None:
        await parts.daemon.reached(await grid.store.head(), timeout_s=REACHED_MAX_S)
        if any(lag.name == objects.PROJECTION.name and lag.dead_letters for lag in await parts.daemon.lag()):
            # A holder that could not be counted would lose its object.
            raise Unavailable("Dead letters wait in objects; nothing is removed before they are dealt with.")

    return Retention(
        pool=grid.pool,
        handler=grid.handler,
        settings=grid.settings,
        object_store=grid.objects,
        log_reader=grid.log_reader,
        reached_head=reached_head,
    )


def _in_process(parts: Parts, metrics: Metrics) -> InProcessWork:
    grid = parts.grid
    return InProcessWork(
        pool=grid.pool,
        store=grid.store,
        handler=grid.handler,
        objects=grid.objects,
        quota=grid.quota,
        data_keys=grid.data_keys,
        secrets=grid.secrets,
        settings=grid.settings,
        lines_stored=grid.lines_stored,
        metrics=metrics,
    )


class _Server(uvicorn.Server):
    """Signals are ours: a stop has an order, and HTTP comes last in it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _listen(settings: Settings) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((settings.host, settings.port))
    listener.setblocking(False)
    return listener


async def _cancelled(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
