"""The order of steps: what waits for what, and why."""

from workflows.runs import choice, step

from rgrid.workflows.document import Outline, Policy
from rgrid.workflows.plan import Plan, cycle, plan_of


def plan(*outlines: Outline, parallel: bool = False) -> Plan:
    return plan_of(outlines, Policy(mode="PARALLEL" if parallel else "SEQUENTIAL"))


def edges(planned: Plan) -> list[tuple[str, str, str]]:
    return [(edge.source, edge.target, edge.kind) for edge in planned.edges]


def test_a_list_is_a_chain() -> None:
    listed = [step("a"), step("b"), step("c")]
    assert edges(plan(*listed)) == [("a", "b", "SEQUENCE"), ("b", "c", "SEQUENCE")]
    assert edges(plan(*listed, parallel=True)) == []


def test_dependencies_take_the_place_of_the_list_order() -> None:
    listed = [step("a"), step("b", depends_on=[]), step("c", depends_on=["a", "b", "a"]), step("d")]
    assert edges(plan(*listed)) == [
        ("a", "c", "DEPENDS_ON"),
        ("b", "c", "DEPENDS_ON"),
        ("c", "d", "SEQUENCE"),
    ]


def test_both_targets_wait_for_their_choice() -> None:
    listed = [choice("c", "x", "y"), step("x"), step("y", depends_on=["c"])]
    assert edges(plan(*listed)) == [("c", "x", "THEN"), ("c", "y", "ELSE")]


def test_what_comes_after_a_step_comes_through_others_too() -> None:
    listed = [step("a"), choice("c", "x"), step("x"), step("z"), step("f", depends_on=[])]
    planned = plan(*listed)
    assert planned.after("a") == {"c", "x", "z"}
    assert planned.after("x") == {"z"}
    assert planned.after("f") == frozenset()


def test_a_ring_is_found_and_named() -> None:
    assert cycle(plan(step("a"), step("b"))) == ()
    ring = [step("s"), step("a", depends_on=["c", "s"]), step("b", depends_on=["a"]), step("c", depends_on=["b"])]
    assert list(cycle(plan(*ring, step("z")))) in (["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"])
    assert list(cycle(plan(step("a", depends_on=["a"])))) == ["a"]


def test_names_that_no_step_has_make_no_edge() -> None:
    assert edges(plan(step("a", depends_on=["?"]), choice("c", "?", depends_on=["a"]))) == [("a", "c", "DEPENDS_ON")]
