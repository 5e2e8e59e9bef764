"""Each due time has exactly one decision: whatever the clocks do, however many tickers look, whenever one is killed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from schedules.decision_checker import problems
from schedules.schedules_given import at, create, schedule

from rgrid.kernel.errors import RgridError
from rgrid.schedules.active_runs import startable
from rgrid.schedules.commands import (
    Backfill,
    DecideDue,
    DeleteSchedule,
    DisableSchedule,
    EnableSchedule,
    EndScheduleRun,
    ReviseSchedule,
    RunNow,
    ScheduleCommand,
    StartScheduleRun,
)
from rgrid.schedules.events import DueFired, DueSkipped, Rules, ScheduleEvent, Target, Timing
from rgrid.schedules.schedule import DECIDER
from rgrid.schedules.schedule_state import Schedule

START = datetime(2026, 10, 31, 22, 0, tzinfo=UTC)  # hours before New York sets its clocks back
TIMINGS = st.sampled_from(
    [
        Timing(interval_s=60),
        Timing(interval_s=7),
        Timing(cron="* * * * *", timezone="America/New_York"),
        Timing(cron="*/10 0-3 * * *", timezone="America/New_York", dst_fold="BOTH"),
        Timing(cron="30 1 * * *", timezone="America/New_York"),
        Timing(cron="15,45 */2 * * *", timezone="Europe/Berlin", end_at=START + timedelta(hours=9)),
        Timing(run_at=START + timedelta(hours=2)),
    ]
)
RULES = st.builds(
    Rules,
    max_instances=st.integers(1, 3),
    overlap_policy=st.sampled_from(["SKIP", "BUFFER_ONE", "QUEUE", "CANCEL_OTHER", "TERMINATE_OTHER", "ALLOW"]),
    misfire_policy=st.sampled_from(["SKIP", "FIRE_ONCE", "CATCH_UP"]),
    misfire_grace_s=st.sampled_from([0, 60, 3600]),
    catch_up_limit=st.integers(1, 5),
    jitter_s=st.sampled_from([0, 30]),
    pause_after_failures=st.sampled_from([None, 2]),
)
WAITS = st.one_of(st.floats(0, 3), st.floats(0, 400), st.floats(0, 40_000)).map(lambda s: timedelta(seconds=s))
WHO = st.integers(0, 1)


class Ticker:
    """A process with its own clock, and what it last saw of the log."""

    def __init__(self) -> None:
        self.skew = timedelta(0)
        self.version = 0
        self.state = DECIDER.initial


class Schedules(RuleBasedStateMachine):
    """Two tickers on one log, which takes events only from who has seen all that is there, as the event store does."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[ScheduleEvent] = []
        self.time = START
        self.tickers = [Ticker(), Ticker()]
        self.names = 0

    def send(self, who: int, command: ScheduleCommand, *, killed: bool = False) -> None:
        """Decide on what this process knows; when somebody was faster, read and decide again."""
        ticker = self.tickers[who]
        for _ in range(2):
            try:
                events = DECIDER.decide(command, ticker.state, self.time + ticker.skew)
            except RgridError:
                events = []
            if killed:
                return
            known = ticker.version == len(self.log)
            if known:
                self.log += events
            ticker.state = DECIDER.fold(ticker.state, self.log[ticker.version :])
            ticker.version = len(self.log)
            if known:
                return
        raise AssertionError("nobody else was there")

    def name(self) -> str:
        self.names += 1
        return f"name{self.names}"

    @initialize(timing=TIMINGS, rules=RULES, enabled=st.booleans())
    def make(self, timing: Timing, rules: Rules, enabled: bool) -> None:
        plain = {name: getattr(rules, name) for name in rules.__struct_fields__}
        self.log += DECIDER.decide(create(timing, enabled=enabled, **plain), DECIDER.initial, START)

    @rule(who=WHO, wait=WAITS)
    def time_goes_by_and_one_ticks(self, who: int, wait: timedelta) -> None:
        self.time += wait
        self.send(who, DecideDue())

    @rule(who=WHO)
    def one_is_killed_between_deciding_and_recording(self, who: int) -> None:
        self.send(who, DecideDue(), killed=True)
        self.tickers[who] = Ticker()

    @rule(who=WHO, skew=st.one_of(st.floats(-90, 90), st.floats(-20_000, 20_000)))
    def a_clock_is_set(self, who: int, skew: float) -> None:
        self.tickers[who].skew = timedelta(seconds=skew)

    @rule(who=WHO)
    def it_is_enabled(self, who: int) -> None:
        self.send(who, EnableSchedule(enabled_by="k"))

    @rule(who=WHO)
    def it_is_disabled(self, who: int) -> None:
        self.send(who, DisableSchedule(disabled_by="k"))

    @rule(who=WHO, timing=TIMINGS, rules=RULES)
    def it_is_revised(self, who: int, timing: Timing, rules: Rules) -> None:
        target = Target(type="WORKFLOW", name="sales.weekly_refresh")
        self.send(
            who,
            ReviseSchedule(target=target, timing=timing, rules=rules, description=None, tags=[], revised_by="k"),
        )

    @rule(who=WHO)
    def somebody_runs_it_by_hand(self, who: int) -> None:
        self.send(who, RunNow(schedule_run_id=self.name(), requested_by="k"))

    @rule(who=WHO, count=st.integers(1, 5), parallel=st.integers(1, 3))
    def somebody_fills_in_the_past(self, who: int, count: int, parallel: int) -> None:
        times = [START - timedelta(hours=hours) for hours in range(1, count + 1)]
        self.send(who, Backfill(backfill_id=self.name(), due_at=times, max_parallel=parallel, requested_by="k"))

    @rule(who=WHO)
    def what_may_start_starts(self, who: int) -> None:
        ticker = self.tickers[who]
        for run in startable(ticker.state.runs, self.time + ticker.skew):
            self.send(who, StartScheduleRun(schedule_run_id=run.schedule_run_id, target_id="run_1"))

    @rule(who=WHO, which=st.integers(0, 100), status=st.sampled_from(["COMPLETED", "FAILED", "CANCELLED"]))
    def a_run_ends(self, who: int, which: int, status: Any) -> None:
        if runs := list(self.tickers[who].state.runs):
            self.send(who, EndScheduleRun(schedule_run_id=runs[which % len(runs)], status=status))

    @precondition(lambda self: len(self.log) > 20)
    @rule(who=WHO)
    def it_is_deleted(self, who: int) -> None:
        self.send(who, DeleteSchedule(deleted_by="k"))

    @invariant()
    def each_due_time_has_one_decision(self) -> None:
        assert problems(self.log) == []

    @invariant()
    def no_more_begin_than_may(self) -> None:
        """Nothing waits while there is a place, and only what is allowed to goes beside others."""
        state = DECIDER.fold(DECIDER.initial, self.log)
        held = [run for run in state.runs.values() if run.stage != "waiting"]
        queued = [run for run in state.runs.values() if run.stage == "waiting" and run.backfill_id is None]
        assert not queued or len(held) >= state.rules.max_instances
        for backfill_id, max_parallel in state.backfills.items():
            assert sum(run.backfill_id == backfill_id for run in held) <= max_parallel

    @invariant()
    def a_snapshot_is_the_state(self) -> None:
        state = DECIDER.fold(DECIDER.initial, self.log)
        assert msgspec.json.decode(msgspec.json.encode(state), type=Schedule) == state

    def teardown(self) -> None:
        """In the end, with the right time, nothing stays open."""
        if self.log:
            for ticker in self.tickers:
                ticker.skew = timedelta(0)
            for _ in range(50):
                before = len(self.log)
                self.send(0, DecideDue())
                if len(self.log) == before and self.tickers[0].version == before:
                    break
            assert problems(self.log, self.time) == []


TestSchedules = Schedules.TestCase
TestSchedules.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# The checker must be able to fail.


def history() -> list[ScheduleEvent]:
    past = schedule(Timing(interval_s=60), overlap_policy="ALLOW")
    for minute in range(1, 6):
        past = past.when(DecideDue(), at(f"10:0{minute}")).after
    return list(past.past)


def test_an_honest_log_has_no_problems() -> None:
    assert problems(history(), at("10:05")) == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda log: log.pop(2), "where 2 times were due"),
        (lambda log: log.append(log[-1]), "was decided about when"),
        (lambda log: log.insert(2, log[1]), "was decided about when"),
        (lambda log: log.pop(), "is still open"),
        (lambda log: log.__setitem__(3, moved(log[3])), "was decided about and never due"),
    ],
)
def test_a_spoilt_log_is_found_out(spoil: Any, words: str) -> None:
    log = history()
    spoil(log)
    found = problems(log, at("10:05"))
    assert any(words in one for one in found), found


def moved(event: ScheduleEvent) -> ScheduleEvent:
    assert isinstance(event, DueFired)
    return DueSkipped(
        schedule_run_id="srun_x",
        due_at=event.due_at + timedelta(seconds=1),
        reason="overlap",
        decided_at=event.decided_at + timedelta(seconds=1),
    )
