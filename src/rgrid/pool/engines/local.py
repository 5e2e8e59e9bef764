"""The default engine: runs each job on this machine in a box of namespaces, or as a limited process where none can be
made."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final, Literal

from rgrid.kernel.clock import monotonic_ms
from rgrid.kernel.errors import Invalid, Unavailable
from rgrid.pool import box_disk, cgroups, interpreters, sandbox
from rgrid.pool.box_client import BoxClient, HostEnd, HostGone
from rgrid.pool.engines.engine import Ended, Job, OutputSink
from rgrid.pool.interpreters import Interpreter
from rgrid.pool.limits import Users, hand_over, rlimits
from rgrid.pool.sandbox import Level

_READ_BYTES: Final = 64 << 10
_DRAIN_READS_MAX: Final = 64
_GRACE_S: Final = 10.0
_WATCH_EVERY_S: Final = 0.25
_WATCH_SHARE: Final = 20
_PROBE_TIMEOUT_S: Final = 20.0
_ENV_PASSED_BY: Final = {"LANG": "C.UTF-8", "HOME": "/tmp", "TMPDIR": "/tmp"}  # noqa: S108 - the box's own /tmp

Why = Literal["exited", "timeout", "cancelled", "out_of_memory", "disk_quota", "runtime_unavailable", "internal"]


class LocalEngine:
    """`await LocalEngine.open(...)`. Every job's `work_dir` and `script_path` must lie below `jobs`."""

    def __init__(self, jobs: Path, found: list[Interpreter], groups: cgroups.Groups | None) -> None:
        self.runner_kind = "sandbox"
        self.level: Level = "rlimits"
        self.why_not: list[str] = []
        self.jobs = jobs
        self.interpreters = found
        self.groups = groups
        self.users = Users()
        self._folder = jobs / ".box"
        self._bubblewrap = sandbox.find_bubblewrap()
        self._host: BoxClient | None = None
        self._opening = asyncio.Lock()
        self._running: set[_Running] = set()

    @classmethod
    async def open(cls, jobs: Path, *, minimum: str | None = None) -> "LocalEngine":
        """Find the interpreters, probe the levels from the best one down; raises Unavailable when none of them reaches
        `minimum`."""
        jobs = Path(os.path.realpath(jobs))
        if minimum is not None and minimum not in sandbox.LEVELS:
            raise Invalid(f"unknown sandbox level {minimum}; there are {', '.join(sandbox.LEVELS)}")
        found, groups = await asyncio.gather(
            asyncio.to_thread(interpreters.discover, os.get_exec_path()), asyncio.to_thread(cgroups.probe)
        )
        engine = cls(jobs, found, groups)
        engine._prepare()
        for level in sandbox.LEVELS:
            if not sandbox.meets(level, minimum):
                break
            if await engine._reaches(level):
                return engine
        await engine.close()
        raise Unavailable(f"no sandbox of at least the level {minimum} can be made here: {'; '.join(engine.why_not)}")

    def _prepare(self) -> None:
        self.jobs.mkdir(parents=True, exist_ok=True)
        sandbox.write_etc(self._folder / "etc")
        sandbox.write_network(self._folder / "etc")
        for one in self.interpreters:
            if one.family == "python":
                interpreters.make_clean(one, self._folder)
        for folder in (self.jobs, self._folder):
            folder.chmod(folder.stat().st_mode & 0o7777 | 0o011)

    async def _reaches(self, level: Level) -> bool:
        """Run something through everything that a job goes through."""
        self.level = level
        self.runner_kind = "process" if level == "rlimits" else "sandbox"
        folder = self._folder / "probe"
        script = folder / "probe.sh"
        work = folder / "work"
        work.mkdir(parents=True, exist_ok=True)
        script.unlink(missing_ok=True)
        script.write_text("cd . && : > probed && rm probed\n")
        said = bytearray()
        job = Job(
            job_id=f"probe-{level}", runtime="bash", script_path=script, args=[], env={}, work_dir=work,
            timeout_s=_PROBE_TIMEOUT_S, cpu=1.0, memory_mb=256, network=False, disk_quota_bytes=1 << 20,
        )  # fmt: skip
        try:
            ended = await (await self.start(job, lambda _, data: said.extend(data))).wait()
        except Unavailable as error:
            self.why_not.append(f"{level}: {error.detail}")
            return False
        if ended.exit_code != 0:
            self.why_not.append(f"{level}: {said.decode(errors='replace').strip() or ended.error}")
        return ended.exit_code == 0

    def runtimes(self) -> list[str]:
        return [one.runtime for one in self.interpreters]

    async def start(self, job: Job, sink: OutputSink) -> "_Running":
        interpreter = interpreters.resolve(job.runtime, self.interpreters)
        running = _Running(self, job, sink)
        self._running.add(running)
        if interpreter is None:
            running.end_at_once("runtime_unavailable", f"{job.runtime} is not installed on this worker")
            return running
        try:
            await running.start(interpreter)
        except (HostGone, OSError) as error:
            await asyncio.to_thread(running.clean)
            running.end_at_once("internal", f"the box could not be made: {error}")
        return running

    async def host(self) -> BoxClient:
        """The living host; a new one when the last one died."""
        async with self._opening:
            if self._host is None or not self._host.alive:
                if self._host is not None:
                    await self._host.close()
                self._host = await BoxClient.open(self._host_command())
            return self._host

    def _host_command(self) -> list[str]:
        python, prefixes = sandbox.host_python()
        flags = ["-I", "-S", "-B"]
        if self.level == "rlimits":
            return [python, *flags, str(Path(sandbox.__file__).with_name("box_host.py")), "{fd}", ""]
        if self._bubblewrap is None:
            raise HostGone("bubblewrap is not installed")
        all_prefixes = dict.fromkeys([*prefixes, *(p for one in self.interpreters for p in one.prefixes)])
        options = sandbox.outer_options(
            self._bubblewrap, list(all_prefixes), self._folder, self.jobs, os.geteuid() == 0
        )
        program = f"{sandbox.INSIDE}/host/box_host.py"
        return [self._bubblewrap.program, *options, "--", python, *flags, program, "{fd}", self._bubblewrap.inside]

    async def close(self) -> None:
        for running in list(self._running):
            running.kill()
        if self._host is not None:
            await self._host.close()
        if self.groups is not None:
            self.groups.close()

    def forget(self, running: "_Running") -> None:
        self._running.discard(running)

    def message(self, job: Job, interpreter: Interpreter, uid: int | None) -> dict[str, Any]:
        """What the host needs to make the box of this job."""
        exact = self.groups is not None
        limits = rlimits(
            disk_quota_bytes=job.disk_quota_bytes,
            memory_mb=None if exact else job.memory_mb,
            family=interpreter.family,
            count_processes=not exact and uid is not None,
        )
        boxed = self.level != "rlimits"
        place = f"{sandbox.SCRIPTS}/{job.script_path.name}" if boxed else str(job.script_path)
        program = interpreters.program(interpreter, self._folder, boxed)
        env = {**_ENV_PASSED_BY, **interpreters.environment(interpreter, program), **job.env}
        argv = [program, place, *job.args]
        if not exact and uid is None and boxed:
            argv = ["/bin/sh", "-c", 'ulimit -u 256 2>/dev/null || ulimit -p 256; exec "$0" "$@"', *argv]
        common = {"uid": uid, "limits": limits, "argv": argv}
        if not boxed:
            env.update(HOME=str(job.work_dir), TMPDIR=str(job.work_dir))
            return {**common, "kind": "process", "env": env, "work_dir": str(job.work_dir)}
        if job.network:
            sandbox.write_network(self._folder / "etc")
        box = sandbox.Box(
            work_dir=job.work_dir, script=job.script_path, box_folder=self._folder, env=env, network=job.network,
            binds=interpreters.binds(interpreter, self._folder),
        )  # fmt: skip
        return {**common, "kind": "box", "options": sandbox.inner_options(box, self.level)}


class _Running:
    """One job from start to end."""

    def __init__(self, engine: LocalEngine, job: Job, sink: OutputSink) -> None:
        self._engine = engine
        self._job = job
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._started_ms = monotonic_ms()
        self._why: Why | None = None
        self._error: str | None = None
        self._readers: dict[int, Literal["stdout", "stderr"]] = {}
        self._timers: list[asyncio.TimerHandle] = []
        self._uid: int | None = None
        self._group: cgroups.Group | None = None
        self._host: BoxClient | None = None
        self._end: asyncio.Future[Ended] = self._loop.create_future()
        self._watching: asyncio.Task[None] | None = None
        self._finishing: asyncio.Task[None] | None = None

    async def start(self, interpreter: Interpreter) -> None:
        job, engine = self._job, self._engine
        self._host = await engine.host()
        self._uid = engine.users.take()
        await asyncio.to_thread(self._make_place)
        message = engine.message(job, interpreter, self._uid)
        entrances = self._group.entrances() if self._group is not None else []
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        out_r, out_w = os.pipe()
        err_r, err_w = os.pipe()
        self._started_ms = monotonic_ms()
        try:
            ended = await self._host.start(job.job_id, message, [null, out_w, err_w, *entrances])
        except BaseException:
            os.close(out_r)
            os.close(err_r)
            raise
        finally:
            for fd in (null, out_w, err_w, *entrances):
                os.close(fd)
        self._read(out_r, "stdout")
        self._read(err_r, "stderr")
        self._timers.append(self._loop.call_later(job.timeout_s, self._stop, "timeout", signal.SIGKILL))
        self._watching = asyncio.create_task(self._watch())
        self._finishing = asyncio.create_task(self._finish(ended))

    def _make_place(self) -> None:
        job, engine = self._job, self._engine
        for path in (job.work_dir, job.script_path):
            if not Path(os.path.realpath(path)).is_relative_to(engine.jobs):
                raise OSError(f"{path} is not below {engine.jobs}")
        hand_over(job.work_dir, job.script_path, engine.jobs, self._uid)
        if engine.groups is not None:
            self._group = engine.groups.make(job.job_id, memory_mb=job.memory_mb, cpu=job.cpu)

    async def wait(self) -> Ended:
        return await asyncio.shield(self._end)

    def cancel(self) -> None:
        if self._end.done() or self._why is not None:
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
        if self._host is not None and not self._end.done():
            self._host.signal(self._job.job_id, number)

    def _read(self, fd: int, stream: Literal["stdout", "stderr"]) -> None:
        os.set_blocking(fd, False)
        self._readers[fd] = stream
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

    async def _watch(self) -> None:
        """Disk and memory have limits that only the parent can enforce for the whole box."""
        pause_s = _WATCH_EVERY_S
        while True:
            await asyncio.sleep(pause_s)
            if self._group is not None and self._group.oom_kills():
                self._stop("out_of_memory", signal.SIGKILL)
                return
            before_ms = monotonic_ms()
            if await asyncio.to_thread(box_disk.exceeds, self._job.work_dir, self._job.disk_quota_bytes):
                self._stop("disk_quota", signal.SIGKILL)
                return
            # A folder that takes long to count is counted less often.
            pause_s = max(_WATCH_EVERY_S, (monotonic_ms() - before_ms) / 1_000 * _WATCH_SHARE)

    async def _finish(self, ended: "asyncio.Future[HostEnd]") -> None:
        try:
            end = await ended
        except HostGone as error:
            end = HostEnd(-signal.SIGKILL, True)
            self._why, self._error = self._why or "internal", error.detail
        assert self._watching is not None
        self._watching.cancel()
        for timer in self._timers:
            timer.cancel()
        for fd in list(self._readers):
            for _ in range(_DRAIN_READS_MAX):
                if not self._readable(fd):
                    break
            if fd in self._readers:
                self._close_reader(fd)
        duration_ms = monotonic_ms() - self._started_ms
        peak = self._group.memory_peak_bytes() if self._group is not None else None
        oom = self._group is not None and self._group.oom_kills() > 0
        await asyncio.to_thread(self.clean)
        self._end.set_result(self._ended(end, duration_ms, peak, oom))
        self._engine.forget(self)

    def _ended(self, end: HostEnd, duration_ms: int, peak: int | None, oom: bool) -> Ended:
        code: int | None = end.status if end.status >= 0 else 128 - end.status
        why: Why = self._why or "exited"
        error = self._error
        if why == "exited" and oom and code != 0:
            why = "out_of_memory"
        if why == "exited" and not end.ran:
            why, code, error = "internal", None, end.error or "the box could not be made"
        if why in ("timeout", "internal"):
            code = None
        if why == "out_of_memory":
            code = 128 + signal.SIGKILL
        metadata = {"sandbox_level": self._engine.level, "start": "cold"}
        if self._engine.runner_kind == "process" and not self._job.network:
            metadata["network"] = "not isolated"
        if self._engine.groups is None:
            metadata["memory"] = "address space limit"
            metadata["cpu"] = "not limited"
        return Ended(
            why=why, exit_code=code, duration_ms=duration_ms, memory_peak_bytes=peak, error=error, metadata=metadata
        )

    def end_at_once(self, why: Why, error: str) -> None:
        self._end.set_result(
            Ended(why=why, exit_code=None, duration_ms=0, memory_peak_bytes=None, error=error, metadata={})
        )
        self._engine.forget(self)

    def clean(self) -> None:
        """Blocking. Nothing of the run is left but its folder."""
        if self._group is not None:
            self._group.remove()
        self._engine.users.give_back(self._uid)
