"""One job from start to end: its output, its limits that only the parent can enforce, and how it ended."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from rgrid.kernel.clock import monotonic_ms
from rgrid.pool import box_disk, cgroups
from rgrid.pool.box_client import BoxClient, HostEnd, HostGone
from rgrid.pool.engines.engine import Ended, Job, OutputSink

Stream = Literal["stdout", "stderr"]
Why = Literal["exited", "timeout", "cancelled", "out_of_memory", "disk_quota", "runtime_unavailable", "internal"]
_READ_BYTES: Final = 64 << 10
_DRAIN_READS_MAX: Final = 64
_GRACE_S: Final = 10.0
_WATCH_EVERY_S: Final = 0.25
_WATCH_SHARE: Final = 20


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One way to start a job: by which host, and what its child reads."""

    host: BoxClient
    kind: Literal["box", "warm", "process"]
    payload: dict[str, Any]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What was set aside for a run, and is given back after it."""

    uid: int | None
    group: cgroups.Group | None


Plans = list[Callable[[], Awaitable[Plan]]]


class Run:
    """A job under way. `start`, then `wait`; `done` is called once, when nothing of it is left."""

    def __init__(self, job: Job, sink: OutputSink, metadata: dict[str, str], done: Callable[["Run"], None]) -> None:
        self.place: Place | None = None
        self._job = job
        self._sink = sink
        self._metadata = metadata
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._started_ms = monotonic_ms()
        self._why: Why | None = None
        self._error: str | None = None
        self._readers: dict[int, Stream] = {}
        self._paused = False
        self._timers: list[asyncio.TimerHandle] = []
        self._host: BoxClient | None = None
        self._over: asyncio.Future[Ended] = self._loop.create_future()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, place: Place, plans: Plans) -> None:
        """Try the plans in turn: a box that cannot be made has run nothing of the script, so the next may try."""
        self.place = place
        self._started_ms = monotonic_ms()
        ended = await self._launch(await plans[0]())
        self._timers.append(self._loop.call_later(self._job.timeout_s, self._stop, "timeout", signal.SIGKILL))
        self._tasks = [self._loop.create_task(self._watch()), self._loop.create_task(self._finish(ended, plans[1:]))]

    async def _launch(self, plan: Plan) -> "asyncio.Future[HostEnd]":
        self._host = plan.host
        self._metadata["start"] = "warm" if plan.kind == "warm" else "cold"
        entrances = self.place.group.entrances() if self.place is not None and self.place.group is not None else []
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        out_r, out_w = os.pipe()
        err_r, err_w = os.pipe()
        try:
            ended = await plan.host.start(self._job.job_id, plan.kind, plan.payload, [null, out_w, err_w], entrances)
        except BaseException:
            os.close(out_r)
            os.close(err_r)
            raise
        finally:
            for fd in (null, out_w, err_w, *entrances):
                os.close(fd)
        self._read(out_r, "stdout")
        self._read(err_r, "stderr")
        if self._why is not None:
            self._signal(signal.SIGKILL)  # stopped while it started
        return ended

    async def wait(self) -> Ended:
        return await asyncio.shield(self._over)

    def cancel(self) -> None:
        if self._over.done() or self._why is not None:
            return
        self._stop("cancelled", signal.SIGTERM)
        self._timers.append(self._loop.call_later(_GRACE_S, self._signal, signal.SIGKILL))

    def kill(self) -> None:
        self._stop("cancelled", signal.SIGKILL)

    def _stop(self, why: Why, number: int) -> None:
        """The first reason to stop is the one that counts."""
        self._why = self._why or why
        self._signal(number)

    def _signal(self, number: int) -> None:
        if self._host is not None and not self._over.done():
            self._host.signal(self._job.job_id, number)

    def _read(self, fd: int, stream: Stream) -> None:
        os.set_blocking(fd, False)
        self._readers[fd] = stream
        if not self._paused:
            self._loop.add_reader(fd, self._readable, fd)

    def pause(self) -> None:
        """Read no output for now, so that the script waits when its pipes are full. Limits and kills go on."""
        self._paused = True
        for fd in self._readers:
            self._loop.remove_reader(fd)

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            for fd in self._readers:
                self._loop.add_reader(fd, self._readable, fd)

    def _readable(self, fd: int) -> bool:
        """One read per turn of the loop, so that a script that prints without end starves nobody."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._close_reader(fd)
            return False
        self._sink(self._readers[fd], data)
        return True

    def _close_reader(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        del self._readers[fd]
        os.close(fd)

    def _drain(self) -> None:
        """Nothing writes any more; what is left in the pipes is bounded by what a pipe holds."""
        for fd in list(self._readers):
            for _ in range(_DRAIN_READS_MAX):
                if not self._readable(fd):
                    break
            if fd in self._readers:
                self._close_reader(fd)

    async def _watch(self) -> None:
        pause_s = _WATCH_EVERY_S
        while True:
            await asyncio.sleep(pause_s)
            if self._oom():
                self._stop("out_of_memory", signal.SIGKILL)
                return
            before_ms = monotonic_ms()
            if await asyncio.to_thread(box_disk.exceeds, self._job.work_dir, self._job.disk_quota_bytes):
                self._stop("disk_quota", signal.SIGKILL)
                return
            # A folder that takes long to count is counted less often.
            pause_s = max(_WATCH_EVERY_S, (monotonic_ms() - before_ms) / 1_000 * _WATCH_SHARE)

    def _oom(self) -> bool:
        return self.place is not None and self.place.group is not None and self.place.group.oom_kills() > 0

    async def _finish(self, ended: "asyncio.Future[HostEnd]", plans: Plans) -> None:
        end = await self._hear(ended)
        for plan in plans:
            if end.ran or self._why is not None:
                break
            self._drain()
            try:
                end = await self._hear(await self._launch(await plan()))
            except (HostGone, OSError) as error:
                end = HostEnd(-signal.SIGKILL, False, f"the box could not be made: {error}")
        for task in self._tasks[:1]:
            task.cancel()
        for timer in self._timers:
            timer.cancel()
        self._drain()
        group = self.place.group if self.place is not None else None
        over = self._judge(end, monotonic_ms() - self._started_ms, group.memory_peak_bytes() if group else None)
        if group is not None and not group.remove(tries_max=1):
            await asyncio.to_thread(group.remove)
        self._done(self)
        self._over.set_result(over)

    async def _hear(self, ended: "asyncio.Future[HostEnd]") -> HostEnd:
        try:
            return await ended
        except HostGone as error:
            self._why = self._why or "internal"
            self._error = error.detail
            return HostEnd(-signal.SIGKILL, True)

    def _judge(self, end: HostEnd, duration_ms: int, peak: int | None) -> Ended:
        code: int | None = end.status if end.status >= 0 else 128 - end.status
        why: Why = self._why or "exited"
        error = self._error
        if why == "exited" and code != 0 and self._oom():
            why = "out_of_memory"
        if why == "exited" and not end.ran:
            why, error = "internal", end.error or "the box could not be made"
        if why in ("timeout", "internal"):
            code = None
        if why == "out_of_memory":
            code = 128 + signal.SIGKILL
        return Ended(
            why=why, exit_code=code, duration_ms=duration_ms, memory_peak_bytes=peak, error=error,
            metadata=self._metadata,
        )  # fmt: skip

    def end_at_once(self, why: Why, error: str) -> None:
        """It never ran."""
        if self.place is not None and self.place.group is not None:
            self.place.group.remove()
        self._over.set_result(
            Ended(why=why, exit_code=None, duration_ms=0, memory_peak_bytes=None, error=error, metadata=self._metadata)
        )
        self._done(self)


def within(path: Path, folder: Path) -> Path:
    """`path` without links, which must lie below `folder`: the box shows nothing else."""
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(folder):
        raise OSError(f"{path} is not below {folder}")
    return real
