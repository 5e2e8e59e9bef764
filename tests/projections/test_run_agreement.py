"""What is shown of a run is what its decisions go by: the folded detail, the row of the list and the timers,
after any events that a run of any shape leaves."""

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from projected import read_model, recorded
from workflows.any_run import Life, definitions
from workflows.test_run_invariants import RANDOM, lived

from projections import run_timers, workflow_runs
from projections.run_detail import Detail, fold
from rgrid.kernel.messages import Event
from rgrid.postgres.paging import Window
from rgrid.workflows.commands import TriggerRun
from rgrid.workflows.run import DECIDER
from rgrid.workflows.run_state import Run

Timers = set[tuple[str, str | None, int | None, Any]]


def cut(life: Life, random: Any) -> list[Event]:
    """The events of a life, up to an append of it or to its end."""
    upto = random.choice([len(life.appends), random.randint(1, len(life.appends))])
    return [event for append in life.appends[:upto] for event in append]


def detail_of(events: list[Event]) -> Detail:
    detail = fold(recorded([("run-r1", event) for event in events]))
    assert detail is not None
    return detail


@settings(max_examples=150, deadline=None)
@given(definitions(), RANDOM, st.floats(0, 0.3))
def test_the_detail_shows_the_state_that_decisions_go_by(wish: TriggerRun, random: Any, meddling: float) -> None:
    events = cut(lived(wish, random, meddling), random)
    run, detail = DECIDER.fold(DECIDER.initial, events), detail_of(events)
    assert (detail.status, detail.version) == (run.status, len(events))
    assert list(detail.latest) == list(run.steps)
    for name, state in run.steps.items():
        one = detail.latest[name]
        assert (one.status, one.skip_reason, one.outputs) == (state.status, state.skip_reason, state.outputs), name
        assert (one.taken, one.row_count) == (state.taken, state.row_count)
        if one.status not in ("PENDING", "SKIPPED"):
            assert one.attempt == state.attempt
        if not run.is_ended and not state.woken:
            assert one.next_attempt_at == state.next_attempt_at
        attempts = [each.attempt for each in detail.tries if each.step == name]
        assert attempts == list(range(1, len(attempts) + 1)), "one record for each try"
        assert all(each.is_over for each in detail.tries if each.step == name and each is not one)
    if run.is_ended:
        ended = detail.count("COMPLETED", "FAILED", "SKIPPED", "CANCELLED")
        assert ended == len(run.steps)


def waited_for(run: Run) -> Timers:
    """By the state: what a WakeRun would do something at."""
    if run.is_ended or run.is_stopping:
        return set()
    found: Timers = set()
    if run.asked.times_out_at is not None:
        found.add(("run_timeout", None, None, run.asked.times_out_at))
    for name, step in run.steps.items():
        if step.is_in_flight:
            found |= {
                ("wait", name, step.attempt, step.wakes_at),
                ("step_timeout", name, step.attempt, step.times_out_at),
            }
        if step.is_retried and not step.woken:
            found.add(("retry", name, step.attempt, step.next_attempt_at))
    return {timer for timer in found if timer[3] is not None}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(definitions(), RANDOM, st.floats(0, 0.3), st.integers(1, 30))
def test_the_list_and_the_timers_show_the_same(
    database: str, wish: TriggerRun, random: Any, meddling: float, page: int
) -> None:
    events = cut(lived(wish, random, meddling), random)
    run, detail = DECIDER.fold(DECIDER.initial, events), detail_of(events)
    log = [("run-r1", event) for event in events]

    async def shown() -> tuple[dict[str, Any], Timers]:
        async with read_model(database, workflow_runs.PROJECTION, log, page=page) as connection:
            window = Window(keys=(workflow_runs.KEYS["created_at"], workflow_runs.KEYS["run_id"]))
            (row,) = (await workflow_runs.page(connection, workflow_runs.Filter(status=run.status), window)).rows
        async with read_model(database, run_timers.PROJECTION, log, page=page) as connection:
            rows = await connection.fetch("select * from run_timers")
        timers = {(one["kind"], one["step"] or None, one["attempt"] or None, one["due_at"]) for one in rows}
        return dict(row), timers

    row, timers = asyncio.run(shown())
    assert (row["status"], row["started_at"], row["duration_ms"]) == (
        detail.status,
        detail.started_at,
        detail.duration_ms,
    )
    assert row["completed_at"] == (detail.ended.ended_at if detail.ended else None)
    assert row["error"] == (detail.ended.error if detail.ended else None)
    assert (row["completed_steps"], row["skipped_steps"]) == (detail.count("COMPLETED"), detail.count("SKIPPED"))
    if run.is_ended:
        assert row["failed_steps"] == detail.count("FAILED")
    # Of steps that have failed for good since nothing new starts, a timer may be left until the run ends.
    wanted = waited_for(run)
    assert timers == wanted or (
        run.is_halted and timers >= wanted and all(one[0] == "retry" for one in timers - wanted)
    )
