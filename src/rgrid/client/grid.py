"""The client: everything the service offers for executions, as plain blocking calls.

with Client("http://127.0.0.1:8000", key) as grid:
    execution = grid.submit(Submission(script_content="print('hello')"))
    print(grid.wait(execution.execution_id).stdout)
"""

from rgrid.client.batches import Batches, BlockingBatches
from rgrid.client.blocking import Blocking, blocking, iterating
from rgrid.client.calls import PAGE_MAX, Calls, Submission
from rgrid.client.delivery import RETRY_WAITS_S, RetryNote, no_note
from rgrid.client.schedules import BlockingSchedules, Schedules
from rgrid.client.transport import Transport
from rgrid.client.workflows import BlockingWorkflows, Workflows

__all__ = ["PAGE_MAX", "Client", "Submission"]


class Client(Blocking[Calls]):
    """One service, one key; safe to use from several threads. What each call does is written at `Calls`."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        on_retry: RetryNote = no_note,
        waits_s: tuple[float, ...] = RETRY_WAITS_S,
    ) -> None:
        self.transport = Transport(url, key, on_retry=on_retry, waits_s=waits_s)
        super().__init__(Calls(self.transport.delivery))
        self.batches = BlockingBatches(Batches(self.calls))
        self.workflows = BlockingWorkflows(Workflows(self.calls))
        self.schedules = BlockingSchedules(Schedules(self.calls))
        self.url = self.calls.url
        self.key = key

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.transport.close()

    # any resource
    document = blocking(Calls.document)
    pages = iterating(Calls.pages)

    # executions
    submit = blocking(Calls.submit)
    get = blocking(Calls.get)
    fresh_address = blocking(Calls.fresh_address)
    executions = iterating(Calls.executions)
    cancel = blocking(Calls.cancel)
    retry = blocking(Calls.retry)
    wait = blocking(Calls.wait)
    inputs = iterating(Calls.inputs)
    events = iterating(Calls.events)

    # logs
    logs = iterating(Calls.logs)
    log_tail = blocking(Calls.log_tail)
    follow = iterating(Calls.follow)

    # artifacts
    artifacts = iterating(Calls.artifacts)
    download = blocking(Calls.download)

    # cost
    cost = blocking(Calls.cost)
    cost_document = blocking(Calls.cost_document)
    estimate = blocking(Calls.estimate)
    estimate_document = blocking(Calls.estimate_document)
    cost_limit = blocking(Calls.cost_limit)
    set_cost_limit = blocking(Calls.set_cost_limit)
    remove_cost_limit = blocking(Calls.remove_cost_limit)

    # who, where, how
    me = blocking(Calls.me)
    keys = iterating(Calls.keys)
    create_key = blocking(Calls.create_key)
    rotate_key = blocking(Calls.rotate_key)
    revoke_key = blocking(Calls.revoke_key)
    workers = iterating(Calls.workers)
    runtimes = iterating(Calls.runtimes)
    health = blocking(Calls.health)
    health_document = blocking(Calls.health_document)
