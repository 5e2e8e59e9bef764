"""What a schedule decides about its runs: those in each other's way, their ends, and those by hand."""

from datetime import timedelta

from given import Given
from schedules.schedules_given import (
    DELETE,
    DISABLE,
    ENABLE,
    ID,
    at,
    decided,
    ended,
    run_id,
    schedule,
    started,
    told,
)

from rgrid.schedules.commands import (
    Backfill,
    DecideDue,
    EndScheduleRun,
    RunNow,
    StartScheduleRun,
)
from rgrid.schedules.events import (
    BackfillRequested,
    DueFired,
    ScheduleDeleted,
    ScheduleDisabled,
    ScheduleRunEnded,
    ScheduleRunReleased,
    ScheduleRunStarted,
    Timing,
    run_id_of,
)
from rgrid.schedules.schedule import BACKFILLS_MAX, DECIDER


def busy(overlap: str, **rules: object) -> Given:
    """The run of 10:01 has begun."""
    fired = schedule(overlap_policy=overlap, **rules).when(DecideDue(), at("10:01")).then(DueFired)
    return started(fired, "10:01")


def test_a_time_is_skipped_while_the_last_run_goes_on() -> None:
    assert decided(busy("SKIP"), "10:02") == [("10:02", "overlap")]


def test_a_run_that_has_not_begun_counts_too() -> None:
    fired = schedule().when(DecideDue(), at("10:01")).after
    assert decided(fired, "10:02") == [("10:02", "overlap")]


def test_several_instances_may_run() -> None:
    assert decided(busy("SKIP", max_instances=2), "10:02") == [("10:02", "fired")]


def test_one_may_wait() -> None:
    waits = busy("BUFFER_ONE").when(DecideDue(), at("10:02")).then(DueFired)
    assert decided(waits, "10:03") == [("10:03", "overlap")]
    waits.when(StartScheduleRun(schedule_run_id=run_id("10:02"), target_id="run_1")).then_nothing()
    end, release = ended(waits, "10:01", "10:05")
    assert isinstance(end, ScheduleRunEnded)
    assert release == ScheduleRunReleased(
        schedule_run_id=run_id("10:02"), start_at=at("10:05"), released_at=at("10:05")
    )


def test_a_hundred_may_queue() -> None:
    full = busy("QUEUE", misfire_grace_s=86_400).when(DecideDue(), at("11:41")).after
    assert sum(run.stage == "waiting" for run in full.state.runs.values()) == 100
    assert decided(full, "11:42") == [("11:42", "queue_full")]
    _, release = ended(full, "10:01", "11:45")
    assert isinstance(release, ScheduleRunReleased)
    assert release.schedule_run_id == run_id("10:02")


def test_the_oldest_makes_way_and_the_new_one_waits_for_its_end() -> None:
    for policy, terminates in (("CANCEL_OTHER", False), ("TERMINATE_OTHER", True)):
        (fired,) = busy(policy).when(DecideDue(), at("10:02")).events
        assert isinstance(fired, DueFired)
        assert (fired.decision, fired.cancels, fired.terminates) == ("buffered", [run_id("10:01")], terminates)


def test_what_waits_makes_way_without_having_begun() -> None:
    waits = busy("CANCEL_OTHER").when(DecideDue(), at("10:02")).after
    gone, fired = waits.when(DecideDue(), at("10:03")).events
    assert isinstance(gone, ScheduleRunEnded) and isinstance(fired, DueFired)
    assert (gone.schedule_run_id, gone.status) == (run_id("10:02"), "CANCELLED")
    assert (fired.decision, fired.cancels) == ("buffered", [])
    after = waits.when(DecideDue(), at("10:03")).after
    _, release = ended(after, "10:01", "10:04", "CANCELLED")
    assert isinstance(release, ScheduleRunReleased)
    assert release.schedule_run_id == run_id("10:03")


def test_all_may_run_at_once() -> None:
    assert decided(busy("ALLOW"), "10:02") == [("10:02", "fired")]


# Starting, ending, pausing.


def test_a_run_starts_once_and_ends_once() -> None:
    running = busy("SKIP")
    running.when(StartScheduleRun(schedule_run_id=run_id("10:01"), target_id="run_2")).then_nothing()
    over = running.when(EndScheduleRun(schedule_run_id=run_id("10:01"), status="COMPLETED")).then(ScheduleRunEnded)
    over.when(EndScheduleRun(schedule_run_id=run_id("10:01"), status="FAILED")).then_nothing()
    over.when(StartScheduleRun(schedule_run_id=run_id("10:01"), target_id="run_2")).then_nothing()
    assert over.state.runs == {}


def fail(past: Given, minute: int, status: str = "FAILED") -> Given:
    time = f"10:{minute:02}"
    fired = past.when(DecideDue(), at(time)).then(DueFired)
    return fired.when(EndScheduleRun(schedule_run_id=run_id(time), status=status), at(time)).after  # type: ignore[arg-type]


def test_failures_in_a_row_pause_it_with_a_note() -> None:
    twice = fail(fail(schedule(pause_after_failures=3), 1), 2, "PARTIAL")
    assert twice.state.status == "enabled"
    paused = fail(twice, 3)
    assert paused.state.status == "disabled"
    assert paused.past[-1] == ScheduleDisabled(
        disabled_by="system", note="Paused: 3 runs in a row failed.", disabled_at=at("10:03")
    )


def test_a_success_or_an_enable_counts_failures_anew() -> None:
    mixed = fail(fail(fail(schedule(pause_after_failures=2), 1), 2, "COMPLETED"), 3)
    assert mixed.state.status == "enabled"
    paused = fail(mixed, 4)
    assert paused.state.status == "disabled"
    assert fail(paused.when(ENABLE, at("10:04")).after, 5).state.status == "enabled"


def test_disabling_drops_what_waits_and_lets_go_on_what_runs() -> None:
    waits = busy("QUEUE").when(DecideDue(), at("10:02")).after
    off = waits.when(DISABLE, at("10:02")).then(ScheduleDisabled)
    assert list(off.state.runs) == [run_id("10:01")]
    last = off.past[-1]
    assert isinstance(last, ScheduleDisabled) and last.dropped == [run_id("10:02")]
    assert [type(event) for event in ended(off, "10:01", "10:09")] == [ScheduleRunEnded]


def test_deleting_drops_what_waits_and_follows_what_runs() -> None:
    gone = busy("QUEUE").when(DecideDue(), at("10:02")).after.when(DELETE, at("10:02")).then(ScheduleDeleted)
    gone.when(DecideDue(), at("10:03")).then_nothing()
    assert [type(event) for event in ended(gone, "10:01", "10:09")] == [ScheduleRunEnded]


# By hand.


def test_running_now_ignores_everything_and_changes_no_cadence() -> None:
    ask = RunNow(schedule_run_id="srun_1", target_id="run_1", requested_by="key:k", params_sha256="f" * 64)
    off = busy("SKIP").when(DISABLE, at("10:01")).after
    ran = off.when(ask, at("10:01")).then(DueFired, ScheduleRunStarted)
    assert (ran.state.status, ran.state.next_due_at, ran.state.cursor) == ("disabled", None, at("10:01"))
    ran.when(ask).then_nothing()
    on = schedule().when(ask, at("10:30")).after
    assert (on.state.next_due_at, on.state.cursor) == (at("10:01"), at("10:00"))


def test_a_run_by_hand_counts_as_running() -> None:
    ran = schedule().when(RunNow(schedule_run_id="srun_1", requested_by="key:k"), at("10:00")).after
    assert decided(ran, "10:01") == [("10:01", "overlap")]


def backfill(count: int, parallel: int, backfill_id: str = "b1") -> Backfill:
    times = [at("08:00") + timedelta(minutes=minute) for minute in range(count)]
    return Backfill(backfill_id=backfill_id, due_at=times[::-1], max_parallel=parallel, requested_by="key:k")


def test_a_backfill_runs_the_oldest_first_and_so_many_at_a_time() -> None:
    filling = schedule(enabled=False).when(backfill(4, 2)).then(BackfillRequested, *[DueFired] * 4)
    stages = [(f"{run.due_at:%H:%M}", run.stage) for run in filling.state.runs.values()]
    assert stages == [("08:00", "pending"), ("08:01", "pending"), ("08:02", "waiting"), ("08:03", "waiting")]
    first = run_id_of(ID, at("08:00"), "b1")
    after = filling.when(EndScheduleRun(schedule_run_id=first, status="FAILED")).then(
        ScheduleRunEnded, ScheduleRunReleased
    )
    assert [run.stage for run in after.state.runs.values()] == ["pending", "pending", "waiting"]


def test_a_backfill_ends_with_its_last_run() -> None:
    past = schedule(enabled=False).when(backfill(3, 1)).after
    for _ in range(3):
        (run_id, *_) = past.state.runs
        past = past.when(EndScheduleRun(schedule_run_id=run_id, status="COMPLETED")).after
    assert (past.state.runs, past.state.backfills) == ({}, {})


def test_a_backfill_leaves_the_cadence_alone_and_is_dropped_with_the_schedule() -> None:
    filling = schedule().when(backfill(4, 2)).after
    assert (filling.state.next_due_at, filling.state.cursor) == (at("10:01"), at("10:00"))
    off = filling.when(DISABLE, at("10:00")).then(ScheduleDisabled)
    assert (off.state.runs, off.state.backfills) == ({}, {})


def test_a_backfill_is_asked_for_once_and_not_of_a_date() -> None:
    schedule().when(backfill(4, 2)).after.when(backfill(4, 2)).then_nothing()
    schedule(Timing(run_at=at("12:00"))).when(backfill(4, 2)).then_refused("not_repeating")
    past = schedule()
    for index in range(BACKFILLS_MAX):
        past = past.when(backfill(2, 1, f"b{index}")).after
    past.when(backfill(2, 1, "one more")).then_refused("backfill_in_progress")


def test_what_waits_in_a_backfill_takes_no_place_of_the_schedule() -> None:
    filling = schedule(max_instances=2).when(backfill(9, 1)).after
    assert decided(filling, "10:01") == [("10:01", "fired")]


def test_the_state_keeps_nothing_of_what_has_ended() -> None:
    past = schedule(overlap_policy="ALLOW", misfire_grace_s=86_400).when(DecideDue(), at("12:00")).after
    sizes = []
    state = past.state
    for event_id in list(state.runs):
        events = DECIDER.decide(EndScheduleRun(schedule_run_id=event_id, status="COMPLETED"), state, at("12:01"))
        state = DECIDER.fold(state, events)
        sizes.append(len(state.runs))
    assert sizes == list(range(119, -1, -1))


def test_what_came_due_before_the_end_is_recorded_as_missed() -> None:
    for command in (DISABLE, DELETE):
        missed, _ = schedule().when(command, at("10:02")).events
        assert told(missed) == [("10:01", "missed"), ("10:02", "missed")]
