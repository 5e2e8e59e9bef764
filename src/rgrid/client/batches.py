"""Batches of one service: made with their inputs, watched, and acted upon.

with Client("http://127.0.0.1:8000", key) as grid:
    made = grid.batches.create(Submission(script_content=text), [Item(args=["a.csv"], files={"a.csv": path})])
    print(grid.batches.wait(made.batch_id).status)
"""

import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urljoin

import msgspec

from rgrid.client.answers import Action, Answer
from rgrid.client.blocking import Blocking, blocking, iterating
from rgrid.client.calls import PAGE_MAX, Calls, Submission, no_progress
from rgrid.client.problems import GridError
from rgrid.client.transfers import Progress, sha256_of, upload
from rgrid.kernel.converting import convert

BRINGERS_MAX: Final = 4
WAIT_FIRST_S: Final = 0.1
WAIT_LAST_S: Final = 1.0
WAITS_MAX: Final = 10_000_000
OVER: Final = frozenset({"completed", "partial", "failed", "cancelled"})


class Item(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one execution of a batch has of its own; `files` are its inputs (name: local file)."""

    name: str | None = None
    args: list[str] | None = None
    env_vars: dict[str, str] | None = None
    user_metadata: dict[str, str] | None = None
    files: dict[str, Path] = {}


class Made(Answer, frozen=True, kw_only=True):
    """One execution of a new batch."""

    index: int
    execution_id: str
    status: str
    upload_urls: dict[str, str] | None = None


class NewBatch(Answer, frozen=True, kw_only=True):
    batch_id: str
    total: int
    executions: list[Made]


class Counts(Answer, frozen=True, kw_only=True):
    awaiting_inputs: int
    queued: int
    running: int
    completed: int
    failed: int
    cancelled: int
    timed_out: int


class BatchRow(Answer, frozen=True, kw_only=True):
    """One line of the list."""

    batch_id: str
    status: str
    total: int
    counts: Counts
    created_at: datetime
    name: str | None = None
    max_parallel: int | None = None
    fail_fast: bool = False
    total_cost_micros: int = 0
    cost_display: str = ""
    user_metadata: dict[str, str] | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    created_by: str | None = None

    @property
    def is_over(self) -> bool:
        return self.status in OVER

    @property
    def ended(self) -> int:
        counts = self.counts
        return counts.completed + counts.failed + counts.cancelled + counts.timed_out


class Batch(BatchRow, frozen=True, kw_only=True):
    """One batch."""

    percent_complete: float
    eta_seconds: int | None = None
    finalized_cost_micros: int | None = None
    version: int = 0


class ItemMetadata(Answer, frozen=True, kw_only=True):
    input_file: str | None = None


class BatchExecution(Answer, frozen=True, kw_only=True):
    """One execution of a batch."""

    execution_id: str
    index: int
    status: str
    batch_metadata: ItemMetadata = ItemMetadata()
    exit_code: int | None = None
    failure_reason: str | None = None
    execution_error: str | None = None
    duration_seconds: float | None = None
    cost_micros: int = 0
    retry_of: str | None = None
    superseded_by: str | None = None


class Retried(Answer, frozen=True, kw_only=True):
    original_execution_id: str
    execution_id: str
    index: int


class _Retry(Answer, frozen=True, kw_only=True):
    retried: list[Retried]


class Batches:
    """`grid.batches`: what a client can do with batches, written once for both of them."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(
        self,
        submission: Submission,
        items: Sequence[Item],
        *,
        max_parallel: int | None = None,
        fail_fast: bool = False,
        failures_max: int | None = None,
        progress: Progress = no_progress,
        on_created: Callable[[NewBatch], None] | None = None,
    ) -> NewBatch:
        """Makes the batch in one request and brings the inputs of its items, a few items at a time."""
        assert submission.batch_id is None, "a batch makes its own id"
        known: dict[Path, dict[str, Any]] = {}
        body: dict[str, Any] = msgspec.to_builtins(submission)
        body["items"] = await self._calls.delivery.wire.aside(partial(_described, items, known))
        limits = {"max_parallel": max_parallel, "fail_fast": fail_fast or None, "failures_max": failures_max}
        body |= {name: value for name, value in limits.items() if value is not None}
        made = convert(await self._calls.document("POST", "/batches", body=body), NewBatch)
        if on_created is not None:
            on_created(made)
        await self._bring(made, items, known, progress)
        return made

    async def _bring(
        self, made: NewBatch, items: Sequence[Item], known: Mapping[Path, dict[str, Any]], progress: Progress
    ) -> None:
        calls, stop = self._calls, threading.Event()

        async def bring(one: Made) -> None:
            for name, url in (one.upload_urls or {}).items():
                path = items[one.index].files[name]
                place = urljoin(calls.url, url), path, known[path]["size_bytes"]
                once_more = partial(calls.fresh_address, one.execution_id, name)
                await upload(calls.delivery, place, progress, stop, once_more)
            await calls.document("POST", f"/executions/{one.execution_id}/inputs/complete")

        jobs = [partial(bring, one) for one in made.executions if one.upload_urls]
        await calls.delivery.wire.together(jobs, BRINGERS_MAX, stop)

    async def get(self, batch_id: str) -> Batch:
        return convert(await self._calls.document("GET", _path(batch_id)), Batch)

    async def list(self, /, **filters: object) -> AsyncGenerator[BatchRow, None]:
        """All batches that match, newest first: status, since, until."""
        async for page in self._calls.pages("/batches", {"limit": PAGE_MAX, **filters}):
            for row in convert(page["data"], list[BatchRow]):
                yield row

    async def executions(
        self, batch_id: str, *, status: str | None = None, include_superseded: bool = False
    ) -> AsyncGenerator[BatchExecution, None]:
        """Its executions, by index."""
        query = {"limit": PAGE_MAX, "status": status, "include_superseded": include_superseded}
        async for page in self._calls.pages(f"{_path(batch_id)}/executions", query):
            for row in convert(page["data"], list[BatchExecution]):
                yield row

    async def cancel(self, batch_id: str, reason: str | None = None) -> Action:
        body = {"reason": reason} if reason else None
        return convert(await self._calls.document("POST", f"{_path(batch_id)}/cancel", body=body), Action)

    async def retry(self, batch_id: str, *, failed_only: bool = True) -> Sequence[Retried]:
        """Runs what failed once more, in its place; with `failed_only=False` also what completed."""
        query = {"failed_only": failed_only}
        document = await self._calls.document("POST", f"{_path(batch_id)}/retry", query=query)
        return convert(document, _Retry).retried

    async def watch(self, batch_id: str) -> AsyncGenerator[Batch, None]:
        """The batch each time it changed, to its end."""
        seen = -1
        async with aclosing(self._looks(batch_id)) as looks:
            async for batch in looks:
                if batch.version != seen:
                    seen = batch.version
                    yield batch

    async def wait(self, batch_id: str, timeout_s: float | None = None) -> Batch:
        """The batch once it is over; raises GridError after `timeout_s`."""
        started = time.monotonic()
        async with aclosing(self._looks(batch_id)) as looks:
            async for batch in looks:
                if batch.is_over:
                    return batch
                if timeout_s is not None and time.monotonic() - started > timeout_s:
                    break
        raise GridError(f"{batch_id} is not over.")

    async def _looks(self, batch_id: str) -> AsyncGenerator[Batch, None]:
        """The batch now and again, to its end."""
        pause_s = WAIT_FIRST_S
        for _ in range(WAITS_MAX):
            batch = await self.get(batch_id)
            yield batch
            if batch.is_over:
                return
            await self._calls.delivery.wire.sleep(pause_s)
            pause_s = min(pause_s * 1.2, WAIT_LAST_S)
        raise GridError(f"{batch_id} is still not over.")


class BlockingBatches(Blocking[Batches]):
    """The same for plain programs. What each call does is written at `Batches`."""

    create = blocking(Batches.create)
    get = blocking(Batches.get)
    list = iterating(Batches.list)
    executions = iterating(Batches.executions)
    cancel = blocking(Batches.cancel)
    retry = blocking(Batches.retry)
    watch = iterating(Batches.watch)
    wait = blocking(Batches.wait)


def _described(items: Sequence[Item], known: dict[Path, dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """The items as they are sent; a file that many share is read once."""
    described = []
    for item in items:
        own = {name: getattr(item, name) for name in ("name", "args", "env_vars", "user_metadata")}
        body = {name: value for name, value in own.items() if value is not None}
        for path in item.files.values():
            if path not in known:
                known[path] = {"size_bytes": path.stat().st_size, "sha256": sha256_of(path)}
        if item.files:
            body["input_files"] = [{"name": name, **known[path]} for name, path in item.files.items()]
        described.append(body)
    return described


def _path(batch_id: str) -> str:
    return f"/batches/{quote(batch_id, safe='')}"
