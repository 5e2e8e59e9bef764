"""Given past events, when a command comes, then these events follow or it is refused: how every aggregate is tested."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from rgrid.kernel.decider import Decider
from rgrid.kernel.errors import RgridError
from rgrid.kernel.messages import Command, Event

NOW: Final = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Given:
    """An aggregate with a past."""

    decider: Decider[Any, Any, Any]
    past: tuple[Event, ...]

    @property
    def state(self) -> Any:
        return self.decider.fold(self.decider.initial, self.past)

    def when(self, command: Command, now: datetime = NOW) -> "Decided":
        """What the aggregate decides at that moment."""
        try:
            events: Sequence[Event] = self.decider.decide(command, self.state, now)
        except RgridError as refusal:
            return Decided(self, (), refusal)
        return Decided(self, tuple(events), None)


@dataclass(frozen=True)
class Decided:
    """What came of one command."""

    before: Given
    events: tuple[Event, ...]
    refusal: RgridError | None

    def then(self, *expected: Event | type[Event]) -> Given:
        """Exactly these events follow; where only a type is given, only the type counts. Goes on from there."""
        assert self.refusal is None, f"refused: {self.refusal}"
        assert len(self.events) == len(expected), f"{self.events}"
        for event, wanted in zip(self.events, expected, strict=True):
            if isinstance(wanted, type):
                assert type(event) is wanted, f"{event}"
            else:
                assert event == wanted
        return self.after

    def then_nothing(self) -> Given:
        """It is so already: accepted, and no event."""
        return self.then()

    def then_refused(self, code_or_text: str) -> RgridError:
        """Refused with this code, or with this text in the sentence."""
        assert self.refusal is not None, f"accepted: {self.events}"
        assert code_or_text == self.refusal.code or code_or_text in self.refusal.detail, (
            f"{self.refusal.code}: {self.refusal.detail}"
        )
        return self.refusal

    @property
    def after(self) -> Given:
        return Given(self.before.decider, self.before.past + self.events)


def given(decider: Decider[Any, Any, Any], *events: Event) -> Given:
    return Given(decider, events)
