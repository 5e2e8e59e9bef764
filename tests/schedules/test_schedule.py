"""What a schedule decides: its life and its due times."""

from datetime import timedelta

from given import given
from schedules.schedules_given import (
    DELETE,
    DISABLE,
    ENABLE,
    at,
    create,
    decided,
    revise,
    run_id,
    schedule,
    told,
)

from rgrid.schedules.commands import (
    DecideDue,
    RunNow,
)
from rgrid.schedules.events import (
    DueFired,
    DueTimesMissed,
    ScheduleCreated,
    ScheduleDisabled,
    ScheduleEnabled,
    ScheduleRevised,
    Timing,
)
from rgrid.schedules.schedule import DECIDER


def test_a_new_schedule_knows_when_it_is_due() -> None:
    made = given(DECIDER).when(create(Timing(interval_s=3600)), at("10:07")).then(ScheduleCreated)
    assert made.state.next_due_at == at("11:07")


def test_a_disabled_one_is_never_due() -> None:
    off = schedule(enabled=False)
    assert off.state.next_due_at is None
    off.when(DecideDue(), at("23:00")).then_nothing()


def test_creating_it_twice_makes_one() -> None:
    schedule().when(create(Timing(interval_s=60))).then_nothing()


def test_what_can_never_be_due_is_refused() -> None:
    given(DECIDER).when(create(Timing(cron="0 0 30 2 *"))).then_refused("bad_cron")


def test_nothing_can_be_asked_of_what_is_not_there() -> None:
    commands = (ENABLE, DISABLE, DELETE, revise(Timing(interval_s=5)), RunNow(schedule_run_id="s", requested_by="k"))
    for command in commands:
        given(DECIDER).when(command).then_refused("not_found")
        schedule().when(DELETE).after.when(command).then_refused("not_found")


def test_enabling_and_disabling_twice_writes_nothing() -> None:
    schedule().when(ENABLE).then_nothing()
    schedule().when(DISABLE, at("10:00")).then(ScheduleDisabled).when(DISABLE).then_nothing()


def test_times_that_passed_while_it_was_disabled_never_fire() -> None:
    off = schedule().when(DISABLE, at("10:00")).after
    on = off.when(ENABLE, at("12:30")).then(ScheduleEnabled)
    assert on.state.next_due_at == at("12:31")
    assert decided(on, "12:31") == [("12:31", "fired")]


def test_an_old_time_never_fires_after_an_edit() -> None:
    late = at("12:20")
    edited = schedule().when(revise(Timing(interval_s=1800)), late).then(DueTimesMissed, ScheduleRevised)
    missed = edited.past[-2]
    assert isinstance(missed, DueTimesMissed) and len(missed.due_at) == 140
    assert edited.state.next_due_at == at("12:50")
    assert decided(edited, "12:50") == [("12:50", "fired")]


def test_an_edit_of_something_else_loses_no_due_time() -> None:
    edited = schedule().when(revise(Timing(interval_s=60), max_instances=2), at("10:05")).then(ScheduleRevised)
    assert edited.state.next_due_at == at("10:01")


def test_an_interval_keeps_its_cadence_unless_it_is_changed_itself() -> None:
    past = schedule(Timing(interval_s=3600), made="10:07")
    zoned = past.when(revise(Timing(interval_s=3600, timezone="Asia/Tokyo")), at("12:20")).after
    assert zoned.state.next_due_at == at("13:07")
    faster = past.when(revise(Timing(interval_s=1800)), at("12:20")).after
    assert faster.state.next_due_at == at("12:50")


def test_an_edit_that_changes_nothing_writes_nothing() -> None:
    schedule().when(revise(Timing(interval_s=60)), at("10:05")).then_nothing()


def test_a_date_disables_itself_once_it_has_come() -> None:
    once = schedule(Timing(run_at=at("12:00")))
    done = once.when(DecideDue(), at("12:00")).then(DueFired, ScheduleDisabled)
    assert done.state.runs[run_id("12:00")].stage == "pending"
    done.when(ENABLE, at("12:01")).then_refused("run_at_passed")


def test_the_end_of_a_schedule_leaves_nothing_due() -> None:
    assert schedule(Timing(interval_s=60, end_at=at("09:00"))).state.next_due_at is None
    last = schedule(Timing(interval_s=60, end_at=at("10:01"))).when(DecideDue(), at("10:01")).then(DueFired)
    assert last.state.next_due_at is None


# Due times.


def test_a_due_time_is_decided_once_whoever_asks() -> None:
    fired = schedule().when(DecideDue(), at("10:01")).then(DueFired)
    assert fired.state.next_due_at == at("10:02")
    fired.when(DecideDue(), at("10:01")).then_nothing()
    fired.when(DecideDue(), at("09:00")).then_nothing()


def test_a_clock_that_goes_back_brings_no_time_back() -> None:
    fired = schedule().when(DecideDue(), at("10:01")).after
    edited = fired.when(revise(Timing(interval_s=30)), at("09:00")).after
    assert edited.state.next_due_at is not None and edited.state.next_due_at > at("10:01")
    again = fired.when(DISABLE, at("09:00")).after.when(ENABLE, at("09:00")).after
    assert again.state.next_due_at == at("10:02")


def test_the_due_time_is_recorded_not_the_time_of_looking() -> None:
    (fired,) = schedule().when(DecideDue(), at("10:01") + timedelta(seconds=1.5)).events
    assert isinstance(fired, DueFired)
    assert (fired.due_at, fired.schedule_run_id) == (at("10:01"), run_id("10:01"))


def test_down_for_ten_minutes_the_latest_time_fires() -> None:
    found = at("10:10") + timedelta(seconds=30)
    nine = [(f"10:{minute:02}", "missed") for minute in range(1, 10)]
    for policy in ("SKIP", "FIRE_ONCE"):
        past = schedule(misfire_policy=policy, misfire_grace_s=60)
        assert [one for event in past.when(DecideDue(), found).events for one in told(event)] == [
            *nine,
            ("10:10", "fired"),
        ]


def test_catching_up_fires_the_last_ones_in_order() -> None:
    for overlap in ("SKIP", "QUEUE", "ALLOW", "BUFFER_ONE", "CANCEL_OTHER"):
        past = schedule(misfire_policy="CATCH_UP", catch_up_limit=3, overlap_policy=overlap)
        after = past.when(DecideDue(), at("10:10") + timedelta(seconds=30)).after
        events = after.past[1:]
        missed = [one for one in (told(event) for event in events) if one and one[0][1] == "missed"]
        assert [time for time, _ in missed[0]] == [f"10:0{minute}" for minute in range(1, 8)]
        fired = [event for event in events if isinstance(event, DueFired)]
        assert [f"{event.due_at:%H:%M}" for event in fired] == ["10:08", "10:09", "10:10"]
        assert [event.decision for event in fired] == ["fired", *["fired" if overlap == "ALLOW" else "buffered"] * 2]


def test_a_grace_of_zero_misses_what_is_found_late() -> None:
    past = schedule(misfire_policy="SKIP", misfire_grace_s=0)
    found = past.when(DecideDue(), at("10:11") + timedelta(seconds=30)).then(DueTimesMissed)
    assert found.state.next_due_at == at("10:12")


def test_what_is_found_within_the_grace_fires_one_by_one() -> None:
    for policy in ("SKIP", "FIRE_ONCE", "CATCH_UP"):
        past = schedule(misfire_policy=policy, misfire_grace_s=600, overlap_policy="ALLOW")
        assert decided(past, "10:03") == [("10:01", "fired"), ("10:02", "fired"), ("10:03", "fired")]


def test_more_than_a_thousand_missed_times_are_counted() -> None:
    past = schedule(Timing(interval_s=1), misfire_policy="SKIP")
    missed, *fired = past.when(DecideDue(), at("11:00")).events
    assert isinstance(missed, DueTimesMissed)
    assert (len(missed.due_at), missed.more) == (1_000, 3_600 - 61 - 1_000)
    assert len(fired) == 61


def test_jitter_puts_off_the_start_by_the_same_amount_everywhere() -> None:
    past = schedule(jitter_s=600, overlap_policy="ALLOW", misfire_grace_s=3600)
    events = [event for event in past.when(DecideDue(), at("10:30")).events if isinstance(event, DueFired)]
    delays = [(event.start_at - event.due_at).total_seconds() for event in events]
    assert all(0 <= delay <= 600 for delay in delays)
    assert len(set(delays)) > 20
    assert events == [event for event in past.when(DecideDue(), at("10:30")).events if isinstance(event, DueFired)]
