"""One attempt, from its assignment to the moment the service knows what came of it.

The service has the last word: every call carries the lease, and once it says that the lease is lost the attempt's
result counts for nothing. A result that came too late is still reported once, so that the refusal is on record.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, TypeVar, runtime_checkable

from rgrid.kernel.clock import now
from rgrid.kernel.errors import RgridError, TooLarge, Unavailable
from rgrid.pool.capture import SILENCE_S, Capture, CaptureLimits
from rgrid.pool.engines.engine import Ended, Engine, Running
from rgrid.pool.environments import Held
from rgrid.pool.inputs import disk_text, job_of, lay_out
from rgrid.pool.install_log import InstallLog
from rgrid.pool.installer import Installer, InstallFailed, Order
from rgrid.pool.masking import Masker
from rgrid.pool.outputs import Found, OutputLimits, collect, name_dropped
from rgrid.pool.persistence import persisted
from rgrid.pool.protocol import Assignment, LeaseLost, Outcome, StoredOutput, Stream, Work
from rgrid.pool.scratch import Folder, InputMissing, Seen, folder_of, remove_tree, verify
from rgrid.pool.shipper import Shipper
from rgrid.pool.tuning import PoolTuning
from rgrid.pool.verdict import (
    Verdict,
    dependency_install,
    ended_before_kill,
    hint_of,
    input_missing,
    internal,
    judge,
    not_started,
    worker_stopped,
)

UNFORESEEN_MAX: Final = 60
UNAVAILABLE_S_MAX: Final = 60.0  # for objects; a finished result waits as long as its lease lives
LATE_S: Final = 5.0  # how long a late attempt waits for the service to say that it is late
STORES_AT_ONCE_MAX: Final = 4
ERROR_CHARACTERS_MAX: Final = 4000

SETTLE_S: Final = 0.005

T = TypeVar("T")
_log = logging.getLogger(__name__)


@runtime_checkable
class Pausable(Protocol):
    """What a running job may offer: to stop reading its pipes for a while, so that only this script waits."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Attempt:
    """`run` is its task; `cancel`, `lose` and `halt` may be called at any time on the event loop. The scratch folder
    is gone when `run` returns. `box_gone` is called once, when this attempt needs no slot any more."""

    def __init__(
        self,
        assignment: Assignment,
        *,
        work: Work,
        engine: Engine,
        installer: Installer,
        shipper: Shipper,
        scratch: Path,
        tuning: PoolTuning,
        box_gone: Callable[[], None],
    ) -> None:
        self.assignment = assignment
        self.lease = assignment.lease
        self._work = work
        self._engine = engine
        self._installer = installer
        self._scratch = scratch
        self._tuning = tuning
        self._box_gone = box_gone
        self._outbox = shipper.open(self.lease, functools.partial(self.lose, said_by_service=True))
        self._capture = self._capture_from(assignment.next_sequence)
        self._masker = Masker(assignment.masked)
        self._lost = asyncio.Event()
        self._refused = False  # the service itself said that the lease is lost, so nothing of it can be accepted
        self._killed = False
        self._halted = False
        self._cancelled = False
        self._paused = False
        self._unforeseen = 0
        self._running: Running | None = None
        self._started_at: datetime | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._packages: Held | None = None
        self._notes: dict[str, str] = {}

    def cancel(self) -> None:
        """The user wants it to end: SIGTERM, then SIGKILL; before its start, it does not start."""
        if not self._cancelled:
            self._cancelled = True
            if self._running is not None:
                self._running.cancel()

    def lose(self, *, said_by_service: bool) -> None:
        """The lease is over: nobody waits for this attempt any more."""
        if said_by_service:
            self._refused = True
            self._outbox.abandon()
        if not self._lost.is_set():
            _log.warning("lease lost: %s attempt %d", self.lease.execution_id, self.lease.attempt)
            self._lost.set()
            asyncio.get_running_loop().call_later(LATE_S, self._outbox.abandon)
            self._kill()

    def halt(self) -> None:
        """The worker stops before the script ended: kill it and let the service give it to another worker."""
        self._halted = True
        self._kill()

    async def run(self) -> None:
        folder = folder_of(self._scratch, self.lease)
        try:
            outcome = await self._make(folder)
            if outcome is not None:
                await self._finish(outcome)
        finally:
            self._outbox.abandon()
            try:
                await asyncio.to_thread(remove_tree, folder.root)
            except OSError as error:
                _log.error("the folder %s could not be removed: %s", folder.root.name, error)

    async def _make(self, folder: Folder) -> Outcome | None:
        """The outcome, or None when there is none to report."""
        try:
            try:
                seen = await lay_out(folder, self.assignment, self._fetch, self._is_over)
                if self._is_over():
                    return None if self._lost.is_set() else self._unstarted()
                await self._install(folder)
                if self._is_over():
                    return None if self._lost.is_set() else self._unstarted()
                ended = await self._execute(folder)
            finally:
                self._box_gone()
                if self._packages is not None:
                    self._packages.release()
            if self._killed:
                own_end = ended_before_kill(ended)
                if own_end is None:
                    return None if self._lost.is_set() else self._outcome(worker_stopped(), ended=ended)
                ended = own_end
            return await self._conclude(folder, seen, ended)
        except InputMissing as error:
            return self._outcome(input_missing(str(error)))
        except InstallFailed as error:
            verdict = dependency_install(error.text, caused_by_network=error.caused_by_network)
            return self._unstarted() if self._is_over() else self._outcome(verdict)
        except LeaseLost:
            self.lose(said_by_service=True)
            return None
        except (OSError, Unavailable) as error:
            _log.error("%s could not be prepared: %s", self.lease.execution_id, error)
            return None if self._lost.is_set() else self._outcome(internal(disk_text(error, "The attempt failed")))
        except Exception as error:  # noqa: BLE001 - whatever goes wrong with one attempt, the others go on
            _log.exception("attempt %d of %s failed", self.lease.attempt, self.lease.execution_id)
            return self._outcome(internal(f"The worker failed: {type(error).__name__}."))

    def _is_over(self) -> bool:
        return self._lost.is_set() or self._cancelled or self._halted

    def _unstarted(self) -> Outcome:
        return self._outcome(not_started() if self._cancelled else worker_stopped())

    async def _fetch(self, sha256: str, target: Path) -> None:
        await self._persist(functools.partial(self._work.fetch_object, self.lease, sha256, target), UNAVAILABLE_S_MAX)

    # The packages of the script

    async def _install(self, folder: Folder) -> None:
        """Has the packages ready before the clock of the script starts."""
        wanted = self.assignment.requirements
        if wanted is None:
            return
        place = folder.root / "requirements"
        place.mkdir(mode=0o700)
        await self._fetch(wanted.sha256, place / wanted.name)
        verify(place, [wanted])
        masked = [*self.assignment.masked, *self._installer.masked]
        log = InstallLog(self.assignment.next_sequence, masked, self._outbox.add)
        order = Order(
            runtime=self.assignment.runtime,
            requirements=(place / wanted.name).read_text(),
            sink=log.hear,
            note=log.note,
            started=self._on_installer,
            is_over=self._is_over,
        )
        began = time.monotonic()
        try:
            self._packages = await self._installer.provide(order)
        finally:
            self._running = None
            self._capture = self._capture_from(log.close())
        if self._packages is not None:
            self._notes["packages"] = "installed" if self._packages.is_new else "reused"
            self._notes["packages_ms"] = str(round((time.monotonic() - began) * 1000))

    def _on_installer(self, running: Running) -> None:
        self._running = running
        if self._is_over():
            running.kill()

    def _capture_from(self, sequence: int) -> Capture:
        tuning = self._tuning
        limits = CaptureLimits(
            bytes_max=tuning.log_bytes_max, lines_max=tuning.log_lines_max, tail_bytes=tuning.log_tail_bytes
        )
        return Capture(next_sequence=sequence, masked=self.assignment.masked, limits=limits)

    # The script

    async def _execute(self, folder: Folder) -> Ended:
        self._started_at = now()
        packages = None if self._packages is None else self._packages.path
        job = job_of(folder, self.assignment, self._tuning.disk_quota_bytes, packages)
        self._running = running = await self._engine.start(job, self._sink)
        if self._lost.is_set() or self._halted:
            self._kill()
        elif self._cancelled:
            running.cancel()
        try:
            return await running.wait()
        finally:
            self._running = None
            if self._silence is not None:
                self._silence.cancel()
            self._outbox.add(self._capture.close())

    def _sink(self, stream: Stream, data: bytes) -> None:
        self._outbox.add(self._capture.feed(stream, data))
        if self._silence is None:
            self._wait_for_silence()
        if self._outbox.is_full and not self._paused and isinstance(self._running, Pausable):
            self._paused = True
            self._outbox.on_room = self._on_room
            self._running.pause()
            # While nobody reads it is not the script that is silent.
            if self._silence is not None:
                self._silence.cancel()
                self._silence = None

    def _on_room(self) -> None:
        if self._paused:
            self._paused = False
            if isinstance(self._running, Pausable):
                self._running.resume()
                self._wait_for_silence()

    def _wait_for_silence(self) -> None:
        if self._capture.waiting_since() is not None:
            self._silence = asyncio.get_running_loop().call_later(SILENCE_S, self._on_silence)

    def _on_silence(self) -> None:
        """If the loop was too busy to read, the rest of the line may be there: one more turn to read it."""
        self._silence = asyncio.get_running_loop().call_later(SETTLE_S, self._flush_silent)

    def _flush_silent(self) -> None:
        self._silence = None
        self._outbox.add(self._capture.flush_silent(time.monotonic() - SILENCE_S))
        waiting_since = self._capture.waiting_since()
        if waiting_since is not None:
            due_in_s = max(0.0, waiting_since + SILENCE_S - time.monotonic())
            self._silence = asyncio.get_running_loop().call_later(due_in_s, self._on_silence)

    def _kill(self) -> None:
        if self._running is not None:
            self._killed = True
            self._running.kill()

    # After the script

    async def _conclude(self, folder: Folder, seen: Mapping[str, Seen], ended: Ended) -> Outcome:
        verdict = judge(ended, self.assignment)
        limits = OutputLimits(files_max=self._tuning.output_files_max, bytes_max=self._tuning.output_bytes_max)
        collected = await asyncio.to_thread(collect, folder.work, seen, limits)
        notes: dict[str, str] = {}
        stored: list[StoredOutput] = []
        try:
            stored = await self._store(collected.files, collected.dropped)
        except LeaseLost:
            self.lose(said_by_service=True)  # goes on: the late result is reported, and refused
        except (OSError, RgridError) as error:
            text = disk_text(error, "The outputs could not be stored")
            _log.error("%s: %s", self.lease.execution_id, text)
            notes["outputs_error"] = text
            if verdict.end == "completed":
                verdict = internal(text)
        if collected.dropped:
            notes["outputs_dropped"] = name_dropped(collected.dropped)
        return self._outcome(verdict, ended=ended, outputs=stored, notes=notes)

    async def _store(self, files: list[Found], dropped: list[str]) -> list[StoredOutput]:
        """All of them or an error; a few at a time. What the service has no room for is named in `dropped`."""
        gate = asyncio.Semaphore(STORES_AT_ONCE_MAX)

        async def store(found: Found) -> StoredOutput | None:
            async with gate:
                put = functools.partial(self._work.store_output, self.lease, found.filename, found.path)
                try:
                    return await self._persist(put, UNAVAILABLE_S_MAX)
                except TooLarge:
                    dropped.append(found.filename)
                    return None

        tasks = [asyncio.ensure_future(store(found)) for found in files]
        try:
            return [one for one in await asyncio.gather(*tasks) if one is not None]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _outcome(
        self,
        verdict: Verdict,
        *,
        ended: Ended | None = None,
        outputs: list[StoredOutput] | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> Outcome:
        metadata = {} if ended is None else dict(ended.metadata)
        if ended is not None and ended.memory_peak_bytes is not None:
            metadata.setdefault("memory_peak_bytes", str(ended.memory_peak_bytes))
        metadata.update({**self._notes, **(notes or {})})
        mask = self._masker.mask
        return Outcome(
            end=verdict.end,
            exit_code=verdict.exit_code,
            failure_reason=verdict.failure_reason,
            error=None if verdict.error is None else mask(verdict.error)[:ERROR_CHARACTERS_MAX],
            hint=None if ended is None else hint_of(ended, self.assignment, list(self._capture.stderr_end)),
            duration_ms=0 if ended is None else ended.duration_ms,
            started_at=self._started_at,
            stdout_size_bytes=self._capture.size_bytes("stdout"),
            stderr_size_bytes=self._capture.size_bytes("stderr"),
            output_truncated=self._capture.truncated,
            outputs=outputs or [],
            metadata={name: mask(value) for name, value in metadata.items()},
            caused_by_network=verdict.caused_by_network,
        )

    # Telling the service

    async def _finish(self, outcome: Outcome) -> None:
        """Log lines first, then the result; tried until the service has it or the lease is over."""
        stored = await self._outbox.drained()
        if not stored and not self._refused:
            if self._lost.is_set():
                return  # the lines never arrived, so a result on top of them would lie
            outcome = self._outcome(internal("The log lines could not be stored."))
        try:
            await self._persist(functools.partial(self._send_result, outcome), float("inf"))
        except LeaseLost:
            _log.warning("late result refused: %s attempt %d", self.lease.execution_id, self.lease.attempt)
        except RgridError as error:
            # The lease runs out and the service gives the work to another worker.
            _log.error("result of %s was not taken: %s", self.lease.execution_id, error.detail)

    async def _send_result(self, outcome: Outcome) -> None:
        """A result is too dear to be dropped for a fault that nobody foresaw and that may pass."""
        try:
            await self._work.finish(self.lease, outcome)
        except RgridError:
            raise
        except Exception as fault:  # Logged, tried again, and given up with its cause.
            _log.exception("the result of %s did not get through", self.lease.execution_id)
            self._unforeseen += 1
            if self._unforeseen >= UNFORESEEN_MAX:
                raise RgridError("the service fails to take it") from fault
            raise Unavailable("the service fails to take it") from fault

    async def _persist(self, call: Callable[[], Awaitable[T]], wait_s_max: float) -> T:
        return await persisted(call, wait_s_max, self._lost, self.lease.execution_id)
