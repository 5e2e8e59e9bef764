"""The run aggregate: the order of steps, choices, failures and what the run comes to."""

from datetime import timedelta

from given import NOW, Given, given
from workflows.runs import choice, complete, done, end, fail, start, statuses, step, trigger, triggered

from rgrid.workflows import progress
from rgrid.workflows.commands import ReuseStep, WakeRun
from rgrid.workflows.document import RetryPolicy
from rgrid.workflows.events import (
    RunEnded,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepWoken,
)
from rgrid.workflows.outcome import OUTPUT_BYTES_MAX
from rgrid.workflows.run import DECIDER


def ready(run: Given) -> list[str]:
    return [one.step for one in progress.ready(run.state)]


def test_a_run_is_triggered_once() -> None:
    run = triggered(step("a"))
    assert run.state.status == "PENDING"
    run.when(trigger(step("a"))).then_nothing()


def test_steps_of_a_list_run_one_after_the_other() -> None:
    run = triggered(step("a"), step("b"))
    assert ready(run) == ["a"]
    run = run.when(start("a")).then(StepStarted)
    assert run.state.status == "RUNNING" and ready(run) == []
    run = run.when(complete("a", outputs={"n": 1})).then(StepCompleted)
    assert ready(run) == ["b"]
    run = done(run, "b", outputs={"n": 2})
    assert end(run) == RunEnded(status="COMPLETED", outputs={"a": {"n": 1}, "b": {"n": 2}}, ended_at=NOW)


def test_steps_run_side_by_side_in_parallel_mode_as_far_as_there_are_places() -> None:
    run = triggered(step("a"), step("b"), step("c"), step("d", depends_on=["a"]), mode="PARALLEL", max_concurrency=2)
    assert ready(run) == ["a", "b"]
    run = run.when(start("a")).after.when(start("b")).after
    run.when(start("c")).then_nothing()
    run = run.when(complete("a")).after
    assert ready(run) == ["c"]


def test_an_empty_list_of_dependencies_says_that_a_step_waits_for_nothing() -> None:
    assert ready(triggered(step("a"), step("b", depends_on=[]))) == ["a", "b"]


def test_a_step_starts_once() -> None:
    run = triggered(step("a")).when(start("a", execution_id="exec_1")).then(StepStarted)
    run.when(start("a", execution_id="exec_2")).then_nothing()
    run.when(start("a", 2)).then_nothing()


def test_a_result_of_another_try_counts_for_nothing() -> None:
    run = triggered(step("a")).when(start("a")).after
    run.when(complete("a", 2)).then_nothing()
    run.when(fail("a", 2)).then_nothing()
    done = run.when(complete("a")).after
    done.when(fail("a")).then_nothing()


def test_a_failed_step_stops_the_run() -> None:
    run = done(triggered(step("a"), step("b"), step("c")), "a").when(start("b")).after
    run = run.when(fail("b")).then(StepFailed, StepSkipped, RunEnded)
    assert statuses(run) == ["COMPLETED", "FAILED", "upstream_failed"]
    assert end(run).status == "FAILED"
    assert (end(run).failed_step, end(run).error, end(run).error_category) == ("b", "broke", "INTERNAL")


def test_what_follows_a_failed_step_that_says_continue_runs_with_null() -> None:
    run = done(triggered(step("a"), step("b", on_error="CONTINUE"), step("c")), "a").when(start("b")).after
    run = run.when(fail("b")).then(StepFailed)
    assert progress.variables(run.state)["steps"]["b"] == {"output": None, "status": "FAILED"}
    run = done(run, "c")
    assert statuses(run) == ["COMPLETED", "FAILED", "COMPLETED"]
    assert (end(run).status, end(run).failed_step) == ("PARTIAL", "b")


def test_a_step_is_retried_until_it_works() -> None:
    outlines = [step("a"), step("b", on_error="RETRY", retry=RetryPolicy(max_attempts=3)), step("c")]
    run = done(triggered(*outlines), "a").when(start("b")).after
    waits = []
    for attempt in (1, 2):
        run = run.when(fail("b", attempt, "TRANSIENT")).then(StepFailed)
        due = run.state.steps["b"].next_attempt_at
        waits.append((due - NOW).total_seconds())
        wake = WakeRun(kind="retry", step="b", attempt=attempt)
        assert ready(run) == []
        run.when(wake, due - timedelta(milliseconds=1)).then_nothing()
        run = run.when(wake, due).then(StepWoken)
        run.when(wake, due).then_nothing()
        assert ready(run) == ["b"]
        run = run.when(start("b", attempt + 1)).then(StepStarted)
    assert 0.75 <= waits[0] <= 1.25 and 1.5 <= waits[1] <= 2.5
    run = done(run.when(complete("b", 3)).after, "c")
    assert end(run).status == "COMPLETED" and statuses(run) == ["COMPLETED"] * 3


def test_a_step_that_never_works_fails_with_its_last_try() -> None:
    run = triggered(step("a", retry=RetryPolicy(max_attempts=2, initial_seconds=0))).when(start("a")).after
    run = run.when(fail("a", 1, "TIMEOUT")).then(StepFailed, StepWoken).when(start("a", 2)).after
    run = run.when(fail("a", 2, "TIMEOUT", "again")).then(StepFailed, RunEnded)
    assert (end(run).status, end(run).error) == ("FAILED", "again")


def test_only_chosen_categories_are_retried() -> None:
    run = triggered(step("a", on_error="RETRY")).when(start("a")).after
    run.when(fail("a", 1, "VALIDATION")).then(StepFailed, RunEnded)


def test_the_wait_before_a_try_is_the_same_wherever_it_is_drawn() -> None:
    run = triggered(step("a", on_error="RETRY")).when(start("a")).after
    first, second = (run.when(fail("a", 1, "TRANSIENT")).events for _ in range(2))
    assert first == second


def test_a_retry_that_waits_is_given_up_when_another_step_stops_the_run() -> None:
    run = triggered(step("a", on_error="RETRY"), step("b"), mode="PARALLEL")
    run = run.when(start("a")).after.when(start("b")).after
    run = run.when(fail("a", 1, "TRANSIENT")).after.when(fail("b")).then(StepFailed, RunEnded)
    assert statuses(run) == ["FAILED", "FAILED"]
    assert end(run).failed_step == "b"


def test_what_runs_beside_a_failed_step_runs_to_its_end() -> None:
    run = triggered(step("a"), step("b"), step("c", depends_on=["b"]), mode="PARALLEL")
    run = run.when(start("a")).after.when(start("b")).after.when(fail("a")).then(StepFailed, StepSkipped)
    run = run.when(complete("b", outputs={"n": 1})).then(StepCompleted, RunEnded)
    assert (end(run).status, end(run).outputs) == ("FAILED", {"b": {"n": 1}})


def test_with_the_policy_to_continue_only_dependents_of_a_failed_step_are_skipped() -> None:
    outlines = [step("a"), step("b", depends_on=["a"]), step("c", depends_on=["b"]), step("d", depends_on=[])]
    run = triggered(*outlines, step("e", depends_on=["d", "c"]), on_failure="CONTINUE").when(start("a")).after
    run = run.when(fail("a")).then(StepFailed, StepSkipped, StepSkipped)
    run = done(run, "d")
    assert statuses(run) == ["FAILED", "upstream_failed", "upstream_failed", "COMPLETED", "upstream_failed"]
    assert end(run).status == "FAILED"


CHOICE = [choice("c", "x", "y"), step("x"), step("y"), step("z")]


def test_a_choice_runs_one_target_and_then_what_is_listed_last() -> None:
    run = triggered(*CHOICE).when(complete("c", chosen=True)).then(StepStarted, StepCompleted, StepSkipped)
    assert ready(run) == ["x"]
    run = run.when(start("x")).after
    assert ready(run) == []
    run = done(run.when(complete("x")).after, "z")
    assert statuses(run) == ["COMPLETED", "COMPLETED", "branch_not_taken", "COMPLETED"]
    assert end(run).status == "COMPLETED"


def test_the_other_target_runs_when_the_condition_is_false() -> None:
    run = triggered(*CHOICE).when(complete("c", chosen=False)).after
    run = done(run, "y", "z")
    assert statuses(run) == ["COMPLETED", "branch_not_taken", "COMPLETED", "COMPLETED"]


def test_a_skip_spreads_along_dependencies_but_not_along_the_list() -> None:
    run = triggered(choice("c", "x"), step("x"), step("x2", depends_on=["x"]), step("z"))
    run = done(run.when(complete("c", chosen=False)).after, "z")
    assert statuses(run) == ["COMPLETED", "branch_not_taken", "upstream_skipped", "COMPLETED"]
    assert end(run).status == "COMPLETED"


def test_a_step_runs_when_only_some_of_its_dependencies_are_skipped() -> None:
    run = triggered(*CHOICE[:3], step("z", depends_on=["x", "y"])).when(complete("c", chosen=True)).after
    assert statuses(done(run, "x", "z")) == ["COMPLETED", "COMPLETED", "branch_not_taken", "COMPLETED"]


def test_a_branch_waits_for_its_choice_where_steps_start_at_once() -> None:
    run = triggered(step("a"), choice("c", "x", depends_on=["a"]), step("x"), mode="PARALLEL")
    assert ready(run) == ["a"]
    run = done(run, "a")
    assert ready(run) == ["c"]


def test_why_a_step_is_skipped_does_not_depend_on_what_came_first() -> None:
    outlines = [step("a"), choice("c", "x", "y", depends_on=[]), step("x"), step("y", depends_on=["a"])]
    run = triggered(*outlines, mode="PARALLEL", on_failure="CONTINUE").when(start("a")).after
    chosen, failure = complete("c", chosen=True), fail("a")
    for one, other in ((chosen, failure), (failure, chosen)):
        assert statuses(run.when(one).after.when(other).after)[3] == "branch_not_taken"


def test_neither_branch_of_a_choice_that_is_skipped_runs() -> None:
    outlines = [choice("c", "x", "y"), step("x"), choice("y", "y1", "y2"), step("y1"), step("y2"), step("z")]
    run = done(triggered(*outlines).when(complete("c", chosen=True)).after, "x", "z")
    assert statuses(run)[2:5] == ["branch_not_taken", "upstream_skipped", "upstream_skipped"]


def test_a_branch_needs_its_choice_even_when_something_else_that_it_depends_on_completed() -> None:
    outlines = [
        choice("c", "d"),
        choice("d", "x", depends_on=[]),
        step("a", depends_on=[]),
        step("x", depends_on=["a"]),
    ]
    run = done(triggered(*outlines), "a").when(complete("c", chosen=False)).after
    assert statuses(run) == ["COMPLETED", "branch_not_taken", "COMPLETED", "upstream_skipped"]


def test_no_branch_runs_when_the_condition_fails() -> None:
    run = triggered(choice("c", "x", "y"), *CHOICE[1:]).when(fail("c", 1, "CONFIGURATION"))
    run.then(StepStarted, StepFailed, StepSkipped, StepSkipped, StepSkipped, RunEnded)
    run = triggered(choice("c", "x", "y", on_error="CONTINUE"), *CHOICE[1:]).when(fail("c", 1, "CONFIGURATION")).after
    assert statuses(done(run, "z")) == ["FAILED", "branch_not_taken", "branch_not_taken", "COMPLETED"]


def test_a_step_that_could_not_begin_has_begun_and_failed() -> None:
    run = triggered(step("a")).when(fail("a", 1, "CONFIGURATION")).then(StepStarted, StepFailed, RunEnded)
    assert end(run).error_category == "CONFIGURATION"


def test_a_step_may_take_over_an_output_of_equal_inputs() -> None:
    run = triggered(step("a"), step("b")).when(ReuseStep(step="a", outputs={"n": 1})).then(StepSkipped)
    assert progress.variables(run.state)["steps"]["a"] == {"output": {"n": 1}, "status": "COMPLETED"}
    run = done(run, "b")
    assert end(run).outputs == {"a": {"n": 1}, "b": {}}


def test_a_dry_run_ends_with_every_step_skipped() -> None:
    run = triggered(*CHOICE, dry_run=True)
    assert statuses(run) == ["dry_run"] * 4
    assert end(run).status == "COMPLETED"


def test_a_retry_goes_on_from_restored_steps() -> None:
    run = triggered(step("a"), step("b"), step("c"), trigger="RETRY", from_step="b", restored={"a": {"n": 1}})
    assert statuses(run) == ["restored", "PENDING", "PENDING"] and ready(run) == ["b"]
    assert end(done(run, "b", "c")).outputs["a"] == {"n": 1}


def test_a_restored_choice_goes_the_way_it_went() -> None:
    first = done(triggered(*CHOICE).when(complete("c", chosen=True)).after, "x").state
    restored = {name: first.steps[name].outputs for name in ("c", "x")}
    assert statuses(triggered(*CHOICE, trigger="RETRY", restored=restored)) == [
        "restored", "restored", "branch_not_taken", "PENDING",
    ]  # fmt: skip


def test_a_run_that_is_not_there_is_not_found() -> None:
    given(DECIDER).when(start("a")).then_refused("not_found")


def test_an_output_that_is_too_large_fails_the_step() -> None:
    run = triggered(step("a")).when(start("a")).after
    room = OUTPUT_BYTES_MAX - len('{"a":""}')
    run.when(complete("a", outputs={"a": "x" * room})).then(StepCompleted, RunEnded)
    run = run.when(complete("a", outputs={"a": "x" * (room + 1)})).then(StepFailed, RunEnded)
    assert end(run).error_category == "RESOURCE"
