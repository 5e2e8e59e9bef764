"""Several commands of a run as one: what each of them led to apart, and once only."""

from given import NOW
from workflows.runs import complete, fail, start, step, triggered

from rgrid.workflows.events import RunEnded, StepCompleted, StepStarted
from rgrid.workflows.transition import DECIDER, Transition, decider_after, foreseen

CHAIN = triggered(step("a"), step("b"))


def test_the_end_of_a_step_and_the_start_of_the_next_are_one_decision() -> None:
    run = CHAIN.when(start("a")).after.state
    events = DECIDER.decide(Transition(commands=[complete("a"), start("b")]), run, NOW)
    assert [type(event) for event in events] == [StepCompleted, StepStarted]
    apart = CHAIN.when(start("a")).after.when(complete("a")).after.when(start("b")).after
    assert DECIDER.fold(run, events) == apart.state


def test_a_command_that_comes_too_late_leads_to_nothing_and_the_others_count() -> None:
    run = CHAIN.when(start("a")).after.when(complete("a")).after.state
    events = DECIDER.decide(Transition(commands=[fail("a"), start("b")]), run, NOW)
    assert [type(event) for event in events] == [StepStarted]


def test_what_was_foreseen_is_not_decided_again_on_the_same_state() -> None:
    run = CHAIN.when(start("a")).after.state
    after, events = foreseen(run, [complete("a", outputs={"n": 1})], NOW)
    assert after.steps["a"].status == "COMPLETED"
    rest = Transition(commands=[complete("a", outputs={"n": 1}), start("b")])
    decided = decider_after(run, after, events, 1).decide(rest, run, NOW)
    assert decided[0] is events[0]
    assert list(decided) == list(DECIDER.decide(rest, run, NOW))


def test_what_was_foreseen_is_decided_again_when_the_run_has_gone_on() -> None:
    before = CHAIN.when(start("a")).after
    after, events = foreseen(before.state, [complete("a")], NOW)
    meanwhile = before.when(fail("a")).after.state
    rest = Transition(commands=[complete("a"), start("b")])
    assert isinstance(before.when(fail("a")).events[-1], RunEnded)
    assert decider_after(before.state, after, events, 1).decide(rest, meanwhile, NOW) == []
