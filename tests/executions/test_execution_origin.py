"""What came of something else says so to the end."""

from datetime import timedelta

from given import NOW, given

from rgrid.executions.commands import CancelExecution, SubmitExecution
from rgrid.executions.events import ExecutionCancelled, Origin
from rgrid.executions.execution import DECIDER

ORIGIN = Origin(schedule_id="sched_1", schedule_run_id="srun_1", scheduled_at=NOW - timedelta(seconds=1))


def submit(origin: Origin | None) -> SubmitExecution:
    return SubmitExecution(
        script_sha256="0" * 64, script_size_bytes=8, runtime="python:3.11", timeout_s=300, cpu=1.0, memory_mb=512,
        max_retries=2, inputs_deadline_s=3600, root_execution_id="exec_1", created_by="key:k", origin=origin,
    )  # fmt: skip


def test_the_final_event_says_what_the_execution_came_from() -> None:
    for origin in (ORIGIN, None):
        submitted = given(DECIDER).when(submit(origin)).after
        (cancelled,) = submitted.when(CancelExecution(requested_by="key:k")).events
        assert isinstance(cancelled, ExecutionCancelled)
        assert cancelled.origin == origin
