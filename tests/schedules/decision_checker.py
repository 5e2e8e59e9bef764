"""Does the log of a schedule hold exactly one decision for each due time? In the manner of Jepsen's test of Chronos: it
reads nothing but what was recorded, so it judges a simulated log and that of a real service alike."""

from collections.abc import Iterable
from datetime import UTC, datetime

from rgrid.schedules.events import (
    DueFired,
    DueSkipped,
    DueTimesMissed,
    ScheduleCreated,
    ScheduleDeleted,
    ScheduleDisabled,
    ScheduleEnabled,
    ScheduleEvent,
    ScheduleRevised,
    ScheduleRunEnded,
    ScheduleRunReleased,
    ScheduleRunStarted,
    Timing,
)
from rgrid.schedules.timing import count_due, due

SHOWN_MAX = 10
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def problems(events: Iterable[ScheduleEvent], now: datetime | None = None) -> list[str]:
    """What is wrong with the log of one schedule, `[]` when nothing is. With `now`, everything due by then must have
    been decided about; without it, what came due last may be open."""
    reading = _Reading()
    for event in events:
        reading.take(event)
    if now is not None:
        reading.close(now, "is still open")
    return reading.problems


class _Reading:
    """Where a log stands: from when times count, by which timing, and what each run has been through."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._timing = Timing()
        self._anchor = self._cursor = NEVER
        self._counts = False
        self._stages: dict[str, str] = {}

    def take(self, event: ScheduleEvent) -> None:
        match event:
            case ScheduleCreated():
                self._timing, self._anchor, self._cursor = event.timing, event.created_at, event.created_at
                self._counts = event.enabled
            case ScheduleRevised() if event.retimed:
                self.close(event.revised_at, "was lost by an edit")
                if event.timing.interval_s != self._timing.interval_s:
                    self._anchor = event.revised_at
                self._timing, self._cursor = event.timing, max(self._cursor, event.revised_at)
            case ScheduleEnabled():
                self._counts, self._cursor = True, max(self._cursor, event.enabled_at)
            case ScheduleDisabled(disabled_at=at) | ScheduleDeleted(deleted_at=at):
                self.close(at, "was lost at the end")
                self._counts = False
                for run_id in event.dropped:
                    self._step(run_id, {"waiting", "pending"}, "dropped")
            case DueFired():
                if event.trigger == "SCHEDULE":
                    self._decided([event.due_at], 0, event.decided_at)
                self._step(event.schedule_run_id, {""}, "pending" if event.decision == "fired" else "waiting")
            case DueSkipped():
                self._decided([event.due_at], 0, event.decided_at)
                self._step(event.schedule_run_id, {""}, "skipped")
            case DueTimesMissed():
                self._decided(event.due_at, event.more, event.decided_at)
            case ScheduleRunReleased():
                self._step(event.schedule_run_id, {"waiting"}, "pending")
            case ScheduleRunStarted():
                self._step(event.schedule_run_id, {"pending"}, "running")
            case ScheduleRunEnded():
                self._step(event.schedule_run_id, {"waiting", "pending", "running"}, "ended")

    def close(self, moment: datetime, how: str) -> None:
        """No due time up to this moment may be without a decision."""
        if self._counts:
            for index, one in enumerate(due(self._timing, self._anchor, self._cursor, moment)):
                if index == SHOWN_MAX:
                    self.problems.append("… and more")
                    break
                self.problems.append(f"{one.at} {how}")

    def _decided(self, times: list[datetime], more: int, at: datetime) -> None:
        if not self._counts:
            self.problems.append(f"{times[0]} was decided about while nothing was due")
        if times[-1] > at:
            self.problems.append(f"{times[-1]} was decided about at {at}, before it came")
        if times[0] <= self._cursor:
            self.problems.append(f"{times[0]} was decided about when {self._cursor} had been")
        else:
            self._compare(times, more)
        self._cursor = max(self._cursor, times[-1])

    def _compare(self, times: list[datetime], more: int) -> None:
        """Exactly these were due, after `more` others, since the last decision."""
        wanted = count_due(self._timing, self._anchor, self._cursor, times[-1])
        if wanted != len(times) + more:
            self.problems.append(f"{len(times)} + {more} decisions up to {times[-1]} where {wanted} times were due")
        since = max(self._cursor, times[0].replace(microsecond=0) if more else self._cursor)
        known = {one.at for one in due(self._timing, self._anchor, since, times[-1])} | ({times[0]} if more else set())
        for time in times:
            if time not in known:
                self.problems.append(f"{time} was decided about and never due")

    def _step(self, run_id: str, before: set[str], after: str) -> None:
        stage = self._stages.get(run_id, "")
        if stage not in before:
            self.problems.append(f"{run_id} is {after} after it was {stage or 'nothing'}")
        self._stages[run_id] = after
