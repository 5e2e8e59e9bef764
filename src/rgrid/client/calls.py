"""Everything that one can ask of a service, written once: `Client` drives it with a blocking wire, `AsyncClient` awaits
it."""

import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, urljoin

import msgspec

from rgrid.client.answers import (
    Action,
    Artifact,
    CachedInputs,
    Cost,
    CostLimit,
    CostLimitAction,
    DownloadUrl,
    Estimate,
    EventRecord,
    Execution,
    ExecutionRow,
    Health,
    InputFile,
    Key,
    LogLine,
    Me,
    NewKey,
    Page,
    Runtime,
    Worker,
)
from rgrid.client.delivery import Delivery, Query, decoded
from rgrid.client.following import Followed, Follower
from rgrid.client.problems import BadTransfer, GridError, Refused
from rgrid.client.transfers import Progress, download, sha256_of, upload_all
from rgrid.kernel.converting import convert
from rgrid.kernel.input_hash import input_hash

T = TypeVar("T")
API: Final = "/api/v1"
PAGE_MAX: Final = 1000
PAGES_MAX: Final = 1_000_000
WAIT_FIRST_S: Final = 0.05
WAIT_LAST_S: Final = 2.0
WAITS_MAX: Final = 1_000_000


class Submission(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One script to run. Fields that are left alone take the service's defaults."""

    script_content: str
    name: str | None = None
    runtime: str | None = None
    args: list[str] = []
    env_vars: dict[str, str] = {}
    secret_env: dict[str, str] = {}
    timeout_seconds: int | None = None
    cpu: float | None = None
    memory_mb: int | None = None
    network: bool = False
    max_retries: int | None = None
    requirements_content: str | None = None
    user_metadata: dict[str, str] | None = None
    batch_id: str | None = None
    retry_on: list[str | int] | None = None
    queue_timeout_seconds: int | None = None
    priority: int = 0


class Declared(msgspec.Struct, frozen=True):
    """An input file as it is declared to the service."""

    name: str
    size_bytes: int
    sha256: str


def no_progress(_bytes: int) -> None:
    """Nobody watches."""


class Calls:
    """One service, one key. Every POST carries an Idempotency-Key that its repetitions keep."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.url = delivery.url
        self.key = delivery.key

    # ---------------------------------------------------------------- any resource

    async def document(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: object = None,
        headers: Mapping[str, str] | None = None,
        retry: bool = True,
    ) -> Any:
        """The JSON that the service answers, untouched; `path` comes after `/api/v1`."""
        call = self.delivery.call(method, API + path, query=query, body=body, headers=headers, retry=retry)
        return decoded(await call)

    async def pages(self, path: str, query: Mapping[str, object] | None = None) -> AsyncGenerator[dict[str, Any], None]:
        """Every page of a list, by cursor."""
        asked: dict[str, object] = dict(query or {})
        for _ in range(PAGES_MAX):
            page = await self.document("GET", path, query=asked)
            yield page
            if not page["pagination"]["has_more"] or not page["pagination"]["next_cursor"]:
                return
            asked["cursor"] = page["pagination"]["next_cursor"]
        raise GridError(f"{path} has more than {PAGES_MAX} pages.")

    async def _every(
        self, path: str, kind: type[T], query: Mapping[str, object] | None = None
    ) -> AsyncGenerator[T, None]:
        async for page in self.pages(path, {"limit": PAGE_MAX, **(query or {})}):
            for row in convert(page, Page[kind]).data:  # type: ignore[valid-type]
                yield row

    # ---------------------------------------------------------------- executions

    async def submit(
        self,
        submission: Submission,
        inputs: Mapping[str, Path] | None = None,
        progress: Progress = no_progress,
        on_created: Callable[[Execution], None] | None = None,
        *,
        use_cache: bool = True,
    ) -> Execution:
        """Creates an execution and brings its inputs (name: local file), so that it can start. With `use_cache` files
        that the service holds already, under the same names, are not sent again."""
        files = inputs or {}
        declared = [await self.delivery.wire.aside(partial(_declared, name, path)) for name, path in files.items()]
        body = msgspec.to_builtins(submission)
        if declared:
            body["input_files"] = declared
        execution = await self._created(body, await self._cached(declared) if use_cache else None)
        if on_created is not None:
            on_created(execution)
        if execution.upload_urls:
            await self._upload(execution.execution_id, execution.upload_urls, files, declared, progress)
            if use_cache:
                await self._remember(declared)
        return execution

    async def _created(self, body: dict[str, Any], references: dict[str, str] | None) -> Execution:
        if references is not None:
            try:
                cached = {**body, "cached_input_refs": references}
                return convert(await self.document("POST", "/executions", body=cached), Execution)
            except Refused as error:
                if error.code != "cache_reference_unknown":
                    raise
                # Its time ended between the look and the use.
        return convert(await self.document("POST", "/executions", body=body), Execution)

    async def _cached(self, declared: Sequence[Declared]) -> dict[str, str] | None:
        if not declared:
            return None
        wanted = input_hash((file.name, file.sha256) for file in declared)
        return convert(await self.document("GET", f"/input-cache/{wanted}"), CachedInputs).file_references

    async def _remember(self, declared: Sequence[Declared]) -> None:
        references = {file.name: f"objects/{file.sha256}" for file in declared}
        wanted = input_hash((file.name, file.sha256) for file in declared)
        # What can't be remembered is sent again next time; this run has all it needs.
        with contextlib.suppress(Refused):
            await self.document("POST", "/input-cache", body={"input_hash": wanted, "file_references": references})

    async def _upload(
        self,
        execution_id: str,
        urls: Mapping[str, str],
        files: Mapping[str, Path],
        declared: Sequence[Declared],
        progress: Progress,
    ) -> None:
        sizes = {each.name: each.size_bytes for each in declared}
        plan = {name: (urljoin(self.url, url), files[name], sizes[name]) for name, url in urls.items()}
        await upload_all(self.delivery, plan, progress, partial(self.fresh_address, execution_id))
        await self.document("POST", f"/executions/{execution_id}/inputs/complete")

    async def fresh_address(self, execution_id: str, name: str) -> str:
        """Where an input is to be uploaded to, once the address of before is over."""
        async for file in self.inputs(execution_id):
            if file.name == name and file.upload_url:
                return urljoin(self.url, file.upload_url)
        raise BadTransfer(f"The service gives no address to upload {name} to.")

    async def get(self, execution_id: str) -> Execution:
        return convert(await self.document("GET", f"/executions/{quote(execution_id, safe='')}"), Execution)

    def executions(
        self, /, *, metadata: Mapping[str, str] | None = None, **filters: object
    ) -> AsyncGenerator[ExecutionRow, None]:
        """All executions that match, newest first: status, batch_id, runtime, name, since, until …"""
        named = {f"metadata[{key}]": value for key, value in (metadata or {}).items()}
        return self._every("/executions", ExecutionRow, {**filters, **named})

    async def cancel(self, execution_id: str, reason: str | None = None) -> Action:
        body = {"reason": reason} if reason else None
        path = f"/executions/{quote(execution_id, safe='')}/cancel"
        return convert(await self.document("POST", path, body=body), Action)

    async def retry(self, execution_id: str) -> Execution:
        """A new execution of the same script with the same inputs."""
        path = f"/executions/{quote(execution_id, safe='')}/retry"
        return convert(await self.document("POST", path), Execution)

    async def wait(self, execution_id: str, timeout_s: float | None = None) -> Execution:
        """The execution once it is over; raises GridError after `timeout_s`."""
        started, pause_s = time.monotonic(), WAIT_FIRST_S
        for _ in range(WAITS_MAX):
            execution = await self.get(execution_id)
            if execution.is_over:
                return execution
            if timeout_s is not None and time.monotonic() - started > timeout_s:
                break
            await self.delivery.wire.sleep(pause_s)
            pause_s = min(pause_s * 1.5, WAIT_LAST_S)
        raise GridError(f"{execution_id} is still {execution.status}.")

    def inputs(self, execution_id: str) -> AsyncGenerator[InputFile, None]:
        return self._every(f"/executions/{quote(execution_id, safe='')}/inputs", InputFile)

    def events(self, execution_id: str) -> AsyncGenerator[EventRecord, None]:
        return self._every(f"/executions/{quote(execution_id, safe='')}/events", EventRecord)

    # ---------------------------------------------------------------- logs

    def logs(
        self, execution_id: str, *, after: int = -1, stream: str | None = None, attempt: int | None = None
    ) -> AsyncGenerator[LogLine, None]:
        """The stored lines with a sequence number above `after`, in order."""
        path = f"/executions/{quote(execution_id, safe='')}/logs"
        query = {"after": after, "stream": stream, "attempt": attempt}
        return self._every(path, LogLine, query)

    async def log_tail(self, execution_id: str, count: int, stream: str | None = None) -> list[LogLine]:
        """The last `count` lines (at most 1,000)."""
        path = f"/executions/{quote(execution_id, safe='')}/logs"
        query = {"tail": count, "stream": stream}
        return convert(await self.document("GET", path, query=query), Page[LogLine]).data

    def follow(self, execution_id: str, cursor: int = -1, stream: str | None = None) -> AsyncGenerator[Followed, None]:
        """Lines and changes of status as they come, to the end; survives restarts of the service."""
        return Follower(self, execution_id, cursor, stream).items()

    # ---------------------------------------------------------------- artifacts

    def artifacts(self, execution_id: str, artifact_type: str | None = None) -> AsyncGenerator[Artifact, None]:
        path = f"/executions/{quote(execution_id, safe='')}/artifacts"
        return self._every(path, Artifact, {"artifact_type": artifact_type})

    async def download(self, artifact: Artifact, folder: Path, progress: Progress = no_progress) -> Path:
        """One artifact into `folder`, checked; a file that is there stays, the new one is called `name_1`."""
        answer = await self.document("POST", "/artifacts/download-url", body={"artifact_id": artifact.artifact_id})
        signed = convert(answer, DownloadUrl)
        url = urljoin(self.url, signed.download_url)
        sha256 = signed.sha256 or artifact.sha256
        return await download(self.delivery, url, folder, artifact.filename, sha256, signed.size_bytes, progress)

    # ---------------------------------------------------------------- cost

    async def cost(self, /, **query: object) -> Cost:
        """What was spent: since, until (dates), group_by, metadata_key."""
        return convert(await self.cost_document(query), Cost)

    async def cost_document(self, query: Mapping[str, object]) -> Any:
        return await self.document("GET", "/cost", query=query)

    async def estimate(self, /, **query: object) -> Estimate:
        """What it would take: runtime, files, parallel, cpu, script_sha256."""
        return convert(await self.estimate_document(query), Estimate)

    async def estimate_document(self, query: Mapping[str, object]) -> Any:
        return await self.document("GET", "/estimate", query=query)

    async def cost_limit(self) -> CostLimit:
        return convert(await self.document("GET", "/cost/limit"), CostLimit)

    async def set_cost_limit(self, micros: int, alert_threshold_percent: int | None = None) -> CostLimitAction:
        """What a calendar month may cost, in micros of a euro."""
        body = {"monthly_limit_micros": micros}
        if alert_threshold_percent is not None:
            body["alert_threshold_percent"] = alert_threshold_percent
        return convert(await self.document("PUT", "/cost/limit", body=body), CostLimitAction)

    async def remove_cost_limit(self) -> CostLimitAction:
        return convert(await self.document("DELETE", "/cost/limit"), CostLimitAction)

    # ---------------------------------------------------------------- who, where, how

    async def me(self) -> Me:
        return convert(await self.document("GET", "/me"), Me)

    def keys(self) -> AsyncGenerator[Key, None]:
        return self._every("/keys", Key)

    async def create_key(
        self, name: str, scopes: Iterable[str], description: str | None = None, expires_at: str | None = None
    ) -> NewKey:
        body = {"name": name, "scopes": list(scopes), "description": description, "expires_at": expires_at}
        kept = {field: value for field, value in body.items() if value is not None}
        return convert(await self.document("POST", "/keys", body=kept), NewKey)

    async def rotate_key(self, key_id: str, grace_seconds: int | None = None) -> NewKey:
        body = None if grace_seconds is None else {"grace_seconds": grace_seconds}
        return convert(await self.document("POST", f"/keys/{quote(key_id, safe='')}/rotate", body=body), NewKey)

    async def revoke_key(self, key_id: str) -> Action:
        return convert(await self.document("DELETE", f"/keys/{quote(key_id, safe='')}"), Action)

    def workers(self, status: str | None = None) -> AsyncGenerator[Worker, None]:
        return self._every("/workers", Worker, {"status": status})

    def runtimes(self) -> AsyncGenerator[Runtime, None]:
        return self._every("/runtimes", Runtime)

    async def health(self) -> Health:
        return convert(await self.health_document(), Health)

    async def health_document(self) -> Any:
        """How the service is, also when it is down but still able to say so."""
        try:
            return await self.document("GET", "/health", retry=False)
        except Refused as error:
            if "health" not in error.members:
                raise
            return error.members["health"]


def _declared(name: str, path: Path) -> Declared:
    return Declared(name, path.stat().st_size, sha256_of(path))
