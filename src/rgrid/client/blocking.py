"""Makes plain calls and iterators of what is written once as coroutines, for programs that don't run on asyncio."""

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from rgrid.client.delivery import drive, drive_each

C = TypeVar("C")
P = ParamSpec("P")
T = TypeVar("T")


class Blocking(Generic[C]):
    """Offers calls that are written at `C`."""

    def __init__(self, calls: C) -> None:
        self.calls = calls


def blocking(
    call: Callable[Concatenate[C, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Blocking[C], P], T]:
    """A call that returns when it is done."""

    @wraps(call)
    def blocked(self: Blocking[C], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return drive(call(self.calls, *args, **kwargs))

    return blocked


def iterating(
    call: Callable[Concatenate[C, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Blocking[C], P], Iterator[T]]:
    """A call whose results come one by one, as they are asked for."""

    @wraps(call)
    def iterated(self: Blocking[C], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return drive_each(call(self.calls, *args, **kwargs))

    return iterated
