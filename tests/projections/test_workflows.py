"""The read model of workflow definitions, and what keeps their documents."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from projected import projected, read_model

from projections import objects, workflows
from rgrid.kernel.messages import Event
from rgrid.postgres.paging import Window
from rgrid.workflows.document import Outline, Policy
from rgrid.workflows.events import (
    RunCancelRequested,
    RunEnded,
    RunTriggered,
    StepStarted,
    WorkflowActivated,
    WorkflowDeactivated,
    WorkflowDefined,
    WorkflowDeleted,
)

MOMENT = datetime(2026, 1, 5, tzinfo=UTC)
STEP = Outline(name="a", type="HANDLER", target_name="h")
SHOWN = "select workflow_name, version, is_active, created_at, updated_at from workflows order by 1"
RUNS = "select workflow_name, run_id, status from workflow_last_runs order by 1"


def defined(version: int, minute: int = 0, by: str = "key:1", **more: Any) -> WorkflowDefined:
    return WorkflowDefined(
        version=version,
        document_sha256=f"{version:064x}",
        document_size_bytes=7,
        outlines=[STEP],
        policy=Policy(),
        defined_by=by,
        defined_at=MOMENT + timedelta(minutes=minute),
        **more,
    )


def triggered(run_id: str, name: str, minute: int = 0) -> RunTriggered:
    return RunTriggered(
        run_id=run_id,
        workflow_name=name,
        workflow_version=1,
        document_sha256="0" * 64,
        outlines=[STEP],
        policy=Policy(),
        trigger="API",
        triggered_by="key:1",
        triggered_at=MOMENT + timedelta(minutes=minute),
    )


STARTED = StepStarted(step="a", attempt=1, started_at=MOMENT)


def test_a_definition_has_its_newest_version_and_the_time_it_came_to_be(database: str) -> None:
    given: list[tuple[str, Event]] = [
        ("workflow-a", defined(1, 0)),
        ("workflow-b", defined(1, 1)),
        ("workflow-a", defined(2, 2)),
        ("workflow-b", WorkflowDeactivated(deactivated_by="key:1", deactivated_at=MOMENT + timedelta(minutes=3))),
    ]
    assert [tuple(row.values()) for row in projected(database, workflows.PROJECTION, given, SHOWN)] == [
        ("a", 2, True, MOMENT, MOMENT + timedelta(minutes=2)),
        ("b", 1, False, MOMENT + timedelta(minutes=1), MOMENT + timedelta(minutes=3)),
    ]


def test_a_deleted_definition_is_gone_and_its_name_begins_anew(database: str) -> None:
    given: list[tuple[str, Event]] = [
        ("workflow-a", defined(1)),
        ("workflow-a", WorkflowDeactivated(deactivated_by="key:1", deactivated_at=MOMENT)),
        ("workflow-a", WorkflowDeleted(deleted_by="key:1", deleted_at=MOMENT)),
        ("workflow-b", defined(1)),
        ("workflow-b", WorkflowDeleted(deleted_by="key:1", deleted_at=MOMENT)),
        ("workflow-a", defined(2, 5)),
        ("workflow-a", WorkflowActivated(activated_by="key:1", activated_at=MOMENT + timedelta(minutes=5))),
    ]
    later = MOMENT + timedelta(minutes=5)
    assert [tuple(row.values()) for row in projected(database, workflows.PROJECTION, given, SHOWN)] == [
        ("a", 2, True, later, later)
    ]


def test_the_last_run_of_each_workflow_is_known(database: str) -> None:
    given: list[tuple[str, Event]] = [
        ("run-1", triggered("1", "a")),
        ("run-2", triggered("2", "b")),
        ("run-1", STARTED),
        ("run-2", STARTED),
        ("run-3", triggered("3", "c")),
        ("run-2", RunEnded(status="FAILED", ended_at=MOMENT)),
        ("run-4", triggered("4", "a", 1)),
        ("run-1", RunEnded(status="COMPLETED", ended_at=MOMENT)),
        ("run-5", triggered("5", "d")),
        ("run-5", STARTED),
        ("run-5", RunCancelRequested(requested_by="key:1", requested_at=MOMENT)),
        ("run-5", STARTED),
        ("run-6", triggered("6", "e")),
        ("run-6", STARTED),
    ]
    assert [tuple(row.values()) for row in projected(database, workflows.PROJECTION, given, RUNS)] == [
        ("a", "4", "PENDING"),
        ("b", "2", "FAILED"),
        ("c", "3", "PENDING"),
        ("d", "5", "CANCELLING"),
        ("e", "6", "RUNNING"),
    ]


def test_definitions_are_listed_by_filter_with_their_last_runs(database: str) -> None:
    given: list[tuple[str, Event]] = [
        ("workflow-a", defined(1, 3, domain="sales", tags=["x", "y"])),
        ("workflow-b", defined(1, 2, domain="sales.eu", tags=["y"])),
        ("workflow-c", defined(1, 1)),
        ("workflow-c", WorkflowDeactivated(deactivated_by="key:1", deactivated_at=MOMENT)),
        ("run-1", triggered("1", "b")),
    ]

    async def main() -> None:
        async with read_model(database, workflows.PROJECTION, given) as connection:

            async def names(domain: str | None = None, tag: str | None = None, is_active: bool | None = None) -> Any:
                window = Window(keys=(workflows.KEYS["workflow_name"],), descending=False)
                rows = await workflows.page(connection, domain, tag, is_active, window)
                assert rows.total == len(rows.rows)
                return [(row["workflow_name"], row["last_run_status"]) for row in rows.rows]

            assert await names() == [("a", None), ("b", "PENDING"), ("c", None)]
            assert await names(domain="sales") == [("a", None)]
            assert await names(tag="y") == [("a", None), ("b", "PENDING")]
            assert await names(tag="y", is_active=False) == []
            assert await names(is_active=False) == [("c", None)]
            assert await workflows.last_run(connection, "b") == (MOMENT, "PENDING")
            assert await workflows.last_run(connection, "a") is None

    asyncio.run(main())


def test_who_starts_whom_is_known(database: str) -> None:
    given: list[tuple[str, Event]] = [
        ("workflow-a", defined(1, targets=["b", "missing"])),
        ("workflow-b", defined(1, targets=["c"])),
        ("workflow-c", defined(1, targets=["a", "c"])),
        ("workflow-d", defined(1, targets=["c"])),
        ("workflow-d", WorkflowDeleted(deleted_by="key:1", deleted_at=MOMENT)),
    ]

    async def main() -> None:
        async with read_model(database, workflows.PROJECTION, given) as connection:
            assert await workflows.users_of(connection, "c") == ["b"]
            assert await workflows.users_of(connection, "missing") == ["a"]

    asyncio.run(main())


def test_documents_and_items_of_maps_are_kept_for_good(database: str) -> None:
    items = "f" * 64
    given: list[tuple[str, Event]] = [
        ("workflow-a", defined(1)),
        ("workflow-a", WorkflowDeleted(deleted_by="key:1", deleted_at=MOMENT)),
        ("run-1", StepStarted(step="a", attempt=1, items_sha256=items, items_total=1, started_at=MOMENT)),
        ("run-1", StepStarted(step="b", attempt=1, started_at=MOMENT)),
    ]
    rows = projected(database, objects.PROJECTION, given, "select sha256, is_kept from objects order by 1")
    assert [tuple(row.values()) for row in rows] == [(f"{1:064x}", True), (items, True)]
