"""A projection: the functions that fill the tables of one read model from the log."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from typing import Any

from rgrid.kernel.messages import AnyRecorded, Event
from rgrid.postgres.pool import Connection

Apply = Callable[[Connection, Any, AnyRecorded], Awaitable[None]]
"""(connection, the event, where it stands in the log)."""

ApplyBatch = Callable[[Connection, Sequence[AnyRecorded]], Awaitable[None]]
"""All wanted events of a page, in position order, in one call: for set-based SQL."""


@dataclass(frozen=True, slots=True)
class Projection:
    """`ddl` is the pair's .sql (or its text); the tables it makes belong to this projection only. Change the pair,
    raise `version`, and the tables are rebuilt beside and swapped. With `on_batch`, `on` may be just the event types.
    `inline` projections are applied within the append: only for what a decision must see at once."""

    name: str
    version: int
    on: Mapping[type[Event], Apply] | Collection[type[Event]]
    ddl: Traversable | str
    inline: bool = False
    on_batch: ApplyBatch | None = None
    kinds: frozenset[type[Event]] = field(init=False)

    def __post_init__(self) -> None:
        assert self.version >= 1, "versions begin at 1; 0 marks a read model to be built again"
        assert self.on_batch or isinstance(self.on, Mapping), "events without a function"
        object.__setattr__(self, "kinds", frozenset(self.on))

    def ddl_text(self) -> str:
        return self.ddl if isinstance(self.ddl, str) else self.ddl.read_text(encoding="utf-8")

    async def apply(self, conn: Connection, events: Sequence[AnyRecorded]) -> None:
        """Applies events that this projection wants; the caller opened the transaction and set the search path."""
        if not events:
            return
        if self.on_batch is not None:
            await self.on_batch(conn, events)
            return
        assert isinstance(self.on, Mapping)
        for recorded in events:
            await self.on[type(recorded.event)](conn, recorded.event, recorded)
