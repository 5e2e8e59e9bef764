"""What may be asked of a schedule. Public: drivers may import this."""

from datetime import datetime

from rgrid.kernel.messages import Command
from rgrid.schedules.events import Rules, RunEnd, Target, Timing


class CreateSchedule(Command, frozen=True, kw_only=True):
    """Start this target at these times. Its target was looked up and its template checked."""

    schedule_id: str
    name: str
    target: Target
    timing: Timing
    rules: Rules
    enabled: bool
    description: str | None
    tags: list[str]
    created_by: str


class ReviseSchedule(Command, frozen=True, kw_only=True):
    """Hold these values from now on; decides `[]` when they are held already. `enabled` None leaves that as it is."""

    target: Target
    timing: Timing
    rules: Rules
    description: str | None
    tags: list[str]
    enabled: bool | None = None
    revised_by: str


class EnableSchedule(Command, frozen=True, kw_only=True):
    """Let due times count again."""

    enabled_by: str


class DisableSchedule(Command, frozen=True, kw_only=True):
    """Let nothing be due."""

    disabled_by: str
    note: str | None = None


class DeleteSchedule(Command, frozen=True, kw_only=True):
    """Take it away; its history stays."""

    deleted_by: str


class DecideDue(Command, frozen=True, kw_only=True):
    """Some times may have come due: decide about each of them. `targets` are made ready by the id of their schedule
    run: what fires and is to start at once begins in the same append."""

    targets: dict[str, str] = {}


class RunNow(Command, frozen=True, kw_only=True):
    """Start the target now, whatever the schedule says. With `target_id` it begins in the same append."""

    schedule_run_id: str
    target_id: str | None = None
    params_sha256: str | None = None
    requested_by: str


class Backfill(Command, frozen=True, kw_only=True):
    """Run these times, which lie in the past, oldest first. What is done or under way already was left out."""

    backfill_id: str
    due_at: list[datetime]
    max_parallel: int
    requested_by: str


class StartScheduleRun(Command, frozen=True, kw_only=True):
    """Begin the target of a schedule run, in the same append. Decides `[]` when it began already or was dropped."""

    schedule_run_id: str
    target_id: str


class EndScheduleRun(Command, frozen=True, kw_only=True):
    """The target ended, or could not begin."""

    schedule_run_id: str
    status: RunEnd
    error: str | None = None


ScheduleCommand = (
    CreateSchedule
    | ReviseSchedule
    | EnableSchedule
    | DisableSchedule
    | DeleteSchedule
    | DecideDue
    | RunNow
    | Backfill
    | StartScheduleRun
    | EndScheduleRun
)
