"""One run folded from its stream: each try of each step, and where the whole stands."""

from lives import at
from projected import recorded
from run_lives import (
    OUTLINES,
    cancel_asked,
    completed,
    failed,
    over,
    paused,
    resumed,
    skipped,
    started,
    stopped,
    triggered,
)

from projections.run_detail import Detail, fold
from rgrid.kernel.messages import Event
from rgrid.workflows.document import Outline, RetryPolicy
from rgrid.workflows.events import MapItemEnded, MapItemStarted, RunTimedOut, StepSkipped


def folded(*events: Event) -> Detail:
    detail = fold(recorded([("run-r1", event) for event in events]))
    assert detail is not None
    return detail


def shown(detail: Detail) -> list[tuple[str, int, str]]:
    return [(one.step, one.attempt, one.status) for one in detail.tries]


def test_there_is_nothing_before_it_was_triggered() -> None:
    assert fold([]) is None


def test_every_step_is_there_from_the_start() -> None:
    detail = folded(triggered())
    assert shown(detail) == [("a", 1, "PENDING"), ("b", 1, "PENDING"), ("c", 1, "PENDING")]
    assert (detail.status, detail.started_at, detail.version, detail.outputs) == ("PENDING", None, 1, {})


def test_each_try_has_a_record_of_its_own() -> None:
    detail = folded(
        triggered(), started("a", 1, execution_id="e1"), failed("a", 2, again=5), started("a", 5, 2, execution_id="e2"),
        completed("a", 9, 2, outputs={"n": 1}, row_count=3),
    )  # fmt: skip
    first, second, *_ = detail.tries
    assert shown(detail)[:2] == [("a", 1, "FAILED"), ("a", 2, "COMPLETED")]
    assert (first.execution_id, first.error, first.category, first.next_attempt_at) == ("e1", "no", "TRANSIENT", None)
    assert (second.execution_id, second.duration_ms, second.row_count, second.error) == ("e2", 4000, 3, None)
    assert detail.outputs == {"a": {"n": 1}}
    assert detail.count("FAILED") == 0


def test_a_step_between_two_tries_waits_and_shows_when_the_next_one_comes() -> None:
    detail = folded(triggered(), started("a"), failed("a", 2, again=5))
    one = detail.latest["a"]
    assert (one.status, one.next_attempt_at, detail.status_of(one)) == ("FAILED", at(5), "WAITING")
    given_up = folded(triggered(), started("a"), failed("a", 2, again=5), cancel_asked(3), over("CANCELLED", 3))
    assert given_up.status_of(given_up.latest["a"]) == "FAILED"
    assert given_up.count("FAILED") == 1


def test_what_is_stopped_between_two_tries_leaves_a_record_of_the_try_that_never_was() -> None:
    detail = folded(triggered(), started("a"), failed("a", 2, again=5), stopped("a", 3, 2))
    assert shown(detail)[:2] == [("a", 1, "FAILED"), ("a", 2, "CANCELLED")]
    assert detail.tries[0].next_attempt_at is None


def test_the_end_of_a_run_says_what_came_of_it() -> None:
    detail = folded(
        triggered(), started("a", 1), failed("a", 2), skipped("b"), skipped("c"),
        over("FAILED", 4, outputs={}, failed_step="a", error="no", error_category="TRANSIENT"),
    )  # fmt: skip
    assert (detail.status, detail.duration_ms, detail.is_over) == ("FAILED", 3000, True)
    assert detail.count("COMPLETED") + detail.count("FAILED") + detail.count("SKIPPED") == len(OUTLINES)
    assert [one.skip_reason for one in detail.tries] == [None, "upstream_failed", "upstream_failed"]


def test_what_was_taken_over_counts_as_output() -> None:
    kept = StepSkipped(step="a", reason="restored", outputs={"taken": "b"}, skipped_at=at(0))
    detail = folded(triggered(retry_of="r0", from_step="b"), kept, started("b"))
    assert detail.outputs == {"a": {"taken": "b"}}
    assert detail.latest["a"].taken == "b"
    assert not folded(triggered(), skipped("a")).latest["a"].has_output


def test_a_map_counts_its_items_and_names_their_runs() -> None:
    outlines = [Outline(name="m", type="MAP", target_name="load")]
    items = [MapItemStarted(step="m", attempt=1, index=n, child_run_id=f"c{n}", started_at=at(2)) for n in range(3)]
    ends = [
        MapItemEnded(step="m", attempt=1, index=n, child_run_id=f"c{n}", status=status, ended_at=at(3))
        for n, status in ((1, "FAILED"), (0, "COMPLETED"))
    ]
    one = folded(triggered(outlines=outlines), started("m", items_total=3), *items, *ends).latest["m"]  # type: ignore[arg-type]
    assert (one.child_run_ids, one.items_total, one.items_ended, one.items_failed) == (["c0", "c1", "c2"], 3, 2, 1)


def test_a_wait_waits_and_a_choice_may_end_without_having_begun() -> None:
    outlines = [
        Outline(name="w", type="WAIT", duration_seconds=60),
        Outline(name="h", type="CHOICE", condition="true", then_step="x"),
        Outline(name="x", type="HANDLER", target_name="demo.x"),
    ]
    detail = folded(
        triggered(outlines=outlines), started("w", 1, wakes_at=at(61)), completed("h", 2, taken="x"),
    )  # fmt: skip
    assert shown(detail) == [("w", 1, "WAITING"), ("h", 1, "COMPLETED"), ("x", 1, "PENDING")]
    assert (detail.latest["w"].wakes_at, detail.latest["h"].taken, detail.latest["h"].duration_ms) == (at(61), "x", 0)


def test_the_number_of_tries_comes_from_the_definition() -> None:
    outlines = [
        Outline(name="a", type="EXECUTION"),
        Outline(name="b", type="EXECUTION", on_error="RETRY"),
        Outline(name="c", type="EXECUTION", retry=RetryPolicy(max_attempts=7)),
    ]
    assert [one.max_attempts for one in folded(triggered(outlines=outlines)).tries] == [1, 3, 7]


def test_pausing_cancelling_and_timing_out_show() -> None:
    assert folded(triggered(), paused(2)).paused is not None
    assert folded(triggered(), paused(2), resumed(3)).paused is None
    cancelling = folded(triggered(), started("a"), cancel_asked(4), completed("a"))
    assert cancelling.status == "CANCELLING"
    assert cancelling.cancel_requested is not None and cancelling.cancel_requested.requested_at == at(4)
    late = folded(triggered(), started("a"), RunTimedOut(timed_out_at=at(9)), cancel_asked(10))
    assert (late.status, late.timed_out_at) == ("RUNNING", at(9))


def test_the_version_is_that_of_the_last_event() -> None:
    assert folded(triggered(), started("a"), completed("a")).version == 3
