"""The default engine: runs each job on this machine in a box of namespaces, or as a limited process where no box can
be made."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rgrid.kernel.errors import Invalid, Unavailable
from rgrid.pool import cgroups, interpreters, sandbox
from rgrid.pool.box_client import BoxClient, HostGone
from rgrid.pool.box_folder import BoxFolder
from rgrid.pool.box_run import Place, Plan, Run, within
from rgrid.pool.engines.engine import Job, OutputSink
from rgrid.pool.interpreters import Interpreter
from rgrid.pool.limits import PROCESSES_MAX, Users, hand_over, rlimits
from rgrid.pool.sandbox import Level
from rgrid.pool.warm import WarmHosts

_PROBE_TIMEOUT_S: Final = 20.0
_FLAGS: Final = ("-I", "-S", "-B")
_ENV: Final = {"LANG": "C.UTF-8", "HOME": "/tmp", "TMPDIR": "/tmp"}  # noqa: S108 - the box's own /tmp
# Without a control group or a user of its own, only a shell inside the box can count the box's processes alone.
_COUNTED: Final = f'ulimit -u {PROCESSES_MAX} 2>/dev/null || ulimit -p {PROCESSES_MAX}; exec "$0" "$@"'


class LocalEngine:
    """`await LocalEngine.open(...)`. Every job's `work_dir` and `script_path` must lie below `jobs`."""

    def __init__(
        self, jobs: Path, found: list[Interpreter], groups: cgroups.Groups | None, shown: Sequence[Path] = ()
    ) -> None:
        self.runner_kind = "sandbox"
        self.level: Level = "rlimits"
        self.warm: WarmHosts | None = None
        self.why_not: list[str] = []
        self.jobs = jobs
        self.interpreters = found
        self.groups = groups
        self._shown = [(str(folder), str(folder)) for folder in shown if folder.is_dir()]
        self._users = Users()
        self._own = BoxFolder(jobs)
        self.folder = self._own.path
        self._bubblewrap = sandbox.find_bubblewrap()
        self._host: BoxClient | None = None
        self._opening = asyncio.Lock()
        self._runs: set[Run] = set()

    @classmethod
    async def open(
        cls,
        jobs: Path,
        *,
        minimum: str | None = None,
        highest: Level = sandbox.LEVELS[0],
        warm: bool = True,
        more: Mapping[str, Sequence[str]] | None = None,
        shown: Sequence[Path] = (),
    ) -> "LocalEngine":
        """Find the interpreters and probe the levels from `highest` down; `why_not` says what was not reached. Raises
        Unavailable when none reaches `minimum`. `warm` lets Pythons start from a copy of a started one. `more` are
        runtimes by configuration, `shown` the folders of this machine that jobs may ask to be shown."""
        if minimum is not None and minimum not in sandbox.LEVELS:
            raise Invalid(f"unknown sandbox level {minimum}; there are {', '.join(sandbox.LEVELS)}")
        configured = interpreters.configured(more or {})
        jobs.mkdir(parents=True, exist_ok=True)
        found, groups = await asyncio.gather(
            asyncio.to_thread(interpreters.discover, os.get_exec_path()), asyncio.to_thread(cgroups.probe)
        )
        engine = cls(Path(os.path.realpath(jobs)), [*found, *configured], groups, shown)
        await asyncio.to_thread(engine._prepare)
        for level in sandbox.LEVELS[sandbox.LEVELS.index(highest) :]:
            if sandbox.meets(level, minimum) and await engine._reaches(level, "bash"):
                if warm and level == "bubblewrap":
                    await engine._warm_up()
                return engine
        await engine.close()
        raise Unavailable(f"no sandbox of level {minimum} can be made here: {'; '.join(engine.why_not)}")

    def _prepare(self) -> None:
        sandbox.write_etc(self.folder)
        for one in self.interpreters:
            if one.family == "python":
                interpreters.make_clean(one, self.folder)
        for folder in (self.jobs, self.folder):
            folder.chmod(folder.stat().st_mode & 0o7777 | 0o011)

    async def _warm_up(self) -> None:
        """Warm interpreters are used when the default one reaches the level that cold ones reach."""
        self.warm = WarmHosts(self._warm_command)
        default = interpreters.resolve("python", self.interpreters)
        if default is not None and not await self._reaches(self.level, default.runtime, only_warm=True):
            await self.warm.close()
            self.warm = None

    async def _reaches(self, level: Level, runtime: str, *, only_warm: bool = False) -> bool:
        """Run something through everything that a job goes through."""
        self.level = level
        if level == "rlimits" and self.runner_kind != "process":
            await self._without_boxes()
        work = self.folder / "probe" / "work"
        script = self.folder / "probe" / "script"
        work.mkdir(parents=True, exist_ok=True)
        script.unlink(missing_ok=True)
        script.write_text("import os\nos.close(0)\n" if only_warm else "cd . && : > probed && rm probed\n")
        said = bytearray()
        job = Job(
            job_id=f"probe-{level}-{only_warm}", runtime=runtime, script_path=script, args=[], env={}, work_dir=work,
            timeout_s=_PROBE_TIMEOUT_S, cpu=1.0, memory_mb=256, network=False, disk_quota_bytes=1 << 20,
        )  # fmt: skip
        ended = await (await self.start(job, lambda _, data: said.extend(data), only_warm=only_warm)).wait()
        reached = ended.exit_code == 0
        if not reached:
            words = ended.error or said.decode(errors="replace").strip() or f"exit {ended.exit_code}"
            self.why_not.append(f"{'warm start' if only_warm else level}: {words}")
        return reached

    async def _without_boxes(self) -> None:
        """Nothing can be shown to a plain process that its user cannot reach anyway."""
        self.runner_kind = "process"
        if self._users.available:
            search = interpreters.discover
            configured = [one for one in self.interpreters if one.family == "other"]
            found = await asyncio.to_thread(search, os.get_exec_path(), only_public=True)
            self.interpreters = [*found, *configured]
            await asyncio.to_thread(self._prepare)

    def runtimes(self) -> list[str]:
        return [one.runtime for one in self.interpreters]

    def identity(self, runtime: str) -> str | None:
        interpreter = interpreters.resolve(runtime, self.interpreters)
        return None if interpreter is None else interpreters.identity(interpreter)

    async def start(self, job: Job, sink: OutputSink, *, only_warm: bool = False) -> Run:
        interpreter = interpreters.resolve(job.runtime, self.interpreters)
        run = Run(job, sink, self._metadata(job), self._forget)
        self._runs.add(run)
        if interpreter is None:
            run.end_at_once("runtime_unavailable", f"{job.runtime} is not installed on this worker")
            return run
        run.place = Place(uid=self._users.keeper if job.kept else self._users.take(), group=None)
        try:
            place = await asyncio.to_thread(self._make_place, job, run.place.uid)
            plans: list[Callable[[], Awaitable[Plan]]] = [lambda: self._cold(job, interpreter, place)]
            is_plain = not job.shown and job.kept is None
            if is_plain and self.warm is not None and self.warm.suits(interpreter, job.env):
                plans.insert(0, lambda: self._copied(job, interpreter, place))
            await run.start(place, plans[:1] if only_warm else plans)
        except (HostGone, OSError) as error:
            run.end_at_once("internal", f"the box could not be made: {error}")
        return run

    def _metadata(self, job: Job) -> dict[str, str]:
        metadata: dict[str, str] = {"sandbox_level": self.level}
        if self.level == "rlimits" and not job.network:
            metadata["network"] = "not isolated"
        if self.groups is None:
            metadata.update(memory="limited by address space", cpu="not limited")
        return metadata

    def _make_place(self, job: Job, uid: int | None) -> Place:
        work, script = within(job.work_dir, self.jobs), within(job.script_path, self.jobs)
        hand_over(work, script, self.jobs, uid)
        if job.kept is not None and uid is not None:
            os.chown(within(job.kept, self.jobs), uid, uid)
        if job.network:
            sandbox.write_network(self.folder)
        if self.groups is None:
            return Place(uid=uid, group=None)
        return Place(
            uid=uid, group=self.groups.make(job.job_id.replace("/", "_"), memory_mb=job.memory_mb, cpu=job.cpu)
        )

    async def _copied(self, job: Job, interpreter: Interpreter, place: Place) -> Plan:
        """A copy of a warm interpreter, or a cold start where none can be had."""
        assert self.warm is not None
        host = await self.warm.host(interpreter)
        if host is None:
            return await self._cold(job, interpreter, place)
        payload = sandbox.warm_box(self._box(job, interpreter))
        payload.update(uid=place.uid, limits=self._limits(job, interpreter, place, True), args=job.args)
        payload["environment"] = interpreters.ENVIRONMENT if job.environment is not None else None
        return Plan(host=host, kind="warm", payload=payload)

    async def _cold(self, job: Job, interpreter: Interpreter, place: Place) -> Plan:
        boxed = self.level != "rlimits"
        box = self._box(job, interpreter)
        argv = [interpreters.program(interpreter, self.folder, boxed, job.environment), *interpreter.arguments]
        argv += [box.script_inside if boxed else str(job.script_path), *job.args]
        payload: dict[str, Any] = {"uid": place.uid, "limits": self._limits(job, interpreter, place, False)}
        if not boxed:
            payload.update(argv=argv, env=box.env, work_dir=str(job.work_dir))
            return Plan(host=await self._cold_host(), kind="process", payload=payload)
        if place.group is None and place.uid is None:
            argv = ["/bin/sh", "-c", _COUNTED, *argv]
        payload.update(argv=argv, options=sandbox.inner_options(box, self.level))
        return Plan(host=await self._cold_host(), kind="box", payload=payload)

    def _box(self, job: Job, interpreter: Interpreter) -> sandbox.Box:
        program = interpreters.program(interpreter, self.folder, self.level != "rlimits", job.environment)
        shown = tuple((str(folder), str(folder)) for folder in job.shown)
        return sandbox.Box(
            work_dir=within(job.work_dir, self.jobs), script=within(job.script_path, self.jobs), kept=job.kept,
            box_folder=self.folder, network=job.network,
            binds=(*interpreters.binds(interpreter, self.folder, job.environment), *shown),
            env={**_ENV, **interpreters.environment(interpreter, program), **job.env},
        )  # fmt: skip

    def _limits(self, job: Job, interpreter: Interpreter, place: Place, warm: bool) -> dict[str, int]:
        return rlimits(
            disk_quota_bytes=job.disk_quota_bytes,
            memory_mb=None if place.group is not None else job.memory_mb,
            family=interpreter.family,
            count_processes=place.group is None and (warm or place.uid is not None),
        )

    async def _cold_host(self) -> BoxClient:
        """The living host; a new one when the last one died."""
        async with self._opening:
            if self._host is None or not self._host.alive:
                if self._host is not None:
                    await self._host.close()
                self._host = await BoxClient.open(self._cold_command())
            return self._host

    def _cold_command(self) -> list[str]:
        python, prefixes = sandbox.host_python()
        if self.level == "rlimits":
            return [python, *_FLAGS, str(Path(sandbox.__file__).with_name("box_host.py")), "{fd}", ""]
        return self._in_outer_box([python, *_FLAGS], [(prefix, prefix) for prefix in prefixes], {})

    def _warm_command(self, interpreter: Interpreter) -> list[str]:
        """Started as a script's own interpreter would be, so that its flags and paths are the same."""
        program = interpreters.program(interpreter, self.folder, True)
        env = {**_ENV, **interpreters.environment(interpreter, program)}
        return self._in_outer_box([program], [], env)

    def _in_outer_box(self, python: list[str], binds: list[tuple[str, str]], env: dict[str, str]) -> list[str]:
        if self._bubblewrap is None:
            raise HostGone("bubblewrap is not installed")
        shown = dict.fromkeys([*binds, *self._shown])
        for one in self.interpreters:
            shown.update(dict.fromkeys(interpreters.binds(one, self.folder)))
        options = sandbox.outer_options(self._bubblewrap, list(shown), self.folder, self.jobs, os.geteuid() == 0)
        for name, value in env.items():
            options += ["--setenv", name, value]
        host = f"{sandbox.INSIDE}/host/box_host.py"
        return [self._bubblewrap.program, *options, "--", *python, host, "{fd}", self._bubblewrap.inside]

    def _forget(self, run: Run) -> None:
        self._runs.discard(run)
        if run.place is not None:
            self._users.give_back(run.place.uid)

    async def close(self) -> None:
        """Kill what runs, wait for it, end the hosts."""
        runs = list(self._runs)
        for run in runs:
            run.kill()
        await asyncio.gather(*(run.wait() for run in runs))
        if self.warm is not None:
            await self.warm.close()
        if self._host is not None:
            await self._host.close()
        if self.groups is not None:
            self.groups.close()
        await asyncio.to_thread(self._own.remove)
