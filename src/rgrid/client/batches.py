"""Batches of one service: made with their inputs, watched, and acted upon.

with Client("http://127.0.0.1:8000", key) as grid:
    made = grid.batches.create(Submission(script_content=text), [Item(args=["a.csv"], files={"a.csv": path})])
    print(grid.batches.wait(made.batch_id).status)
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urljoin

import msgspec

from rgrid.client.answers import Action, Answer
from rgrid.client.problems import BadTransfer, GridError, Refused
from rgrid.client.transfers import Progress, sha256_of, upload

if TYPE_CHECKING:
    from rgrid.client.grid import Client, Submission

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


def no_progress(_bytes: int) -> None:
    """Nobody watches."""


class Batches:
    """`grid.batches`: what a client can do with batches."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def create(
        self,
        submission: "Submission",
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
        body["items"] = [_described(item, known) for item in items]
        limits = {"max_parallel": max_parallel, "fail_fast": fail_fast or None, "failures_max": failures_max}
        body |= {name: value for name, value in limits.items() if value is not None}
        made = msgspec.convert(self._client.document("POST", "/batches", body=body), NewBatch)
        if on_created is not None:
            on_created(made)
        self._bring(made, items, known, progress)
        return made

    def _bring(
        self, made: NewBatch, items: Sequence[Item], known: Mapping[Path, dict[str, Any]], progress: Progress
    ) -> None:
        waiting = [one for one in made.executions if one.upload_urls]
        if not waiting:
            return
        from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

        stop = threading.Event()

        def bring(one: Made) -> None:
            files = items[one.index].files
            for name, url in (one.upload_urls or {}).items():
                if stop.is_set():
                    return
                path = files[name]
                self._upload(one.execution_id, name, url, path, known[path]["size_bytes"], progress, stop)
            self._client.document("POST", f"/executions/{one.execution_id}/inputs/complete")

        pool = ThreadPoolExecutor(BRINGERS_MAX, thread_name_prefix="bring")
        try:
            done, _ = wait([pool.submit(bring, one) for one in waiting], return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _upload(
        self, execution_id: str, name: str, url: str, path: Path, size: int, progress: Progress, stop: threading.Event
    ) -> None:
        transport, base = self._client.transport, self._client.url
        try:
            upload(transport, urljoin(base, url), path, size, progress, stop)
        except Refused as error:
            if error.status not in (401, 403, 410):
                raise
            for file in self._client.inputs(execution_id):
                if file.name == name and file.upload_url:
                    upload(transport, urljoin(base, file.upload_url), path, size, progress, stop)
                    return
            raise BadTransfer(f"The service gives no address to upload {name} to.") from None

    def get(self, batch_id: str) -> Batch:
        return msgspec.convert(self._client.document("GET", _path(batch_id)), Batch)

    def list(self, **filters: object) -> Iterator[BatchRow]:
        """All batches that match, newest first: status, since, until."""
        for page in self._client.pages("/batches", {"limit": 1000, **filters}):
            yield from msgspec.convert(page["data"], list[BatchRow])

    def executions(
        self, batch_id: str, *, status: str | None = None, include_superseded: bool = False
    ) -> Iterator[BatchExecution]:
        """Its executions, by index."""
        query = {"limit": 1000, "status": status, "include_superseded": include_superseded}
        for page in self._client.pages(f"{_path(batch_id)}/executions", query):
            yield from msgspec.convert(page["data"], list[BatchExecution])

    def cancel(self, batch_id: str, reason: str | None = None) -> Action:
        body = {"reason": reason} if reason else None
        return msgspec.convert(self._client.document("POST", f"{_path(batch_id)}/cancel", body=body), Action)

    def retry(self, batch_id: str, *, failed_only: bool = True) -> Sequence[Retried]:
        """Runs what failed once more, in its place; with `failed_only=False` also what completed."""
        query = {"failed_only": failed_only}
        document = self._client.document("POST", f"{_path(batch_id)}/retry", query=query)
        return msgspec.convert(document, _Retry).retried

    def watch(self, batch_id: str) -> Iterator[Batch]:
        """The batch each time it changed, to its end."""
        pause_s, seen = WAIT_FIRST_S, -1
        for _ in range(WAITS_MAX):
            batch = self.get(batch_id)
            if batch.version != seen:
                seen = batch.version
                yield batch
            if batch.is_over:
                return
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.2, WAIT_LAST_S)
        raise GridError(f"{batch_id} is still not over.")

    def wait(self, batch_id: str, timeout_s: float | None = None) -> Batch:
        """The batch once it is over; raises GridError after `timeout_s`."""
        started = time.monotonic()
        for batch in self.watch(batch_id):
            if batch.is_over:
                return batch
            if timeout_s is not None and time.monotonic() - started > timeout_s:
                break
        raise GridError(f"{batch_id} is not over.")


def _described(item: Item, known: dict[Path, dict[str, Any]]) -> dict[str, Any]:
    """An item as it is sent; a file that many items share is read once."""
    own = {name: getattr(item, name) for name in ("name", "args", "env_vars", "user_metadata")}
    body = {name: value for name, value in own.items() if value is not None}
    if item.files:
        body["input_files"] = []
        for name, path in item.files.items():
            if path not in known:
                known[path] = {"size_bytes": path.stat().st_size, "sha256": sha256_of(path)}
            body["input_files"].append({"name": name, **known[path]})
    return body


def _path(batch_id: str) -> str:
    return f"/batches/{quote(batch_id, safe='')}"
