"""What an ALERT step leaves on the log for those who tell people. Stream `alert_request-{id}`, of one event."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from rgrid.kernel.decider import Decider
from rgrid.workflows.commands import RequestAlert
from rgrid.workflows.events import AlertRequested, Severity


class AlertParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of an ALERT step. Without a message the title says it all."""

    severity: Severity = "ERROR"
    title: str
    message: str | None = None
    source: str | None = None
    domain: str | None = None
    dedup_key: str | None = None
    metadata: dict[str, Any] = {}


def decide(command: RequestAlert, is_requested: bool, now: datetime) -> Sequence[AlertRequested]:
    """Once."""
    if is_requested:
        return []
    fields = {name: getattr(command, name) for name in RequestAlert.__struct_fields__}
    return [AlertRequested(**fields, requested_at=now)]


def evolve(_is_requested: bool, _event: AlertRequested) -> bool:
    """The state after a recorded event."""
    return True


DECIDER: Final = Decider[RequestAlert, bool, AlertRequested](
    noun="alert_request", initial=False, decide=decide, evolve=evolve
)
