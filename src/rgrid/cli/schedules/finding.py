"""A schedule by the name or the id that was typed, and times as they are typed."""

from datetime import UTC, datetime
from typing import Final

from rgrid.cli.output import Failure, Usage
from rgrid.client.grid import Client
from rgrid.client.workflow_answers import Schedule

PREFIX: Final = "sched_"


def find(client: Client, named: str) -> Schedule:
    """The schedule that is meant."""
    if named.startswith(PREFIX):
        return client.schedules.get(named)
    for schedule in client.schedules.list(name=named):
        return schedule
    raise Failure(f"There is no schedule {named}.", "rgrid schedules list", name="not_found")


def instant(text: str) -> datetime:
    """`2026-01-31`, `2026-01-31T18:00`, with an offset or in UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Usage(f"{text!r} is no time such as 2026-01-31 or 2026-01-31T18:00:00Z.") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
