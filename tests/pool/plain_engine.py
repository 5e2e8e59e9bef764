"""A real engine without isolation, for tests of the pool: a subprocess in its own session, killed as a group."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Literal

from rgrid.pool.engines.engine import Ended, Job, OutputSink

KILL_AFTER_S = 1.0
Why = Literal["exited", "timeout", "cancelled"]


class PlainRunning:
    def __init__(self, process: asyncio.subprocess.Process, job: Job, sink: OutputSink) -> None:
        self._process = process
        self._job = job
        self._sink = sink
        self._why: Why = "exited"
        self._started = time.monotonic()
        self._reading = asyncio.Event()
        self._reading.set()
        self.pauses = 0
        assert process.stdout is not None and process.stderr is not None
        self._readers = [
            asyncio.ensure_future(self._read("stdout", process.stdout)),
            asyncio.ensure_future(self._read("stderr", process.stderr)),
        ]
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(job.timeout_s, self._on_timeout)

    async def _read(self, stream: Literal["stdout", "stderr"], pipe: asyncio.StreamReader) -> None:
        while data := await pipe.read(65536):
            self._sink(stream, data)
            await self._reading.wait()

    async def wait(self) -> Ended:
        code = await self._process.wait()
        self._signal(signal.SIGKILL)
        await asyncio.gather(*self._readers)
        self._timer.cancel()
        exit_code = None if self._why == "timeout" else code if code >= 0 else 128 - code
        return Ended(
            why=self._why,
            exit_code=exit_code,
            duration_ms=int((time.monotonic() - self._started) * 1000),
            memory_peak_bytes=None,
            error=None,
            metadata={"engine": "plain"},
        )

    def cancel(self) -> None:
        self._why = "cancelled"
        self._signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(KILL_AFTER_S, self.kill)

    def kill(self) -> None:
        self.resume()
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        self.pauses += 1
        self._reading.clear()

    def resume(self) -> None:
        self._reading.set()

    def _on_timeout(self) -> None:
        self._why = "timeout"
        self.kill()

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass  # every process of the group is gone


class PlainEngine:
    runner_kind = "process"
    level = "none"

    def __init__(self) -> None:
        self.started: list[PlainRunning] = []
        self.jobs: list[Job] = []
        self.fault: Exception | None = None

    def runtimes(self) -> list[str]:
        return ["python:3.11"]

    def identity(self, runtime: str) -> str | None:
        return None

    async def start(self, job: Job, sink: OutputSink) -> PlainRunning:
        if self.fault is not None:
            raise self.fault
        self.jobs.append(job)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-ISu",
            str(Path(job.script_path)),
            *job.args,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=job.work_dir,
            env=job.env,
            start_new_session=True,
        )
        running = PlainRunning(process, job, sink)
        self.started.append(running)
        return running

    async def close(self) -> None:
        for running in self.started:
            running.kill()
