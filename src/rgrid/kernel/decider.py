"""The pure core of an aggregate as one value, so that `handle` and the tests can run any of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from rgrid.kernel.messages import Command, Event

C = TypeVar("C", bound=Command)
S = TypeVar("S")
E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Decider(Generic[C, S, E]):
    """`decide` refuses by raising an RgridError; `evolve` never fails on an event that was recorded.

    Long streams ask for snapshots of their state by a `snapshot_version`, to be raised with each change of what
    `evolve` makes of the events; the state must then be one that JSON can hold.

    After J. Chassaing, "Functional Event Sourcing Decider" (https://thinkbeforecoding.com/post/2021/12/17).
    """

    noun: str
    initial: S
    decide: Callable[[C, S, datetime], Sequence[E]]
    evolve: Callable[[S, E], S]
    snapshot_version: int | None = None

    def stream_id(self, entity_id: str) -> str:
        return f"{self.noun}-{entity_id}"

    def fold(self, state: S, events: Sequence[E]) -> S:
        for event in events:
            state = self.evolve(state, event)
        return state
