"""Every topic of every slice, by hand: what the log may hold."""

from typing import Final

from rgrid.access.events import TOPICS as ACCESS
from rgrid.eventstore.codec import Codec
from rgrid.executions.events import TOPICS as EXECUTIONS
from rgrid.kernel.messages import Event
from rgrid.runners.events import TOPICS as RUNNERS
from rgrid.schedules.events import TOPICS as SCHEDULES
from rgrid.workflows.events import TOPICS as WORKFLOWS

TOPICS: Final[dict[str, type[Event]]] = {**ACCESS, **EXECUTIONS, **RUNNERS, **WORKFLOWS, **SCHEDULES}


def codec() -> Codec:
    return Codec(TOPICS)
