"""What runs need of other parts of the grid, handed in by the composition root: this slice knows none of them."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from rgrid.adapters.expressions import Evaluator
from rgrid.adapters.objects import ObjectStore
from rgrid.eventstore.handle import NewStream
from rgrid.executions.events import Origin
from rgrid.workflows.document import ErrorCategory


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How an execution ended. Without a category it completed."""

    outputs: dict[str, Any]
    category: ErrorCategory | None = None
    error: str | None = None


class Templates(Protocol):
    """Makes an execution of a template. Raises what a submission raises."""

    async def __call__(
        self, template: Mapping[str, Any], execution_id: str, origin: Origin, *, name: str | None, created_by: str
    ) -> NewStream: ...


@dataclass(frozen=True, slots=True)
class Neighbours:
    """`ended` says how an execution ended (None: not yet); `cancel` asks for its end, with a reason."""

    execution: Templates
    ended: Callable[[str], Awaitable[Ended | None]]
    cancel: Callable[[str, str], Awaitable[None]]
    objects: ObjectStore
    expressions: Evaluator
