"""What is made ready beforehand begins in the append of its decision, and a change of everything is one, too."""

from datetime import timedelta

from schedules_given import at, revise, run_id, schedule

from rgrid.schedules.commands import DecideDue
from rgrid.schedules.events import (
    DueFired,
    ScheduleDisabled,
    ScheduleEnabled,
    ScheduleRevised,
    ScheduleRunStarted,
    Timing,
)

EVERY_MINUTE = Timing(interval_s=60)


def test_a_target_that_is_ready_begins_with_the_decision() -> None:
    ready = DecideDue(targets={run_id("10:01"): "run_1"})
    fired, started = schedule().when(ready, at("10:01")).events
    assert isinstance(fired, DueFired)
    assert started == ScheduleRunStarted(schedule_run_id=run_id("10:01"), target_id="run_1", started_at=at("10:01"))


def test_a_target_made_ready_for_another_time_does_not_begin() -> None:
    ready = DecideDue(targets={run_id("10:02"): "run_1"})
    schedule().when(ready, at("10:01")).then(DueFired)


def test_what_waits_or_is_put_off_does_not_begin_yet() -> None:
    busy = schedule(overlap_policy="QUEUE").when(DecideDue(), at("10:01")).then(DueFired)
    busy.when(DecideDue(targets={run_id("10:02"): "run_2"}), at("10:02")).then(DueFired)
    put_off = schedule(jitter_s=3600)
    command = DecideDue(targets={run_id("10:01"): "run_1"})
    (fired,) = put_off.when(command, at("10:01")).events
    assert isinstance(fired, DueFired)
    assert at("10:01") < fired.start_at <= at("10:01") + timedelta(hours=1)


def test_everything_of_a_schedule_changes_in_one_append() -> None:
    hourly = revise(Timing(interval_s=3600))
    both = type(hourly)(
        target=hourly.target, timing=hourly.timing, rules=hourly.rules, description=None, tags=[], enabled=False,
        revised_by="key:k",
    )  # fmt: skip
    disabled = schedule().when(both, at("10:00")).then(ScheduleRevised, ScheduleDisabled)
    assert disabled.state.next_due_at is None
    enabled = type(hourly)(
        target=hourly.target, timing=EVERY_MINUTE, rules=hourly.rules, description=None, tags=[], enabled=True,
        revised_by="key:k",
    )  # fmt: skip
    again = disabled.when(enabled, at("10:30")).then(ScheduleRevised, ScheduleEnabled)
    assert again.state.next_due_at == at("10:31")
    again.when(enabled, at("10:30")).then_nothing()
