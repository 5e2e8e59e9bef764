"""The order of steps: which of them another one waits for, and why. Pure.

In SEQUENTIAL mode a step without `depends_on` comes after the one listed before it; an empty list says that it waits
for nothing. Both targets of a CHOICE wait for the choice.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from rgrid.workflows.document import EdgeKind, Outline, Policy

CHOICE_KINDS: Final[frozenset[EdgeKind]] = frozenset({"THEN", "ELSE"})


class Edge(msgspec.Struct, frozen=True):
    """`target` waits for `source`."""

    source: str
    target: str
    kind: EdgeKind


class Plan(msgspec.Struct, frozen=True):
    """What a run goes by. `waits_for` are the edges that lead to a step, `leads_to` those that leave it."""

    outlines: Mapping[str, Outline]
    policy: Policy
    edges: Sequence[Edge]
    waits_for: Mapping[str, Sequence[Edge]]
    leads_to: Mapping[str, Sequence[Edge]]

    @property
    def order(self) -> Sequence[str]:
        """The names of the steps as they are listed."""
        return tuple(self.outlines)

    def after(self, step: str) -> frozenset[str]:
        """Every step that comes after this one, directly or through others."""
        found: set[str] = set()
        ahead = [step]
        while ahead:
            fresh = {edge.target for edge in self.leads_to[ahead.pop()]} - found
            found |= fresh
            ahead += fresh
        return frozenset(found)


def plan_of(outlines: Sequence[Outline], policy: Policy) -> Plan:
    """The plan of a definition that was checked. A name that no step has makes no edge, so that a definition with
    faults can be drawn as well."""
    named = {outline.name: outline for outline in outlines}
    edges = tuple(edge for edge in _edges(outlines, policy) if edge.source in named and edge.target in named)
    return Plan(
        outlines=named,
        policy=policy,
        edges=edges,
        waits_for={name: tuple(edge for edge in edges if edge.target == name) for name in named},
        leads_to={name: tuple(edge for edge in edges if edge.source == name) for name in named},
    )


def _edges(outlines: Sequence[Outline], policy: Policy) -> Iterable[Edge]:
    chosen = {(edge.source, edge.target) for outline in outlines for edge in _branches(outline)}
    before: str | None = None
    for outline in outlines:
        if outline.depends_on is not None:
            kind: EdgeKind = "DEPENDS_ON"
            sources = list(dict.fromkeys(outline.depends_on))
        else:
            kind = "SEQUENCE"
            sources = [before] if before is not None and policy.mode == "SEQUENTIAL" else []
        # That a branch comes after its choice is said once, by the edge of the choice.
        yield from (Edge(source, outline.name, kind) for source in sources if (source, outline.name) not in chosen)
        yield from _branches(outline)
        before = outline.name


def _branches(outline: Outline) -> Iterable[Edge]:
    if outline.type == "CHOICE":
        if outline.then_step is not None:
            yield Edge(outline.name, outline.then_step, "THEN")
        if outline.else_step is not None:
            yield Edge(outline.name, outline.else_step, "ELSE")


def cycle(plan: Plan) -> Sequence[str]:
    """Steps that wait for each other in a ring, in the order in which they do; none: `()`."""
    left = {name: {edge.source for edge in plan.waits_for[name]} for name in plan.order}
    while free := [name for name, sources in left.items() if not sources & left.keys()]:
        for name in free:
            del left[name]
    if not left:
        return ()
    # Everything left waits for something left, so going back must come round.
    path = [next(iter(left))]
    while (source := min(left[path[-1]] & left.keys())) not in path:
        path.append(source)
    return tuple(reversed(path[path.index(source) :]))
