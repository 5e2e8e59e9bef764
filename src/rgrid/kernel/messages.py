"""What a command and an event are, and what is recorded beside an event's own data."""

from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

Moment = datetime  # aware, UTC


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A request that may be refused. Imperative name: `SubmitExecution`."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fact. Past name: `ExecutionSubmitted`. Never changes shape under the same topic."""


class Cause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who wants something and why: goes with a command and is recorded with each event that follows from it.

    `actor` is `key:<id>`, `jwt:<sub>`, `worker:<id>` or `system`; `causation_id` names the event or request that
    led here; `traceparent` is the W3C trace context.
    """

    actor: str
    command_id: UUID
    correlation_id: str | None = None
    causation_id: str | None = None
    request_id: str | None = None
    traceparent: str | None = None


E_co = TypeVar("E_co", bound=Event, covariant=True)


class Recorded(msgspec.Struct, Generic[E_co], frozen=True, kw_only=True):
    """An event as it stands in the log. `position` orders all events, `version` those of one stream."""

    position: int
    stream_id: str
    version: int
    topic: str
    event: E_co
    recorded_at: datetime
    cause: Cause

    @property
    def entity_id(self) -> str:
        """The id without the stream's noun: `execution-exec_01…` is `exec_01…`."""
        return self.stream_id.partition("-")[2]


AnyRecorded = Recorded[Any]
