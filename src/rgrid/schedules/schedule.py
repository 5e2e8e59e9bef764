"""The schedule aggregate: what is to start when, and one decision for every due time. Stream `schedule-{id}`.

The cursor is the last due time that was decided about, or the moment from which times count; it never moves back, so
no due time has two decisions, whoever asks, how often and by which clock.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from rgrid.kernel.decider import Decider
from rgrid.kernel.errors import NotFound, Rejected
from rgrid.schedules import commands as do
from rgrid.schedules import events as on
from rgrid.schedules.active_runs import droppable, holding, waiting
from rgrid.schedules.misfire import MISSED_MAX, sort_out
from rgrid.schedules.overlap import admit, jitter
from rgrid.schedules.schedule_state import FAILED, INITIAL, Schedule, anchor_of, evolve
from rgrid.schedules.timing import check, count_due, latest_due, next_due

BACKFILL_MAX: Final = 1_000
"""So many due times has a backfill."""
BACKFILLS_MAX: Final = 10
"""So many backfills of a schedule are under way at once."""


class _Draft:
    """The events so far, and the state that they lead to."""

    def __init__(self, state: Schedule) -> None:
        self.state = state
        self.events: list[on.ScheduleEvent] = []

    def add(self, *events: on.ScheduleEvent) -> None:
        for event in events:
            self.events.append(event)
            self.state = evolve(self.state, event)


def decide(command: do.ScheduleCommand, state: Schedule, now: datetime) -> Sequence[on.ScheduleEvent]:
    """The events that follow, `[]` when it is so already. Refuses with NotFound, Rejected, and Invalid of `check`."""
    match command:
        case do.CreateSchedule():
            return [] if state.status != "absent" else [_created(command, now)]
        case do.DecideDue():
            return _decide_due(command, state, now)
        case do.StartScheduleRun():
            run = state.runs.get(command.schedule_run_id)
            if run is None or run.stage != "pending":
                return []
            return [_started(command.schedule_run_id, command.target_id, now)]
        case do.EndScheduleRun():
            return _end(command, state, now)
    if not state.exists:
        raise NotFound("Schedule not found.")
    match command:
        case do.ReviseSchedule():
            return _revise_all(command, state, now)
        case do.EnableSchedule():
            return _enable(command.enabled_by, state, now)
        case do.DisableSchedule(disabled_by=actor, note=note):
            return _disable(actor, note, state, now)
        case do.DeleteSchedule(deleted_by=actor):
            dropped = [run.schedule_run_id for run in state.runs.values() if run.stage != "running"]
            return [*_passed(state, now), on.ScheduleDeleted(deleted_by=actor, dropped=dropped, deleted_at=now)]
        case do.RunNow():
            return _run_now(command, state, now)
        case do.Backfill():
            return _backfill(command, state, now)


def _created(command: do.CreateSchedule, now: datetime) -> on.ScheduleCreated:
    check(command.timing, now)
    return on.ScheduleCreated(
        schedule_id=command.schedule_id,
        name=command.name,
        target=command.target,
        timing=command.timing,
        rules=command.rules,
        enabled=command.enabled,
        description=command.description,
        tags=command.tags,
        created_by=command.created_by,
        created_at=now,
        next_due_at=next_due(command.timing, now, now) if command.enabled else None,
    )


def _revise_all(command: do.ReviseSchedule, state: Schedule, now: datetime) -> Sequence[on.ScheduleEvent]:
    draft = _Draft(state)
    draft.add(*_revise(command, state, now))
    if command.enabled is True:
        draft.add(*_enable(command.revised_by, draft.state, now))
    elif command.enabled is False:
        draft.add(*_disable(command.revised_by, None, draft.state, now))
    return draft.events


def _revise(command: do.ReviseSchedule, state: Schedule, now: datetime) -> Sequence[on.ScheduleEvent]:
    held = (state.target, state.timing, state.rules, state.description, state.tags)
    if held == (command.target, command.timing, command.rules, command.description, command.tags):
        return []
    retimed = command.timing != state.timing
    due_at = state.next_due_at
    if retimed:
        check(command.timing, now)
        due_at = _next_from_now(state, command.timing, now) if state.status == "enabled" else None
    draft = _Draft(state)
    if retimed:
        draft.add(*_passed(state, now))
    draft.add(
        on.ScheduleRevised(
            target=command.target,
            timing=command.timing,
            rules=command.rules,
            description=command.description,
            tags=command.tags,
            retimed=retimed,
            revised_by=command.revised_by,
            revised_at=now,
            next_due_at=due_at,
        )
    )
    _release(draft, now)
    return draft.events


def _disable(actor: str, note: str | None, state: Schedule, now: datetime) -> Sequence[on.ScheduleEvent]:
    dropped = droppable(state.runs)
    if state.status == "disabled" and not dropped:
        return []
    disabled = on.ScheduleDisabled(disabled_by=actor, note=note, dropped=dropped, disabled_at=now)
    return [*_passed(state, now), disabled]


def _enable(actor: str, state: Schedule, now: datetime) -> Sequence[on.ScheduleEvent]:
    if state.status == "enabled":
        return []
    if state.timing.run_at is not None and state.timing.run_at <= max(now, state.cursor):
        raise Rejected("Its one time to run at has passed: give it a new one first.", code="run_at_passed")
    due_at = _next_from_now(state, state.timing, now)
    return [on.ScheduleEnabled(enabled_by=actor, enabled_at=now, next_due_at=due_at)]


def _next_from_now(state: Schedule, timing: on.Timing, now: datetime) -> datetime | None:
    """The first due time when times count from now on; never one that was decided about, though the clock went back."""
    return next_due(timing, anchor_of(state, timing, now), max(state.cursor, now))


def _decide_due(command: do.DecideDue, state: Schedule, now: datetime) -> Sequence[on.ScheduleEvent]:
    if state.status != "enabled" or state.next_due_at is None or state.next_due_at > now:
        return []
    timing, anchor = state.timing, state.interval_anchor
    found = sort_out(timing, state.rules, anchor, state.cursor, now)
    draft = _Draft(state)
    if found.missed:
        following = found.firing[0] if found.firing else next_due(timing, anchor, found.missed[-1])
        draft.add(
            on.DueTimesMissed(due_at=found.missed, more=found.more, decided_at=now, next_due_at=following),
        )
    for index, due_at in enumerate(found.firing, 1):
        following = found.firing[index] if index < len(found.firing) else next_due(timing, anchor, due_at)
        fired = _come_due(draft, due_at, following, now, catching_up=found.catching_up)
        if fired is not None and fired.start_at <= now and fired.schedule_run_id in command.targets:
            draft.add(_started(fired.schedule_run_id, command.targets[fired.schedule_run_id], now))
    if draft.events and timing.run_at is not None:
        draft.add(on.ScheduleDisabled(disabled_by="system", note="Its one time has come.", disabled_at=now))
    return draft.events


def _come_due(
    draft: _Draft, due_at: datetime, following: datetime | None, now: datetime, *, catching_up: bool
) -> on.DueFired | None:
    """The event of a run that has a place."""
    state = draft.state
    run_id = on.run_id_of(state.schedule_id, due_at)
    admission = admit(state.rules, state.runs, catching_up=catching_up)
    if admission.decision is None:
        assert admission.reason is not None
        draft.add(
            on.DueSkipped(
                schedule_run_id=run_id, due_at=due_at, reason=admission.reason, decided_at=now, next_due_at=following
            )
        )
        return None
    running = [gone for gone in admission.cancels if state.runs[gone].stage == "running"]
    for gone in admission.cancels:
        if gone not in running:
            why = f"It made way for the run of {due_at.isoformat()} before it began."
            draft.add(on.ScheduleRunEnded(schedule_run_id=gone, status="CANCELLED", error=why, ended_at=now))
    fired = on.DueFired(
        schedule_run_id=run_id,
        due_at=due_at,
        trigger="SCHEDULE",
        decision=admission.decision,
        start_at=due_at + jitter(state.schedule_id, due_at, state.rules),
        cancels=running,
        terminates=bool(running) and state.rules.overlap_policy == "TERMINATE_OTHER",
        decided_at=now,
        next_due_at=following,
    )
    draft.add(fired)
    _release(draft, now)
    return fired if fired.decision == "fired" else None


def _run_now(command: do.RunNow, state: Schedule, now: datetime) -> Sequence[on.ScheduleEvent]:
    if command.schedule_run_id in state.runs:
        return []
    fired = on.DueFired(
        schedule_run_id=command.schedule_run_id,
        due_at=now,
        trigger="MANUAL",
        decision="fired",
        start_at=now,
        params_sha256=command.params_sha256,
        requested_by=command.requested_by,
        decided_at=now,
        next_due_at=state.next_due_at,
    )
    if command.target_id is None:
        return [fired]
    return [fired, _started(command.schedule_run_id, command.target_id, now)]


def _started(schedule_run_id: str, target_id: str, now: datetime) -> on.ScheduleRunStarted:
    return on.ScheduleRunStarted(schedule_run_id=schedule_run_id, target_id=target_id, started_at=now)


def _backfill(command: do.Backfill, state: Schedule, now: datetime) -> Sequence[on.ScheduleEvent]:
    if state.timing.run_at is not None:
        raise Rejected("A schedule with one date has nothing to fill in.", code="not_repeating")
    if command.backfill_id in state.backfills or not command.due_at:
        return []
    if len(state.backfills) >= BACKFILLS_MAX:
        raise Rejected(f"{BACKFILLS_MAX} backfills of it are under way: wait for one.", code="backfill_in_progress")
    assert len(command.due_at) <= BACKFILL_MAX
    times = sorted(command.due_at)
    asked = on.BackfillRequested(
        backfill_id=command.backfill_id,
        due_at=times,
        max_parallel=command.max_parallel,
        requested_by=command.requested_by,
        requested_at=now,
    )
    return [
        asked,
        *(
            on.DueFired(
                schedule_run_id=on.run_id_of(state.schedule_id, due_at, command.backfill_id),
                due_at=due_at,
                trigger="BACKFILL",
                decision="fired" if index < command.max_parallel else "buffered",
                start_at=now,
                requested_by=command.requested_by,
                backfill_id=command.backfill_id,
                decided_at=now,
                next_due_at=state.next_due_at,
            )
            for index, due_at in enumerate(times)
        ),
    ]


def _end(command: do.EndScheduleRun, state: Schedule, now: datetime) -> Sequence[on.ScheduleEvent]:
    if command.schedule_run_id not in state.runs:
        return []
    draft = _Draft(state)
    draft.add(
        on.ScheduleRunEnded(
            schedule_run_id=command.schedule_run_id, status=command.status, error=command.error, ended_at=now
        )
    )
    allowed, failures = state.rules.pause_after_failures, draft.state.failures
    if state.status == "enabled" and allowed is not None and command.status in FAILED and failures >= allowed:
        note = f"Paused: {failures} runs in a row failed." if failures > 1 else "Paused: a run failed."
        dropped = droppable(draft.state.runs)
        draft.add(*_passed(draft.state, now))
        draft.add(on.ScheduleDisabled(disabled_by="system", note=note, dropped=dropped, disabled_at=now))
    _release(draft, now)
    return draft.events


def _passed(state: Schedule, now: datetime) -> list[on.DueTimesMissed]:
    """What has come due and wasn't decided about, when due times stop counting: it fires no more, but is recorded."""
    if state.status != "enabled" or state.next_due_at is None or state.next_due_at > now:
        return []
    missed = latest_due(state.timing, state.interval_anchor, state.cursor, now, MISSED_MAX)
    more = count_due(state.timing, state.interval_anchor, state.cursor, now) - len(missed)
    return [on.DueTimesMissed(due_at=missed, more=more, decided_at=now)] if missed else []


def _release(draft: _Draft, now: datetime) -> None:
    """Let those begin that waited, as far as there are places."""
    state = draft.state
    free = max(0, state.rules.max_instances - len(holding(state.runs)))
    freed = waiting(state.runs)[:free]
    for backfill_id, max_parallel in state.backfills.items():
        begun = sum(1 for run in holding(state.runs) if run.backfill_id == backfill_id)
        freed += waiting(state.runs, backfill_id)[: max(0, max_parallel - begun)]
    for run in freed:
        draft.add(
            on.ScheduleRunReleased(
                schedule_run_id=run.schedule_run_id, start_at=max(now, run.start_at), released_at=now
            )
        )


DECIDER: Final = Decider[do.ScheduleCommand, Schedule, on.ScheduleEvent](
    noun="schedule", initial=INITIAL, decide=decide, evolve=evolve, snapshot_version=1
)
