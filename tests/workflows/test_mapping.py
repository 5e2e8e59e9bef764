"""A MAP: a child run for each item, so many at a time, and their outputs in the order of the items."""

from collections.abc import Sequence
from typing import Any

from given import Given
from workflows.runs import end, fail, start, statuses, step, triggered

from rgrid.workflows import progress
from rgrid.workflows.commands import CancelRun, EndMapItem, MapItem, PauseRun, StartMapItems
from rgrid.workflows.document import RetryPolicy
from rgrid.workflows.events import (
    MapItemEnded,
    MapItemStarted,
    RunCancelRequested,
    RunEnd,
    RunEnded,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
)
from rgrid.workflows.map_items import BLOCK_SIZE
from rgrid.workflows.run import MAP_ITEMS_MAX


def mapping(items: int, **more: Any) -> Given:
    """A run whose only step is a MAP that has begun."""
    run = triggered(step("m", "MAP", items="x", target_name="child", **more))
    return run.when(start("m", items_total=items, items_sha256="0" * 64)).after


def begin(*indexes: int, attempt: int = 1) -> StartMapItems:
    return StartMapItems(
        step="m", attempt=attempt, items=[MapItem(index=index, child_run_id=f"run_{index}") for index in indexes]
    )


def ended(index: int, status: RunEnd = "COMPLETED", **more: Any) -> EndMapItem:
    return EndMapItem(step="m", attempt=1, index=index, child_run_id=f"run_{index}", status=status, **more)


def free(run: Given) -> Sequence[int]:
    return progress.free_items(run.state, "m")


def test_no_more_items_run_than_there_are_places() -> None:
    run = mapping(3, max_concurrency=2)
    assert free(run) == [0, 1]
    run = run.when(begin(0, 1, 2)).then(MapItemStarted, MapItemStarted)
    assert free(run) == []
    run.when(begin(0)).then_nothing()
    run = run.when(ended(1, outputs={"n": 1})).then(MapItemEnded)
    assert free(run) == [2]


def test_outputs_are_in_the_order_of_the_items() -> None:
    run = mapping(3).when(begin(0, 1, 2)).after
    for index in (2, 0):
        run = run.when(ended(index, outputs={"n": index})).then(MapItemEnded)
    run = run.when(ended(1, outputs={"n": 1})).then(MapItemEnded, StepCompleted, RunEnded)
    assert end(run).outputs["m"] == {"results": [{"n": 0}, {"n": 1}, {"n": 2}], "failed": []}


def test_a_failed_item_fails_the_step_after_all_have_ended() -> None:
    run = mapping(3, max_concurrency=2).when(begin(0, 1)).after
    run = run.when(ended(1, "FAILED", error="no such tier", category="PARSE")).then(MapItemEnded)
    run = run.when(begin(2)).then(MapItemStarted).when(ended(0)).after
    run = run.when(ended(2)).then(MapItemEnded, StepFailed, RunEnded)
    assert (end(run).status, end(run).error_category) == ("FAILED", "PARSE")
    assert end(run).error == "1 of 3 items failed. The first of them: no such tier"


def test_a_map_that_says_continue_completes_with_failed_items() -> None:
    run = mapping(2, on_error="CONTINUE").when(begin(0, 1)).after
    run = run.when(ended(0, "FAILED", error="broke")).after.when(ended(1, outputs={"n": 1})).after
    step_ended = run.past[-2]
    assert isinstance(step_ended, StepCompleted) and step_ended.warnings == ["1 of 2 items failed."]
    assert end(run).outputs["m"] == {
        "results": [None, {"n": 1}],
        "failed": [{"index": 0, "run_id": "run_0", "status": "FAILED", "error": "broke"}],
    }


def test_a_map_over_nothing_completes() -> None:
    run = (
        triggered(step("m", "MAP", items="x"))
        .when(start("m", items_total=0))
        .then(StepStarted, StepCompleted, RunEnded)
    )
    assert end(run).outputs["m"] == {"results": [], "failed": []}


def test_a_map_over_too_many_items_fails() -> None:
    assert statuses(mapping(MAP_ITEMS_MAX)) == ["RUNNING"]
    assert end(mapping(MAP_ITEMS_MAX + 1)).error_category == "RESOURCE"


def test_many_items_are_remembered_one_by_one() -> None:
    total = 2 * BLOCK_SIZE + 3
    run = mapping(total, max_concurrency=total).when(begin(*range(total))).after
    for index in range(0, total, 50):
        run = run.when(ended(index)).after
    items = run.state.steps["m"].items
    assert [item.child_run_id for item in items] == [f"run_{index}" for index in range(total)]
    assert [index for index in range(total) if items.get(index).status] == list(range(0, total, 50))
    assert items.get(total) is None and items.get(-1) is None


def test_items_that_hand_on_too_much_fail_the_step_and_are_not_kept() -> None:
    run = mapping(3).when(begin(0, 1, 2)).after
    for index in range(3):
        run = run.when(ended(index, outputs={"x": "x" * 100_000})).after
    kept = [event.outputs is not None for event in run.past if isinstance(event, MapItemEnded)]
    assert kept == [True, True, False]
    assert end(run).error_category == "RESOURCE"


def test_an_item_ends_once_and_only_by_its_own_child() -> None:
    run = mapping(2).when(begin(0)).after
    run.when(ended(1)).then_nothing()
    run.when(EndMapItem(step="m", attempt=1, index=0, child_run_id="run_9", status="COMPLETED")).then_nothing()
    run = run.when(ended(0)).after
    run.when(ended(0, "FAILED")).then_nothing()


def test_no_item_starts_in_a_pause_or_while_the_run_is_being_cancelled() -> None:
    run = mapping(3, max_concurrency=1).when(begin(0)).after
    paused = run.when(PauseRun(paused_by="key:1")).after.when(ended(0)).after
    assert free(paused) == []
    cancelled = run.when(CancelRun(requested_by="key:1")).then(RunCancelRequested)
    assert [stop.child_run_ids for stop in progress.to_stop(cancelled.state)] == [("run_0",)]
    cancelled = cancelled.when(ended(0, "CANCELLED")).then(MapItemEnded, StepCancelled, RunEnded)
    assert end(cancelled).status == "CANCELLED"


def test_another_try_of_a_map_begins_all_items_anew() -> None:
    run = mapping(1, retry=RetryPolicy(initial_seconds=0, retry_on=("DEPENDENCY",))).when(begin(0)).after
    run = run.when(ended(0, "FAILED")).after.when(start("m", 2, items_total=1)).then(StepStarted)
    assert free(run) == [0]
    run.when(ended(0)).then_nothing()
    assert progress.stop(run.state, "m", 1).child_run_ids == ()


def test_a_map_runs_to_its_end_beside_a_step_that_failed() -> None:
    outlines = [step("m", "MAP", items="x", max_concurrency=1), step("a"), step("z", depends_on=["m"])]
    run = triggered(*outlines, mode="PARALLEL").when(start("m", items_total=2)).after.when(start("a")).after
    run = run.when(begin(0)).after.when(fail("a")).then(StepFailed, StepSkipped).when(ended(0)).after
    run = run.when(begin(1)).then(MapItemStarted).when(ended(1)).then(MapItemEnded, StepCompleted, RunEnded)
    assert end(run).status == "FAILED"
