"""How an event of the log is shown to a client."""

from datetime import datetime
from typing import Any

import msgspec

from rgrid.kernel.messages import AnyRecorded


class EventRecord(msgspec.Struct, kw_only=True):
    """One event. `type` is the topic without its version; hashes are null until the event is sealed."""

    position: int
    stream: str
    stream_version: int
    type: str
    schema_version: int
    data: dict[str, Any]
    occurred_at: datetime
    actor: str
    request_id: str | None
    correlation_id: str | None
    causation_position: int | None
    hash: str | None
    prev_hash: str | None


def event_record(recorded: AnyRecorded) -> EventRecord:
    name, _, version = recorded.topic.rpartition(".v")
    cause = recorded.cause
    return EventRecord(
        position=recorded.position,
        stream=recorded.stream_id,
        stream_version=recorded.version,
        type=name,
        schema_version=int(version),
        data=msgspec.to_builtins(recorded.event),
        occurred_at=recorded.recorded_at,
        actor=cause.actor,
        request_id=cause.request_id,
        correlation_id=cause.correlation_id,
        causation_position=int(cause.causation_id) if cause.causation_id and cause.causation_id.isdigit() else None,
        hash=None,
        prev_hash=None,
    )
