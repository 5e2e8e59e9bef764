"""Events to bytes and back: msgspec JSON under an explicit topic, older topics lifted by upcasters at read."""

from collections.abc import Callable, Mapping
from typing import Any

import asyncpg
import msgspec

from rgrid.kernel.messages import AnyRecorded, Cause, Event, Recorded

Upcaster = Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]
"""From the plain data of an old topic to (the next topic, its data)."""

_encoder = msgspec.json.Encoder()
_cause_decoder = msgspec.json.Decoder(Cause)


class UnknownTopic(Exception):
    """The log holds a topic that this version of the program does not know."""


class Codec:
    """Knows every topic. A topic's shape never changes; a new shape is a new topic and an upcaster."""

    def __init__(self, topics: Mapping[str, type[Event]], upcasters: Mapping[str, Upcaster] | None = None) -> None:
        self._topic_of = {kind: topic for topic, kind in topics.items()}
        assert len(self._topic_of) == len(topics), "an event type has two topics"
        self._decoders = {topic: msgspec.json.Decoder(kind) for topic, kind in topics.items()}
        self._types = dict(topics)
        self._upcasters = dict(upcasters or {})

    def topic(self, event: Event) -> str:
        return self._topic_of[type(event)]

    def topics_of(self, kinds: frozenset[type[Event]]) -> frozenset[str]:
        """Every stored topic, old ones included, that decodes to one of these types."""
        current = {self._topic_of[kind] for kind in kinds}
        lifted = {old for old in self._upcasters if self._lifted_topic(old) in current}
        return frozenset(current | lifted)

    def _lifted_topic(self, topic: str) -> str:
        while topic in self._upcasters:
            topic, _ = self._upcasters[topic]({})
        return topic

    def encode(self, event: Event) -> bytes:
        return _encoder.encode(event)

    def decode(self, topic: str, state: bytes) -> Event:
        decoder = self._decoders.get(topic)
        if decoder is not None:
            return decoder.decode(state)
        if topic not in self._upcasters:
            raise UnknownTopic(topic)
        data = msgspec.json.decode(state)
        while topic in self._upcasters:
            topic, data = self._upcasters[topic](data)
        return msgspec.convert(data, self._types[topic])

    def recorded(self, row: asyncpg.Record) -> AnyRecorded:
        """A row of `rgrid.stored_events` as the event it holds."""
        return Recorded(
            position=row["notification_id"],
            stream_id=row["originator_id"],
            version=row["originator_version"],
            topic=row["topic"],
            event=self.decode(row["topic"], row["state"]),
            recorded_at=row["recorded_at"],
            cause=_cause_decoder.decode(row["cause"]),
        )


def encode_cause(cause: Cause) -> bytes:
    return _encoder.encode(cause)


def decode_cause(data: bytes) -> Cause:
    return _cause_decoder.decode(data)
