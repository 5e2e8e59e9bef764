"""A real engine that lives as long as the session, on an event loop in a thread of its own."""

import asyncio
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from rgrid.pool.box_run import Run
from rgrid.pool.engines.engine import Ended, Job
from rgrid.pool.engines.local import LocalEngine
from rgrid.pool.sandbox import Level

T = TypeVar("T")
_names = itertools.count(1)
WAIT_S = 60
SECRET = "sk_live_not_for_scripts"
CHUNKS_KEPT_MAX = 2_000


class Ran(msgspec.Struct, kw_only=True):
    """A run that is over, with everything it printed in order of arrival."""

    ended: Ended
    chunks: list[tuple[str, bytes]]
    work: Path

    def of(self, stream: str) -> bytes:
        return b"".join(data for name, data in self.chunks if name == stream)

    @property
    def out(self) -> str:
        return self.of("stdout").decode(errors="replace")

    @property
    def err(self) -> str:
        return self.of("stderr").decode(errors="replace")


class Under(msgspec.Struct, kw_only=True):
    """A run under way."""

    run: Run
    chunks: list[tuple[str, bytes]]
    work: Path


class Boxes:
    """`warm` says whether Python scripts are copies of a warm interpreter or start cold."""

    def __init__(self, warm: bool, highest: Level = "bubblewrap", shown: Sequence[Path] = ()) -> None:
        self.warm = warm
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        # On a disk: files in memory count as the memory of the script that writes them.
        self.jobs = Path(tempfile.mkdtemp(prefix="rgrid-boxes-", dir="/var/tmp"))
        self.jobs.chmod(0o711)
        os.environ["BOXES_SECRET"] = SECRET
        self.engine = self.do(LocalEngine.open(self.jobs, warm=warm, highest=highest, shown=shown))

    def close(self) -> None:
        self.do(self.engine.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        shutil.rmtree(self.jobs)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(WAIT_S)

    async def begin(self, script: str | bytes, *, name: str = "script.py", **changes: Any) -> Under:
        folder = self.jobs / f"job-{next(_names)}"
        (folder / "work").mkdir(parents=True)
        (folder / "script").mkdir()
        path = folder / "script" / name
        path.write_bytes(script if isinstance(script, bytes) else script.encode())
        fields: dict[str, Any] = {
            "job_id": folder.name,
            "runtime": "python",
            "script_path": path,
            "args": [],
            "env": {},
            "work_dir": folder / "work",
            "timeout_s": 30.0,
            "cpu": 1.0,
            "memory_mb": 256,
            "network": False,
            "disk_quota_bytes": 64 << 20,
        }
        chunks: list[tuple[str, bytes]] = []

        def keep(stream: str, data: bytes) -> None:
            if len(chunks) < CHUNKS_KEPT_MAX:
                chunks.append((stream, data))

        run = await self.engine.start(Job(**(fields | changes)), keep)
        return Under(run=run, chunks=chunks, work=folder / "work")

    async def _through(self, script: str | bytes, **changes: Any) -> Ran:
        under = await self.begin(script, **changes)
        ended = await under.run.wait()
        return Ran(ended=ended, chunks=under.chunks, work=under.work)

    def run(self, script: str | bytes, **changes: Any) -> Ran:
        """Run it to its end."""
        return self.do(self._through(script, **changes))


async def printed(under: Under, text: bytes) -> None:
    """Wait until the script has printed this."""
    for _ in range(WAIT_S * 100):
        if text in b"".join(data for _, data in under.chunks):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{text!r} was not printed: {under.chunks}")
