"""What the ticker is told of the times that runs wait for."""

import asyncio

import pytest
from lives import at
from projected import Given, read_model
from run_lives import cancel_asked, completed, failed, over, skipped, started, stopped, triggered, woken

from projections import run_timers
from projections.run_timers import PROJECTION, Timer
from rgrid.kernel.messages import Event
from rgrid.workflows.events import RunTimedOut


def due(
    database: str, given: Given, seconds: float = 1_000_000
) -> list[tuple[str, str, str | None, int | None, float]]:
    """(run, kind, step, attempt, seconds) of what is due then, after the events one by one and as one page."""

    async def found(page: int) -> list[Timer]:
        async with read_model(database, PROJECTION, given, page=page) as connection:
            return await run_timers.due(connection, at(seconds))

    apart, together = asyncio.run(found(1)), asyncio.run(found(1_000))
    assert apart == together
    return [(one.run_id, one.kind, one.step, one.attempt, (one.due_at - at(0)).total_seconds()) for one in together]


def test_a_wait_and_the_timeouts_are_due_in_the_order_of_their_times(database: str) -> None:
    log = [
        ("run-r1", triggered(times_out_at=at(100))),
        ("run-r1", started("a", wakes_at=at(60), times_out_at=at(80))),
        ("run-r2", triggered()),
        ("run-r2", started("b", times_out_at=at(40))),
    ]
    assert due(database, log) == [
        ("r2", "step_timeout", "b", 1, 40),
        ("r1", "wait", "a", 1, 60),
        ("r1", "step_timeout", "a", 1, 80),
        ("r1", "run_timeout", None, None, 100),
    ]
    assert [timer[1] for timer in due(database, log, 60)] == ["step_timeout", "wait"]
    assert due(database, log, 39.9) == []


def test_the_end_of_a_step_ends_its_timers_and_no_others(database: str) -> None:
    begun = [
        ("run-r1", triggered()),
        ("run-r1", started("a", wakes_at=at(60))),
        ("run-r1", started("b", times_out_at=at(70))),
    ]
    for end in (completed("a"), failed("a"), stopped("a"), skipped("a")):
        assert due(database, [*begun, ("run-r1", end)]) == [("r1", "step_timeout", "b", 1, 70)]


def test_a_failed_try_waits_for_its_next_one_until_that_starts(database: str) -> None:
    log = [("run-r1", triggered()), ("run-r1", started("a", times_out_at=at(9))), ("run-r1", failed("a", again=30))]
    assert due(database, log) == [("r1", "retry", "a", 1, 30)]
    again = [*log, ("run-r1", started("a", 31, attempt=2, times_out_at=at(90)))]
    assert due(database, again) == [("r1", "step_timeout", "a", 2, 90)]


def test_a_try_that_was_woken_waits_for_no_time(database: str) -> None:
    log = [("run-r1", triggered()), ("run-r1", failed("a", again=30)), ("run-r1", woken("a", 30))]
    assert due(database, log) == []


@pytest.mark.parametrize("stop", [cancel_asked(3), RunTimedOut(timed_out_at=at(3)), over("FAILED", 3)])
def test_a_run_that_is_stopped_or_has_ended_waits_for_no_time(database: str, stop: Event) -> None:
    log: list[tuple[str, Event]] = [
        ("run-r1", triggered(times_out_at=at(100))),
        ("run-r1", started("a", wakes_at=at(60))),
        ("run-r1", failed("b", again=30)),
        ("run-r1", stop),
    ]
    assert due(database, log) == []


def test_pages_continue_behind_the_last_timer_of_the_page_before(database: str) -> None:
    log = [(f"run-r{n}", triggered(times_out_at=at(n % 3))) for n in range(7)]

    async def pages() -> list[str]:
        async with read_model(database, PROJECTION, log) as connection:
            seen: list[Timer] = []
            while page := await run_timers.due(connection, at(10), seen[-1] if seen else None):
                seen += page
            return [one.run_id for one in seen]

    limit, run_timers.PAGE_MAX = run_timers.PAGE_MAX, 2  # type: ignore[misc]
    try:
        assert asyncio.run(pages()) == ["r0", "r3", "r6", "r1", "r4", "r2", "r5"]
    finally:
        run_timers.PAGE_MAX = limit  # type: ignore[misc]


def test_it_is_known_how_late_the_oldest_timer_is(database: str) -> None:
    async def seen(seconds: float) -> tuple[int, float]:
        log = [("run-r1", triggered(times_out_at=at(100))), ("run-r1", started("a", wakes_at=at(60)))]
        async with read_model(database, PROJECTION, log) as connection:
            return await run_timers.waiting(connection, at(seconds))

    assert asyncio.run(seen(0)) == (2, 0.0)
    assert asyncio.run(seen(63)) == (2, 3.0)
