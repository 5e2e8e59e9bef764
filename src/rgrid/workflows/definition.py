"""The workflow aggregate: a name, and every version that was ever defined under it. Stream `workflow-{name}`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from rgrid.kernel.decider import Decider
from rgrid.kernel.errors import NotFound, StaleVersion
from rgrid.workflows.commands import DefineWorkflow, DeleteWorkflow, WorkflowCommand
from rgrid.workflows.events import (
    WorkflowActivated,
    WorkflowDeactivated,
    WorkflowDefined,
    WorkflowDeleted,
    WorkflowEvent,
)


class Workflow(msgspec.Struct, frozen=True, kw_only=True):
    """Versions stay when the name is deleted, and go on counting when it is used again: `first_version` is the one
    that it was last made with."""

    exists: bool = False
    is_active: bool = True
    versions: Mapping[int, WorkflowDefined] = {}
    first_version: int = 0
    changed_at: datetime | None = None

    @property
    def version(self) -> int:
        """The newest one, 0 before the first."""
        return max(self.versions, default=0)

    @property
    def newest(self) -> WorkflowDefined:
        return self.versions[self.version]


INITIAL: Final = Workflow()


def decide(command: WorkflowCommand, state: Workflow, now: datetime) -> Sequence[WorkflowEvent]:
    """The events that follow, `[]` when it is so already. Refuses with StaleVersion, NotFound."""
    match command:
        case DefineWorkflow():
            if state.exists and command.create_only:
                raise StaleVersion("There is a workflow of this name already.")
            return [*_version(command, state, now), *_activity(command, state, now)]
        case DeleteWorkflow():
            if not state.exists:
                raise NotFound("Workflow not found.")
            return [WorkflowDeleted(deleted_by=command.deleted_by, deleted_at=now)]


def _version(command: DefineWorkflow, state: Workflow, now: datetime) -> Sequence[WorkflowEvent]:
    if state.exists and state.newest.document_sha256 == command.document_sha256:
        return []
    shared = [name for name in DefineWorkflow.__struct_fields__ if name in WorkflowDefined.__struct_fields__]
    return [
        WorkflowDefined(
            **{name: getattr(command, name) for name in shared},
            version=state.version + 1,
            defined_at=now,
        )
    ]


def _activity(command: DefineWorkflow, state: Workflow, now: datetime) -> Sequence[WorkflowEvent]:
    is_active = state.is_active if state.exists else True
    if command.is_active == is_active:
        return []
    if command.is_active:
        return [WorkflowActivated(activated_by=command.defined_by, activated_at=now)]
    return [WorkflowDeactivated(deactivated_by=command.defined_by, deactivated_at=now)]


def evolve(state: Workflow, event: WorkflowEvent) -> Workflow:
    """The state after a recorded event."""
    replace = msgspec.structs.replace
    match event:
        case WorkflowDefined():
            return Workflow(
                exists=True,
                is_active=state.is_active if state.exists else True,
                versions={**state.versions, event.version: event},
                first_version=state.first_version if state.exists else event.version,
                changed_at=event.defined_at,
            )
        case WorkflowActivated(activated_at=moment):
            return replace(state, is_active=True, changed_at=moment)
        case WorkflowDeactivated(deactivated_at=moment):
            return replace(state, is_active=False, changed_at=moment)
        case WorkflowDeleted():
            return replace(state, exists=False)


DECIDER: Final = Decider[WorkflowCommand, Workflow, WorkflowEvent](
    noun="workflow", initial=INITIAL, decide=decide, evolve=evolve
)
