"""Draws a graph as rails down the left side, one node a line, as version control draws its history: however long the
graph is, it needs few columns."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from rgrid.client.workflow_answers import Edge, Node

LANES_MAX: Final = 12
GAP: Final = 2


class Lane(NamedTuple):
    """A rail on its way to a node that comes further down."""

    target: str
    is_off: bool = False


class Row(NamedTuple):
    """One line. Rows without a node only branch or join."""

    before: str
    node: Node | None
    after: str = ""


def rails(nodes: Sequence[Node], edges: Sequence[Edge]) -> list[Row] | None:
    """The rows, or None where more rails than fit would lie side by side."""
    drawing = _Drawing()
    for node in ordered(nodes, edges):
        drawing.add(node, [edge for edge in edges if edge.source == node.id])
        if len(drawing.lanes) > LANES_MAX:
            return None
    return drawing.rows


def ordered(nodes: Sequence[Node], edges: Sequence[Edge]) -> list[Node]:
    """As they are given, but nothing before what it depends on."""
    known = {node.id for node in nodes}
    waits = {node.id: {edge.source for edge in edges if edge.target == node.id} & known for node in nodes}
    left, placed = list(nodes), []
    for _ in nodes:
        # In a circle, which no valid document has, the first that is left comes next.
        found = next((node for node in left if not waits[node.id]), left[0])
        left.remove(found)
        placed.append(found)
        for sources in waits.values():
            sources.discard(found.id)
    return placed


class _Drawing:
    """Rails that are open, from left to right, and the rows so far."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.lanes: list[Lane | None] = []

    def add(self, node: Node, leaving: Sequence[Edge]) -> None:
        arriving = [at for at, lane in enumerate(self.lanes) if lane and lane.target == node.id]
        place = arriving[0] if arriving else self._free(0)
        if len(arriving) > 1:
            self._bend(place, arriving[1:], ends="╯", through="┴")
            for at in arriving[1:]:
                self.lanes[at] = None
        self.lanes[place] = Lane(node.id)
        self._trim()
        cells = [_straight(lane) for lane in self.lanes]
        self.rows.append(Row(_joined(cells[:place]), node, _joined(["", *cells[place + 1 :]]).rstrip()))
        targets = {edge.target: Lane(edge.target, edge.taken is False) for edge in leaving}
        self._leave(place, list(targets.values()))

    def _leave(self, place: int, lanes: list[Lane]) -> None:
        self.lanes[place] = lanes[0] if lanes else None
        opened = []
        for lane in lanes[1:]:
            at = self._free(place + 1)
            self.lanes[at] = lane
            opened.append(at)
        if opened:
            self._bend(place, opened, ends="╮", through="┬")
        self._trim()

    def _bend(self, place: int, others: Sequence[int], *, ends: str, through: str) -> None:
        """A row in which one rail parts from others, or takes them in."""
        cells = [_straight(lane) for lane in self.lanes]
        last = max(others)
        cells[place] = "├"
        for at in range(place + 1, last + 1):
            if at in others:
                cells[at] = ends if at == last else through
            else:
                cells[at] = "┼" if self.lanes[at] else "─"
        text = "".join(cell + ("─" if place <= at < last else " ") * (GAP - 1) for at, cell in enumerate(cells))
        self.rows.append(Row(text.rstrip(), None))

    def _free(self, first: int) -> int:
        for at in range(first, len(self.lanes)):
            if self.lanes[at] is None:
                return at
        self.lanes += [None] * (max(first - len(self.lanes), 0) + 1)
        return len(self.lanes) - 1

    def _trim(self) -> None:
        while self.lanes and self.lanes[-1] is None:
            self.lanes.pop()


def _straight(lane: Lane | None) -> str:
    if lane is None:
        return " "
    return "┊" if lane.is_off else "│"


def _joined(cells: Sequence[str]) -> str:
    return "".join(cell.ljust(GAP) if cell else " " * (GAP - 1) for cell in cells)
