"""The items of a MAP as a run remembers them. Items begin in their order, so a number says which of them have begun.

Pure and unchangeable: a change makes a new value, which shares what it can, because a MAP may have 10,000 items.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from rgrid.workflows.document import ErrorCategory
from rgrid.workflows.events import MapItemEnded, RunEnd

BLOCK_SIZE: Final = 128
FAILURES: Final[frozenset[RunEnd]] = frozenset({"FAILED", "CANCELLED"})


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One item that has begun; without a status its child run goes on. Only one that came to its end has outputs."""

    child_run_id: str
    status: RunEnd | None = None
    outputs: Mapping[str, Any] | None = None
    error: str | None = None
    category: ErrorCategory | None = None

    @property
    def is_failed(self) -> bool:
        return self.status in FAILURES


class Items(msgspec.Struct, frozen=True, kw_only=True):
    """`size_bytes` is what the outputs come to. When that would be more than a step may hand on, `is_cut`: outputs
    are no longer kept."""

    total: int = 0
    begun: int = 0
    ended: int = 0
    failed: int = 0
    size_bytes: int = 0
    is_cut: bool = False
    blocks: tuple[tuple[Item, ...], ...] = ()

    @property
    def running(self) -> int:
        return self.begun - self.ended

    def __iter__(self) -> Iterator[Item]:
        return (item for block in self.blocks for item in block)

    def get(self, index: int) -> Item | None:
        """The item, if it has begun."""
        if not 0 <= index < self.begun:
            return None
        return self.blocks[index // BLOCK_SIZE][index % BLOCK_SIZE]

    def begin(self, child_run_id: str) -> "Items":
        """The next item begins."""
        full, last = (self.blocks, ()) if self.begun % BLOCK_SIZE == 0 else (self.blocks[:-1], self.blocks[-1])
        blocks = (*full, (*last, Item(child_run_id=child_run_id)))
        return msgspec.structs.replace(self, begun=self.begun + 1, blocks=blocks)

    def end(self, event: MapItemEnded) -> "Items":
        """An item that had begun ended."""
        at, within = divmod(event.index, BLOCK_SIZE)
        block = self.blocks[at]
        item = msgspec.structs.replace(
            block[within],
            status=event.status,
            outputs=event.outputs,
            error=event.error,
            category=event.category,
        )
        return msgspec.structs.replace(
            self,
            ended=self.ended + 1,
            failed=self.failed + item.is_failed,
            size_bytes=self.size_bytes + size_bytes(event.outputs),
            is_cut=self.is_cut or (not item.is_failed and item.outputs is None),
            blocks=(*self.blocks[:at], (*block[:within], item, *block[within + 1 :]), *self.blocks[at + 1 :]),
        )

    @property
    def output(self) -> dict[str, Any]:
        """What the MAP hands on: the outputs in the order of the items, null for those that failed."""
        failed = [
            {"index": index, "run_id": item.child_run_id, "status": item.status, "error": item.error}
            for index, item in enumerate(self)
            if item.is_failed
        ]
        return {"results": [None if item.is_failed else item.outputs for item in self], "failed": failed}


def size_bytes(value: object) -> int:
    """How much room a value takes as JSON."""
    return len(msgspec.json.encode(value))
