"""What goes into one append and what comes out."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from rgrid.kernel.messages import AnyRecorded, Cause, Event


@dataclass(frozen=True, slots=True)
class Rider:
    """A statement that commits with the events of its append. With `takes_position` the writer passes the position
    of the append's last event as one more parameter, after `args`."""

    sql: str
    args: tuple[Any, ...] = ()
    takes_position: bool = True


@dataclass(frozen=True, slots=True)
class NewEvent:
    stream_id: str
    version: int
    event: Event


@dataclass(frozen=True, slots=True)
class Append:
    """The events of one command, of one stream or several: all of them are stored, or none."""

    events: Sequence[NewEvent]
    cause: Cause
    riders: Sequence[Rider] = ()


@dataclass(frozen=True, slots=True)
class Appended:
    """The position of the append's last event, and the database's time of the append."""

    position: int
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """An append that is still to be decided, on what the stream holds after `after_version` once nobody else can
    write: for a command whose rivals in other processes were faster too often. `decide` answers None when there is
    nothing to append, and may raise."""

    stream_id: str
    after_version: int
    decide: Callable[[Sequence[AnyRecorded]], Append | None]


Inline = Callable[[asyncpg.Connection, Sequence[AnyRecorded]], Awaitable[None]]
"""Applies inline projections to the events of a batch, within its transaction."""
