"""What schedules need of what they start, handed in by the composition root: this slice knows none of it."""

from typing import Protocol

import msgspec

from rgrid.eventstore.handle import NewStream
from rgrid.schedules.active_runs import ActiveRun
from rgrid.schedules.events import RunEnd, TargetType
from rgrid.schedules.schedule_state import Schedule


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How a target ended."""

    status: RunEnd
    error: str | None = None


class Targets(Protocol):
    """Executions, workflow runs and fetches, as far as schedules care."""

    def new_id(self, kind: TargetType) -> str:
        """An id for something that will begin."""

    async def begin(self, schedule: Schedule, run: ActiveRun, target_id: str) -> NewStream:
        """What begins the target of a schedule run. Raises whatever RgridError stands in its way."""

    async def stop(self, target_id: str, reason: str, *, forced: bool) -> None:
        """Ask that it ends: within its grace, or at once. What has ended already is left alone."""

    async def ended(self, target_id: str) -> End | None:
        """How it ended, None while it hasn't."""
