"""No event changes shape under its topic: each golden file is what a full event of its type looks like today."""

import golden
import msgspec
import pytest

from rgrid.eventstore.codec import Codec

UPCASTERS = {topic: lift for module in golden.slices() for topic, lift in getattr(module, "UPCASTERS", {}).items()}


@pytest.mark.parametrize("topic", golden.topics())
def test_an_event_keeps_the_shape_it_has_under_its_topic(topic: str) -> None:
    assert golden.path(topic).read_bytes() == golden.stored(golden.topics()[topic]), (
        "A stored topic never changes its shape: give the event a new topic and an upcaster."
    )


@pytest.mark.parametrize("topic", sorted(path.stem for path in golden.FOLDER.glob("*.json")))
def test_every_golden_event_is_read_and_written_back_unchanged(topic: str) -> None:
    codec = Codec(golden.topics(), UPCASTERS)
    stored = msgspec.json.format(golden.path(topic).read_bytes(), indent=-1)
    event = codec.decode(topic, stored)
    if topic not in UPCASTERS:
        assert codec.encode(event) == stored
