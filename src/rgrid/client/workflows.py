"""Workflows of one service: defined, triggered, watched, and acted upon.

with Client("http://127.0.0.1:8000", key) as grid:
    grid.workflows.apply(Flow("hello").execution("greet", script="print('hello')"))
    run = grid.workflows.trigger("hello")
    print(grid.workflows.wait(run.run_id).status)
"""

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from rgrid.client.answers import Action, EventRecord, Page
from rgrid.client.blocking import Blocking, blocking, iterating
from rgrid.client.calls import PAGE_MAX, Calls, Submission
from rgrid.client.flow import Flow
from rgrid.client.problems import GridError
from rgrid.client.transfers import sha256_of
from rgrid.client.workflow_answers import (
    Applied,
    Bulk,
    Graph,
    RetryPlan,
    Run,
    RunLine,
    RunRow,
    Step,
    Triggered,
    Validation,
    Workflow,
    WorkflowRow,
)
from rgrid.kernel.converting import convert

RUNS_PAGE_MAX: Final = 100
WAIT_FIRST_S: Final = 0.05
WAIT_LAST_S: Final = 1.0
WAITS_MAX: Final = 10_000_000

Written = Flow | Mapping[str, Any]


class Workflows:
    """`grid.workflows`: what a client can do with workflows and their runs, written once for both clients."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    # ---------------------------------------------------------------- definitions

    async def apply(self, document: Written) -> Applied:
        """Makes this the newest version, unless it is so already."""
        body = _body(document)
        answer = await self._calls.document("PUT", definition_path(str(body.get("name", ""))), body=body)
        return convert(answer, Applied)

    async def validate(self, document: Written) -> Validation:
        """Everything that is wrong with it; nothing is kept."""
        answer = await self._calls.document("POST", "/workflows/definitions/validate", body=_body(document))
        return convert(answer, Validation)

    async def list(self, /, **filters: object) -> AsyncGenerator[WorkflowRow, None]:
        """All definitions that match, by name: domain, tag, is_active."""
        async for page in self._calls.pages("/workflows/definitions", {"limit": PAGE_MAX, **filters}):
            for row in convert(page["data"], list[WorkflowRow]):
                yield row

    async def get(self, name: str, version: int | None = None) -> Workflow:
        """The newest version, or an older one."""
        return convert(await self._calls.document("GET", definition_path(name), query={"version": version}), Workflow)

    async def delete(self, name: str) -> Action:
        """Takes it out of lists and triggers; its runs and versions stay."""
        return convert(await self._calls.document("DELETE", definition_path(name)), Action)

    # ---------------------------------------------------------------- runs

    async def trigger(
        self,
        name: str,
        params: Mapping[str, Any] | None = None,
        *,
        partition_key: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        version: int | None = None,
    ) -> Triggered:
        """Begins a run. Triggered again with the same idempotency key, it is the same run."""
        body: dict[str, Any] = {"params": dict(params or {})}
        if partition_key is not None:
            body["partition_key"] = dict(partition_key)
        if dry_run:
            body["dry_run"] = True
        if version is not None:
            body["version"] = version
        path = f"/workflows/trigger/{quote(name, safe='')}"
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else None
        return convert(await self._calls.document("POST", path, body=body, headers=headers), Triggered)

    async def runs(self, /, **filters: object) -> AsyncGenerator[RunRow, None]:
        """All runs that match, newest first: workflow_name, status, domain, trigger, triggered_by, parent_run_id,
        schedule_id, since, until."""
        async for page in self._calls.pages("/workflows/runs", {"limit": RUNS_PAGE_MAX, **filters}):
            for row in convert(page["data"], list[RunRow]):
                yield row

    async def run(self, run_id: str) -> Run:
        """One run with every try of its steps."""
        return convert(await self._calls.document("GET", run_path(run_id)), Run)

    async def steps(self, run_id: str, status: str | None = None) -> AsyncGenerator[Step, None]:
        """Every try of its steps, in the order of the document."""
        query = {"limit": PAGE_MAX, "status": status}
        async for page in self._calls.pages(f"{run_path(run_id)}/steps", query):
            for row in convert(page["data"], list[Step]):
                yield row

    async def events(self, run_id: str) -> AsyncGenerator[EventRecord, None]:
        async for page in self._calls.pages(f"{run_path(run_id)}/events", {"limit": PAGE_MAX}):
            for event in convert(page, Page[EventRecord]).data:
                yield event

    async def graph(self, run_id: str) -> Graph:
        """Its steps with their states, and what depends on what."""
        return convert(await self._calls.document("GET", f"{run_path(run_id)}/graph"), Graph)

    async def logs(
        self, run_id: str, step: str | None = None, *, include_children: bool = True
    ) -> AsyncGenerator[RunLine, None]:
        """What the scripts of its steps have printed so far, of one step or of all."""
        query = {"limit": PAGE_MAX, "step": step, "include_children": include_children}
        async for page in self._calls.pages(f"{run_path(run_id)}/logs", query):
            for line in convert(page["data"], list[RunLine]):
                yield line

    async def cancel(self, run_id: str, reason: str | None = None, *, force: bool = False) -> Action:
        """Stops it; with `force` what runs gets no time to end by itself."""
        body: dict[str, Any] = {"reason": reason} if reason else {}
        if force:
            body["force"] = True
        answer = await self._calls.document("POST", f"{run_path(run_id)}/cancel", body=body or None)
        return convert(answer, Action)

    async def cancel_many(self, /, *, dry_run: bool = False, **filters: object) -> Bulk:
        """Stops every run that matches; the filters are those of `runs`."""
        query = {**filters, "dry_run": dry_run}
        return convert(await self._calls.document("POST", "/workflows/runs/bulk-cancel", query=query), Bulk)

    async def retry(self, run_id: str, from_step: str | None = None) -> Triggered:
        """A new run from a step on, the first that failed if none is named; what came before keeps its outputs."""
        query = {"from_step": from_step}
        return convert(await self._calls.document("POST", f"{run_path(run_id)}/retry", query=query), Triggered)

    async def retry_many(self, /, *, dry_run: bool = False, **filters: object) -> Bulk:
        """Retries every run that matches, each from the first step that failed; the filters are those of `runs`."""
        query = {**filters, "dry_run": dry_run}
        return convert(await self._calls.document("POST", "/workflows/runs/bulk-retry", query=query), Bulk)

    async def plan(self, run_id: str, from_step: str | None = None) -> RetryPlan:
        """What `retry` would do; nothing begins."""
        query = {"from_step": from_step, "plan": True}
        return convert(await self._calls.document("POST", f"{run_path(run_id)}/retry", query=query), RetryPlan)

    async def pause(self, run_id: str, note: str | None = None) -> Action:
        """Lets nothing new start; what runs goes on."""
        body = {"note": note} if note else None
        return convert(await self._calls.document("POST", f"{run_path(run_id)}/pause", body=body), Action)

    async def resume(self, run_id: str) -> Action:
        return convert(await self._calls.document("POST", f"{run_path(run_id)}/resume"), Action)

    async def signal(self, run_id: str, name: str, payload: Mapping[str, Any] | None = None) -> Action:
        """Tells a run of what one of its WAITs waits for, now or later."""
        path = f"{run_path(run_id)}/signals/{quote(name, safe='')}"
        return convert(await self._calls.document("POST", path, body={"payload": dict(payload or {})}), Action)

    async def watch(self, run_id: str) -> AsyncGenerator[Run, None]:
        """The run each time it changed, to its end."""
        seen = -1
        async with aclosing(self._looks(run_id)) as looks:
            async for run in looks:
                if run.version != seen:
                    seen = run.version
                    yield run

    async def wait(self, run_id: str, timeout_s: float | None = None) -> Run:
        """The run once it is over; raises GridError after `timeout_s`."""
        started = time.monotonic()
        async with aclosing(self._looks(run_id)) as looks:
            async for run in looks:
                if run.is_over:
                    return run
                if timeout_s is not None and time.monotonic() - started > timeout_s:
                    break
        raise GridError(f"{run_id} is not over.")

    async def _looks(self, run_id: str) -> AsyncGenerator[Run, None]:
        pause_s = WAIT_FIRST_S
        for _ in range(WAITS_MAX):
            run = await self.run(run_id)
            yield run
            if run.is_over:
                return
            await self._calls.delivery.wire.sleep(pause_s)
            pause_s = min(pause_s * 1.2, WAIT_LAST_S)
        raise GridError(f"{run_id} is still not over.")

    # ---------------------------------------------------------------- files

    async def keep(self, path: Path, name: str | None = None) -> str:
        """Brings a file to the service and gives the reference by which steps take it (`cached_input_refs`)."""
        called = name or path.name
        script = f"print({f'{called} is kept'!r})"
        await self._calls.submit(Submission(script_content=script, name=f"keep {called}"[:200]), {called: path})
        return reference(await self._calls.delivery.wire.aside(lambda: sha256_of(path)))


class BlockingWorkflows(Blocking[Workflows]):
    """The same for plain programs. What each call does is written at `Workflows`."""

    apply = blocking(Workflows.apply)
    validate = blocking(Workflows.validate)
    list = iterating(Workflows.list)
    get = blocking(Workflows.get)
    delete = blocking(Workflows.delete)
    trigger = blocking(Workflows.trigger)
    runs = iterating(Workflows.runs)
    run = blocking(Workflows.run)
    steps = iterating(Workflows.steps)
    events = iterating(Workflows.events)
    graph = blocking(Workflows.graph)
    logs = iterating(Workflows.logs)
    cancel = blocking(Workflows.cancel)
    cancel_many = blocking(Workflows.cancel_many)
    retry = blocking(Workflows.retry)
    retry_many = blocking(Workflows.retry_many)
    plan = blocking(Workflows.plan)
    pause = blocking(Workflows.pause)
    resume = blocking(Workflows.resume)
    signal = blocking(Workflows.signal)
    watch = iterating(Workflows.watch)
    wait = blocking(Workflows.wait)
    keep = blocking(Workflows.keep)


def reference(sha256: str) -> str:
    """How a step names a file that the service holds."""
    return f"objects/{sha256}"


def definition_path(name: str) -> str:
    return f"/workflows/definitions/{quote(name, safe='')}"


def run_path(run_id: str) -> str:
    return f"/workflows/runs/{quote(run_id, safe='')}"


def _body(document: Written) -> dict[str, Any]:
    return document.document() if isinstance(document, Flow) else dict(document)
