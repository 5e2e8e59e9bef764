"""The workflow aggregate: versions under a name."""

from typing import Any

from given import NOW, given

from rgrid.workflows.commands import DefineWorkflow, DeleteWorkflow
from rgrid.workflows.definition import DECIDER
from rgrid.workflows.document import Outline, Policy
from rgrid.workflows.events import WorkflowActivated, WorkflowDeactivated, WorkflowDefined, WorkflowDeleted

DELETE = DeleteWorkflow(deleted_by="key:1")


def define(sha256: str = "a", **more: Any) -> DefineWorkflow:
    return DefineWorkflow(
        document_sha256=sha256,
        document_size_bytes=9,
        domain=None,
        description=None,
        tags=[],
        parameters=[],
        defaults={},
        outlines=[Outline(name="a", type="WAIT", duration_seconds=1)],
        policy=Policy(),
        targets=[],
        is_active=more.pop("is_active", True),
        defined_by="key:1",
        **more,
    )


def test_a_change_makes_the_next_version() -> None:
    workflow = given(DECIDER).when(define("a")).then(WorkflowDefined)
    workflow = workflow.when(define("b")).then(WorkflowDefined)
    assert workflow.state.version == 2
    assert [one.document_sha256 for one in workflow.state.versions.values()] == ["a", "b"]
    assert workflow.state.newest.defined_at == NOW


def test_without_a_change_there_is_no_new_version() -> None:
    given(DECIDER).when(define()).then(WorkflowDefined).when(define()).then_nothing()


def test_an_earlier_document_makes_a_new_version() -> None:
    workflow = given(DECIDER).when(define("a")).after.when(define("b")).after.when(define("a")).then(WorkflowDefined)
    assert workflow.state.version == 3


def test_a_workflow_is_activated_and_deactivated_without_a_new_version() -> None:
    workflow = given(DECIDER).when(define(is_active=False)).then(WorkflowDefined, WorkflowDeactivated)
    assert not workflow.state.is_active
    workflow = workflow.when(define()).then(WorkflowActivated)
    assert workflow.state.is_active and workflow.state.version == 1


def test_what_must_be_new_may_not_be_there() -> None:
    workflow = given(DECIDER).when(define(create_only=True)).then(WorkflowDefined)
    workflow.when(define("b", create_only=True)).then_refused("version_mismatch")
    workflow.when(DELETE).then(WorkflowDeleted).when(define(create_only=True)).then(WorkflowDefined)


def test_versions_go_on_counting_when_a_deleted_name_is_used_again() -> None:
    workflow = given(DECIDER).when(define(is_active=False)).after.when(DELETE).then(WorkflowDeleted)
    assert not workflow.state.exists
    workflow = workflow.when(define()).then(WorkflowDefined)
    assert workflow.state.version == 2 and workflow.state.is_active and workflow.state.exists


def test_the_deletion_of_nothing_is_not_found() -> None:
    given(DECIDER).when(DELETE).then_refused("not_found")
    given(DECIDER).when(define()).after.when(DELETE).after.when(DELETE).then_refused("not_found")
