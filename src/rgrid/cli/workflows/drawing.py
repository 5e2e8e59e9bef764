"""A graph as text: lines that fit a terminal, the language of Graphviz, and that of Mermaid."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from rgrid.cli.output import Console, duration, moment, plain
from rgrid.cli.workflows.rails import ordered, rails
from rgrid.client.workflow_answers import Edge, Graph, Node, Run, Step

SIGNS: Final = {
    "COMPLETED": "✓",
    "FAILED": "✗",
    "CANCELLED": "✗",
    "RUNNING": "▶",
    "WAITING": "◌",
    "SKIPPED": "–",
    "PENDING": "○",
}
DRAFTED: Final = "●"
NAME_MIN: Final = 12
DETAIL_MIN: Final = 16
CUT_MIN: Final = 4
GAP: Final = 2
_SHAPES: Final = {"CHOICE": ("diamond", "{", "}"), "WAIT": ("ellipse", "(", ")"), "MAP": ("box3d", "[[", "]]")}
_FILLS: Final = {"COMPLETED": "palegreen", "FAILED": "salmon", "RUNNING": "lightblue", "WAITING": "lightblue"}


class Line(NamedTuple):
    """One line of a drawing. Without a node it only joins or branches."""

    rail: str
    sign: str = ""
    after: str = ""
    name: str = ""
    type: str = ""
    status: str = ""
    detail: str = ""


def lines(graph: Graph, run: Run | None = None) -> list[Line]:
    """The graph from its beginnings to its ends, with what the run says of each step."""
    tries = {step.step_name: step for step in run.last_tries()} if run else {}
    rows = rails(graph.nodes, graph.edges)
    if rows is None:
        return [
            _line(graph, node, tries, after=_sources(node, graph.edges)) for node in ordered(graph.nodes, graph.edges)
        ]
    return [_line(graph, row.node, tries, row.before, row.after) if row.node else Line(row.before) for row in rows]


def draw(console: Console, graph: Graph, run: Run | None = None) -> None:
    """Prints it; on a terminal no line is longer than that is wide."""
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for text in printed(console, lines(graph, run), columns):
        console.line(text)


def printed(console: Console, drawn: Sequence[Line], columns: int | None) -> list[str]:
    """The lines as text, none longer than `columns`; the sign and the state are coloured."""
    shown = []
    for rail, name, rest, line in laid_out(drawn, columns):
        sign = console.status(line.status, line.sign)
        state = rest.replace(line.status, console.status(line.status), 1) if line.status else rest
        shown.append(f"{rail}{sign}{line.after}{name}{state}".rstrip())
    return shown


def laid_out(drawn: Sequence[Line], columns: int | None) -> list[tuple[str, str, str, Line]]:
    """For each line its rail, its name, and what comes behind, in columns that don't wrap: names are cut first, then
    details."""
    rail_width = max((len(line.rail + line.sign + line.after) for line in drawn), default=0)
    widths = [
        max((len(cell) for cell in cells), default=0) for cells in zip(*(line[3:] for line in drawn), strict=True)
    ]
    name_width, type_width, state_width, detail_width = widths or (0, 0, 0, 0)
    if columns is not None:
        fixed = rail_width + GAP + sum(GAP + width for width in (type_width, state_width) if width)
        wanted = GAP + min(detail_width, DETAIL_MIN) if detail_width else 0
        name_width = min(name_width, max(NAME_MIN, columns - fixed - wanted))
        room = columns - fixed - name_width - GAP
        # Three letters of a reason tell nothing.
        detail_width = room if room > CUT_MIN else 0
    laid = []
    for line in drawn:
        if not line.sign:
            laid.append((line.rail, "", "", line))
            continue
        gap = " " * (rail_width - len(line.rail + line.sign + line.after) + GAP)
        rest = "".join(
            " " * GAP + cell.ljust(width)
            for cell, width in (
                (line.type, type_width),
                (line.status, state_width),
                (line.detail if detail_width else "", 0),
            )
            if width or cell
        )
        room = sum(GAP + width for width in (type_width, state_width, detail_width) if width)
        laid.append((line.rail, gap + _cut(line.name, name_width).ljust(name_width), _cut(rest.rstrip(), room), line))
    return laid


def detail_of(step: Step) -> str:
    """How long it took, why it failed, what it waits for."""
    parts = []
    if step.attempt > 1:
        parts.append(f"try {step.attempt} of {max(step.max_attempts, step.attempt)}")
    if step.duration_ms is not None and step.status != "SKIPPED":
        parts.append(duration(step.duration_ms))
    if step.items_total is not None:
        parts.append(f"{step.items_ended} of {step.items_total} items")
    if step.items_failed:
        parts.append(f"{step.items_failed} failed")
    if step.status == "WAITING":
        parts += _awaited(step)
    if step.row_count is not None:
        parts.append(f"{step.row_count} rows")
    if step.skip_reason:
        parts.append(step.skip_reason)
    parts += [plain(text) for text in (step.error, *step.warnings) if text]
    return ", ".join(parts)


def _awaited(step: Step) -> list[str]:
    """What a step waits for."""
    if step.next_attempt_at:
        return [f"again at {moment(step.next_attempt_at)[11:]}"]
    parts = [f"for {plain(step.signal)}"] if step.signal else []
    return parts + ([f"until {moment(step.wakes_at)}"] if step.wakes_at else [])


def dot(graph: Graph) -> str:
    """The graph in the language of Graphviz."""
    said = [
        f"digraph {json.dumps(graph.workflow_name)} {{",
        "  rankdir=TB;",
        '  node [shape=box, style="rounded,filled", fillcolor=white];',
    ]
    for node in graph.nodes:
        shape, _, _ = _SHAPES.get(node.type, ("box", "", ""))
        fill = _FILLS.get(node.status or "", "white")
        said.append(f"  {json.dumps(node.id)} [label={json.dumps(_title(node))}, shape={shape}, fillcolor={fill}];")
    for edge in graph.edges:
        style = ", style=dashed" if edge.taken is False else ""
        said.append(
            f"  {json.dumps(edge.source)} -> {json.dumps(edge.target)} [label={json.dumps(_word(edge))}{style}];"
        )
    return "\n".join([*said, "}"])


def mermaid(graph: Graph) -> str:
    """The graph in the language of Mermaid."""
    numbers = {node.id: f"n{at}" for at, node in enumerate(graph.nodes)}
    said = ["flowchart TD"]
    for node in graph.nodes:
        _, opens, closes = _SHAPES.get(node.type, ("", "[", "]"))
        title = _title(node).replace('"', "#quot;").replace("\n", "<br>")
        said.append(f'  {numbers[node.id]}{opens}"{title}"{closes}')
    for edge in graph.edges:
        arrow = "-.->" if edge.taken is False else "-->"
        word = f"|{_word(edge)}|" if _word(edge) else ""
        said.append(f"  {numbers[edge.source]} {arrow}{word} {numbers[edge.target]}")
    return "\n".join(said)


def _line(
    graph: Graph, node: Node, tries: Mapping[str, Step], rail: str = "", behind: str = "", after: str = ""
) -> Line:
    step = tries.get(node.name)
    status = node.status or ""
    detail = detail_of(step) if step else _targets(node, graph.edges) or after
    return Line(rail, SIGNS.get(status, DRAFTED), behind, plain(node.name), node.type, status, detail)


def _targets(node: Node, edges: Sequence[Edge]) -> str:
    """What a CHOICE leads to."""
    words = {"THEN": "then", "ELSE": "else"}
    return ", ".join(
        f"{words[edge.kind]} {plain(edge.target)}" for edge in edges if edge.source == node.id and edge.kind in words
    )


def _sources(node: Node, edges: Sequence[Edge]) -> str:
    sources = [plain(edge.source) for edge in edges if edge.target == node.id]
    return f"after {', '.join(sources)}" if sources else ""


def _title(node: Node) -> str:
    return f"{node.name}\n{node.type}" + (f" {node.status}" if node.status else "")


def _word(edge: Edge) -> str:
    return {"THEN": "then", "ELSE": "else"}.get(edge.kind, "")


def _cut(text: str, width: int | None) -> str:
    return text if width is None or len(text) <= width else f"{text[: max(width - 1, 0)]}…"
