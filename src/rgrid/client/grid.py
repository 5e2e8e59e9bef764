"""The client: everything the service offers for executions, as plain blocking calls.

with Client("http://127.0.0.1:8000", key) as grid:
    execution = grid.submit(Submission(script_content="print('hello')"))
    print(grid.wait(execution.execution_id).stdout)
"""

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from rgrid.client.calls import PAGE_MAX, Calls, Submission
from rgrid.client.delivery import RETRY_WAITS_S, RetryNote, drive, drive_each, no_note
from rgrid.client.transport import Transport

__all__ = ["PAGE_MAX", "Client", "Submission"]
P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    call: Callable[Concatenate[Calls, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["Client", P], T]:
    """A call that returns when it is done."""

    @wraps(call)
    def blocked(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return drive(call(self.calls, *args, **kwargs))

    return blocked


def _iterating(
    call: Callable[Concatenate[Calls, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate["Client", P], Iterator[T]]:
    """A call whose results come one by one, as they are asked for."""

    @wraps(call)
    def iterated(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return drive_each(call(self.calls, *args, **kwargs))

    return iterated


class Client:
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
        self.calls = Calls(self.transport.delivery)
        self.url = self.calls.url
        self.key = key

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.transport.close()

    # any resource
    document = _blocking(Calls.document)
    pages = _iterating(Calls.pages)

    # executions
    submit = _blocking(Calls.submit)
    get = _blocking(Calls.get)
    executions = _iterating(Calls.executions)
    cancel = _blocking(Calls.cancel)
    retry = _blocking(Calls.retry)
    wait = _blocking(Calls.wait)
    inputs = _iterating(Calls.inputs)
    events = _iterating(Calls.events)

    # logs
    logs = _iterating(Calls.logs)
    log_tail = _blocking(Calls.log_tail)
    follow = _iterating(Calls.follow)

    # artifacts
    artifacts = _iterating(Calls.artifacts)
    download = _blocking(Calls.download)

    # who, where, how
    me = _blocking(Calls.me)
    keys = _iterating(Calls.keys)
    create_key = _blocking(Calls.create_key)
    rotate_key = _blocking(Calls.rotate_key)
    revoke_key = _blocking(Calls.revoke_key)
    workers = _iterating(Calls.workers)
    runtimes = _iterating(Calls.runtimes)
    health = _blocking(Calls.health)
    health_document = _blocking(Calls.health_document)
