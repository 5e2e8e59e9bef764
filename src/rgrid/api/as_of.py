"""Answers as of an earlier moment: which position that is, and whether there was anything to see."""

from rgrid.eventstore.store import Store
from rgrid.kernel.errors import Invalid
from rgrid.web.conditional import AsOf


async def position(store: Store, asked: AsOf) -> int:
    """The position to answer from. Raises Invalid `as_of_out_of_range` beyond the head."""
    if asked.moment is not None:
        return await store.position_at(asked.moment)
    assert asked.position is not None
    if asked.position > await store.head():
        raise Invalid("as_of lies beyond the head of the log.", code="as_of_out_of_range")
    return asked.position
