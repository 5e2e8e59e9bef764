"""How the steps of a workflow hang together: nodes and edges of a definition, or of a run with where each stands."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from projections.run_detail import REUSED, Detail, StepStatus, Try
from rgrid.workflows.document import EdgeKind, Outline, Policy, StepType
from rgrid.workflows.events import SkipReason
from rgrid.workflows.plan import CHOICE_KINDS, Edge, plan_of

_PASSED_OVER: Final = frozenset({"SKIPPED", "CANCELLED"})


class GraphNode(msgspec.Struct, kw_only=True):
    """A step. The fields after `type` are those of its last try in a run."""

    id: str
    name: str
    type: StepType
    status: StepStatus | None = None
    skip_reason: SkipReason | None = None
    attempt: int | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration_ms: int | None = None


class GraphEdge(msgspec.Struct, kw_only=True):
    """`target` waits for `source`. `taken` says whether the run went this way: null before that is decided."""

    source: str
    target: str
    kind: EdgeKind
    taken: bool | None = None


class WorkflowGraph(msgspec.Struct, kw_only=True):
    """Steps and what leads from one to the other."""

    workflow_name: str
    workflow_version: int | None
    run_id: str | None
    nodes: list[GraphNode]
    edges: list[GraphEdge]


def of_definition(name: str, version: int | None, outlines: Sequence[Outline], policy: Policy) -> WorkflowGraph:
    """The graph of a definition, also of one that is not valid yet."""
    return WorkflowGraph(
        workflow_name=name,
        workflow_version=version,
        run_id=None,
        nodes=[GraphNode(id=one.name, name=one.name, type=one.type) for one in outlines],
        edges=[
            GraphEdge(source=edge.source, target=edge.target, kind=edge.kind)
            for edge in plan_of(outlines, policy).edges
        ],
    )


def of_run(detail: Detail) -> WorkflowGraph:
    """The graph of a run as it stands."""
    spec, latest = detail.spec, detail.latest
    return WorkflowGraph(
        workflow_name=spec.workflow_name,
        workflow_version=spec.workflow_version,
        run_id=detail.run_id,
        nodes=[_node(detail, one) for one in latest.values()],
        edges=[
            GraphEdge(source=edge.source, target=edge.target, kind=edge.kind, taken=_taken(detail, edge, latest))
            for edge in plan_of(spec.outlines, spec.policy).edges
        ],
    )


def _node(detail: Detail, one: Try) -> GraphNode:
    return GraphNode(
        id=one.step,
        name=one.step,
        type=one.outline.type,
        status=detail.status_of(one),
        skip_reason=one.skip_reason,
        attempt=one.attempt,
        started_at=one.started_at,
        completed_at=one.completed_at,
        duration_ms=one.duration_ms,
    )


def _taken(detail: Detail, edge: Edge, latest: Mapping[str, Try]) -> bool | None:
    """A choice takes one way. Any other edge is taken when the one before lets the step after it begin."""
    source, target = latest[edge.source], latest[edge.target]
    is_decided = source.is_over and detail.status_of(source) != "WAITING"
    if edge.kind in CHOICE_KINDS:
        return source.taken == edge.target if source.has_output else False if is_decided else None
    if not is_decided:
        # What is skipped for another reason will not come this way.
        return False if _is_passed_over(target) else None
    if _is_passed_over(source) or _is_passed_over(target):
        return False
    if source.status == "FAILED" and target.status == "PENDING":
        return None if not detail.is_over else False
    return True


def _is_passed_over(one: Try) -> bool:
    return one.status in _PASSED_OVER and one.skip_reason not in REUSED and one.started_at is None
