"""Several commands of one run as one, so that the end of a step and the start of the next are one append. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from rgrid.kernel.decider import Decider
from rgrid.kernel.messages import Command
from rgrid.workflows.commands import RunCommand
from rgrid.workflows.events import RunEvent
from rgrid.workflows.run import DECIDER as RUN
from rgrid.workflows.run_state import Run


class Transition(Command, frozen=True, kw_only=True):
    """Commands in their order, each decided on what the ones before it led to."""

    commands: Sequence[RunCommand]


def decide(command: Transition, state: Run, now: datetime) -> Sequence[RunEvent]:
    """The events of all of them. Refused as a whole when one is refused."""
    events: list[RunEvent] = []
    for one in command.commands:
        new = RUN.decide(one, state, now)
        state = RUN.fold(state, new)
        events += new
    return events


def foreseen(run: Run, commands: Sequence[RunCommand], now: datetime) -> tuple[Run, Sequence[RunEvent]]:
    """The run as it will stand after these commands, and the events that lead there."""
    events = decide(Transition(commands=commands), run, now)
    return RUN.fold(run, events), events


def decider_after(run: Run, after: Run, events: Sequence[RunEvent], count: int) -> Decider[Transition, Run, RunEvent]:
    """The same decider for a transition whose first `count` commands were foreseen on this very state: what was decided
    there need not be decided again, unless the run has gone on meanwhile."""

    def decide_rest(command: Transition, state: Run, now: datetime) -> Sequence[RunEvent]:
        if state is not run:
            return decide(command, state, now)
        return [*events, *decide(Transition(commands=command.commands[count:]), after, now)]

    return Decider(noun=RUN.noun, initial=RUN.initial, decide=decide_rest, evolve=RUN.evolve)


DECIDER: Final = Decider[Transition, Run, RunEvent](
    noun=RUN.noun, initial=RUN.initial, decide=decide, evolve=RUN.evolve, snapshot_version=RUN.snapshot_version
)
