"""A graph is drawn in few columns: every step once, in order, with what leads to it."""

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid.cli.output import Console
from rgrid.cli.workflows.drawing import Line, detail_of, dot, lines, mermaid, printed
from rgrid.cli.workflows.rails import LANES_MAX, ordered, rails
from rgrid.cli.workflows.watching import window
from rgrid.client.workflow_answers import Edge, Graph, Node, Run, Step

MOMENT = datetime(2026, 1, 31, tzinfo=UTC)


def graph(names: str, pairs: str) -> Graph:
    """`graph("a b", "a>b")`"""
    nodes = [Node(id=name, name=name, type="EXECUTION") for name in names.split()]
    edges = [Edge(source=pair.split(">")[0], target=pair.split(">")[1], kind="DEPENDS_ON") for pair in pairs.split()]
    return Graph(workflow_name="w", nodes=nodes, edges=edges)


def text(drawn: Graph) -> list[str]:
    rows = rails(drawn.nodes, drawn.edges)
    assert rows is not None
    return [row.before + (f"*{row.after} {row.node.name}" if row.node else "") for row in rows]


@pytest.mark.parametrize(
    ("names", "pairs", "shown"),
    [
        ("a b", "a>b", ["* a", "* b"]),
        ("a b", "", ["* a", "* b"]),
        (
            "a b c d",
            "a>b a>c b>d c>d",
            ["* a", "├─╮", "* │ b", "│ * c", "├─╯", "* d"],
        ),
        (
            "a b c d e",
            "a>c b>c b>d c>e d>e",
            ["* a", "│ * b", "│ ├─╮", "├─╯ │", "*   │ c", "│   * d", "├───╯", "* e"],
        ),
        (
            "a b c d e",
            "a>b a>c a>d b>e c>e d>e",
            ["* a", "├─┬─╮", "* │ │ b", "│ * │ c", "│ │ * d", "├─┴─╯", "* e"],
        ),
    ],
)
def test_rails_part_and_meet(names: str, pairs: str, shown: list[str]) -> None:
    assert text(graph(names, pairs)) == shown


def test_a_rail_that_is_not_taken_is_dotted() -> None:
    drawn = graph("c x y z", "")
    edges = [
        Edge(source="c", target="x", kind="THEN", taken=False),
        Edge(source="c", target="y", kind="ELSE", taken=True),
        Edge(source="x", target="z", kind="SEQUENCE"),
        Edge(source="y", target="z", kind="SEQUENCE"),
    ]
    rows = rails(drawn.nodes, edges)
    assert rows is not None
    shown = [row.before + (f"*{row.after} {row.node.name}" if row.node else "") for row in rows]
    assert shown == ["* c", "├─╮", "* │ x", "│ * y", "├─╯", "* z"]
    rows = rails(drawn.nodes, [Edge(source="c", target="z", kind="THEN", taken=False)])
    assert rows is not None
    assert [row.before + ("*" + row.after if row.node else "") for row in rows] == ["*", "┊ *", "┊ *", "*"]


def test_many_steps_at_a_time_are_listed_with_what_they_come_after() -> None:
    names = [f"s{number}" for number in range(LANES_MAX + 1)]
    wide = graph(" ".join([*names, "end"]), " ".join(f"{name}>end" for name in names))
    assert rails(wide.nodes, wide.edges) is None
    drawn = lines(wide)
    assert [line.name for line in drawn] == [*names, "end"]
    assert drawn[-1].detail == f"after {', '.join(names)}"


@given(st.integers(1, 12), st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11))), st.randoms())
def test_every_step_is_drawn_once_and_after_what_it_depends_on(
    count: int, pairs: set[tuple[int, int]], dice: random.Random
) -> None:
    known = sorted((a, b) for a, b in pairs if a < b < count)
    numbers = list(range(count))
    dice.shuffle(numbers)
    drawn = graph(" ".join(f"s{number}" for number in numbers), " ".join(f"s{a}>s{b}" for a, b in known))
    places = [node.name for node in ordered(drawn.nodes, drawn.edges)]
    assert sorted(places) == sorted(f"s{number}" for number in range(count))
    assert all(places.index(f"s{a}") < places.index(f"s{b}") for a, b in known)
    rows = rails(drawn.nodes, drawn.edges)
    if rows is not None:
        assert [row.node.name for row in rows if row.node] == places
        assert max(len(row.before + row.after) for row in rows) <= 2 * LANES_MAX + 1
        shown = text(drawn)
        assert all(line == line.rstrip() for line in shown)


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_no_line_is_longer_than_the_terminal(columns: int) -> None:
    name = "a-step-with-a-name-of-a-hundred-characters-that-nobody-would-ever-type-but-which-is-allowed-anyway"
    drawn = [Line("│ ", "✗", " │", name, "EXECUTION", "FAILED", "the reason is a long one: " + "word " * 30)]
    assert max(map(len, printed(Console(), drawn, columns))) <= columns
    (whole,) = printed(Console(), drawn, None)
    assert name in whole
    assert "word word" in whole


def step(**given: Any) -> Step:
    fields = {"step_name": "s", "step_type": "EXECUTION", "step_order": 0, "attempt": 1, "status": "COMPLETED"}
    return Step(**{**fields, **given})


@pytest.mark.parametrize(
    ("of", "told"),
    [
        (step(duration_ms=1250), "1.25 s"),
        (step(status="SKIPPED", skip_reason="upstream_failed"), "upstream_failed"),
        (step(status="FAILED", error="exit code 3", duration_ms=20), "0.02 s, exit code 3"),
        (step(row_count=7, duration_ms=20), "0.02 s, 7 rows"),
        (
            step(step_type="MAP", items_total=3, items_ended=2, items_failed=1, status="RUNNING"),
            "2 of 3 items, 1 failed",
        ),
        (step(step_type="WAIT", status="WAITING", signal="approved"), "for approved"),
        (step(warnings=["row_count is 7, less than 9."]), "row_count is 7, less than 9."),
    ],
)
def test_a_step_says_how_it_is(of: Step, told: str) -> None:
    assert detail_of(of) == told


def test_the_last_try_of_a_step_is_shown() -> None:
    tries = [
        Step(step_name="s", step_type="WAIT", step_order=0, status=status, attempt=attempt, max_attempts=3)
        for attempt, status in ((1, "FAILED"), (2, "COMPLETED"))
    ]
    run = Run(
        run_id="run_1",
        workflow_name="w",
        workflow_version=1,
        status="COMPLETED",
        trigger="API",
        created_at=MOMENT,
        total_steps=1,
        completed_steps=1,
        failed_steps=0,
        skipped_steps=0,
        version=9,
        steps=tries,
    )
    nodes = [Node(id="s", name="s", type="WAIT", status="COMPLETED")]
    (line,) = lines(Graph(workflow_name="w", nodes=nodes, edges=[]), run)
    assert (line.sign, line.status, line.detail) == ("✓", "COMPLETED", "try 2 of 3")


def test_other_languages_quote_what_they_are_given() -> None:
    nodes = [
        Node(id='say "hi"', name='say "hi"', type="CHOICE", status="COMPLETED"),
        Node(id="b", name="b", type="MAP", status="PENDING"),
    ]
    edges = [Edge(source='say "hi"', target="b", kind="THEN", taken=False)]
    drawn = Graph(workflow_name="w", nodes=nodes, edges=edges)
    assert '"say \\"hi\\"" -> "b" [label="then", style=dashed];' in dot(drawn)
    assert 'n0{"say #quot;hi#quot;<br>CHOICE COMPLETED"}' in mermaid(drawn)
    assert "n0 -.->|then| n1" in mermaid(drawn)


def test_a_long_run_shows_where_it_is() -> None:
    drawn = [Line("", "x", "", str(number), "WAIT", "COMPLETED" if number < 50 else "PENDING") for number in range(90)]
    first, last = window(drawn, 20)
    assert last - first == 20
    assert first < 50 < last
    assert window(drawn, None) == (0, 90)
    assert window(drawn[:5], 20) == (0, 5)
