"""What the service answers about workflows, their runs and schedules, as far as a client looks at it."""

from datetime import datetime
from typing import Any, Final

from rgrid.client.answers import Action, Answer, LogLine

RUN_OVER: Final = frozenset({"COMPLETED", "PARTIAL", "FAILED", "CANCELLED"})


class Applied(Action, frozen=True, kw_only=True):
    """The version that a document became, or was already."""

    name: str
    version: int


class Issue(Answer, frozen=True, kw_only=True):
    """What is wrong with a document: `code` is the rule, `field` the place within the step or the document."""

    code: str
    message: str
    step: str | None = None
    field: str | None = None


class Node(Answer, frozen=True, kw_only=True):
    id: str
    name: str
    type: str
    status: str | None = None


class Edge(Answer, frozen=True, kw_only=True):
    """`taken` is None until it is decided."""

    source: str
    target: str
    kind: str
    taken: bool | None = None


class Graph(Answer, frozen=True, kw_only=True):
    workflow_name: str
    nodes: list[Node]
    edges: list[Edge]
    workflow_version: int | None = None
    run_id: str | None = None


class Validation(Answer, frozen=True, kw_only=True):
    valid: bool
    errors: list[Issue]
    warnings: list[Issue]
    graph: Graph | None = None


class WorkflowRow(Answer, frozen=True, kw_only=True):
    """One line of the list of definitions."""

    name: str
    version: int
    step_count: int
    is_active: bool
    created_at: datetime
    updated_at: datetime
    domain: str | None = None
    description: str | None = None
    tags: list[str] = []
    parameters: list[dict[str, Any]] = []
    created_by: str | None = None
    last_run_at: datetime | None = None
    last_run_status: str | None = None


class Workflow(WorkflowRow, frozen=True, kw_only=True):
    """One version of a definition. Steps and policy are in the form in which they are written."""

    steps: list[dict[str, Any]]
    policy: dict[str, Any]
    defaults: dict[str, Any] = {}


class PlannedStep(Answer, frozen=True, kw_only=True):
    """What would become of a step: `run` or `reuse`."""

    step_name: str
    step_type: str
    action: str
    expected_ms: int | None = None
    expected_cost_micros: int | None = None


class Triggered(Answer, frozen=True, kw_only=True):
    """Something was started. `run_id` is `run_…`, or what else a schedule starts; a dry run has a plan."""

    run_id: str
    status: str
    message: str = ""
    target_type: str = "WORKFLOW"
    workflow_name: str | None = None
    schedule_run_id: str | None = None
    plan: list[PlannedStep] | None = None


class RunRow(Answer, frozen=True, kw_only=True):
    """One line of the list of runs."""

    run_id: str
    workflow_name: str
    workflow_version: int
    status: str
    trigger: str
    created_at: datetime
    total_steps: int
    completed_steps: int
    failed_steps: int
    skipped_steps: int
    domain: str | None = None
    partition_key: dict[str, Any] | None = None
    triggered_by: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration_ms: int | None = None
    error: str | None = None

    @property
    def is_over(self) -> bool:
        return self.status in RUN_OVER

    @property
    def ended_steps(self) -> int:
        return self.completed_steps + self.failed_steps + self.skipped_steps


class Step(Answer, frozen=True, kw_only=True):
    """One try of a step."""

    step_name: str
    step_type: str
    step_order: int
    status: str
    attempt: int
    step_id: str = ""
    run_id: str = ""
    max_attempts: int = 1
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration_ms: int | None = None
    inputs: dict[str, Any] | None = None
    outputs: dict[str, Any] | None = None
    row_count: int | None = None
    error: str | None = None
    error_category: str | None = None
    skip_reason: str | None = None
    execution_id: str | None = None
    fetch_id: str | None = None
    child_run_ids: list[str] = []
    next_attempt_at: datetime | None = None
    wakes_at: datetime | None = None
    signal: str | None = None
    items_total: int | None = None
    items_ended: int = 0
    items_failed: int = 0
    warnings: list[str] = []


class Run(RunRow, frozen=True, kw_only=True):
    """One run with all its steps, every try of each."""

    version: int
    steps: list[Step] = []
    params: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    error_category: str | None = None
    failed_step: str | None = None
    rows_processed: int | None = None
    dry_run: bool = False
    retry_of: str | None = None
    from_step: str | None = None
    parent_run_id: str | None = None
    schedule_id: str | None = None
    created_by: str | None = None
    cancel_requested_at: datetime | None = None
    paused_at: datetime | None = None
    pause_note: str | None = None

    def last_tries(self) -> list[Step]:
        """One record for each step, in the order of the document: its last try."""
        last: dict[str, Step] = {}
        for step in sorted(self.steps, key=lambda each: (each.step_order, each.attempt)):
            last[step.step_name] = step
        return list(last.values())


class RetryPlan(Answer, frozen=True, kw_only=True):
    """What a retry would do, and what it is expected to take."""

    run_id: str
    workflow_name: str
    workflow_version: int
    from_step: str
    steps: list[PlannedStep]
    expected_ms: int | None = None
    expected_cost_micros: int | None = None
    cost_display: str | None = None


class RunLine(LogLine, frozen=True, kw_only=True):
    """A line of a run, and of which try of which step it is; `run_id` is a child's where that printed it."""

    run_id: str
    step_name: str
    step_attempt: int


class BulkItem(Answer, frozen=True, kw_only=True):
    """What came of one run: `new_run_id` for a retry, `error` when it was refused."""

    run_id: str
    status: str
    new_run_id: str | None = None
    code: str | None = None
    error: str | None = None


class Bulk(Answer, frozen=True, kw_only=True):
    """What came of an action on all runs that a filter means."""

    dry_run: bool
    matched: int
    done: int
    refused: int
    runs: list[BulkItem]


class Exclusion(Answer, frozen=True, kw_only=True):
    """Local dates, both inclusive, on which nothing fires."""

    first: str
    last: str
    reason: str | None = None


class Schedule(Answer, frozen=True, kw_only=True):
    id: str
    name: str
    target_type: str
    target_name: str
    schedule_type: str
    timezone: str
    enabled: bool
    created_at: datetime
    updated_at: datetime
    version: int
    description: str | None = None
    target_params: dict[str, Any] | None = None
    cron_expression: str | None = None
    interval_seconds: int | None = None
    run_at: datetime | None = None
    max_instances: int = 1
    overlap_policy: str = "SKIP"
    misfire_policy: str = "FIRE_ONCE"
    dst_gap: str = "SHIFT"
    dst_fold: str = "FIRST"
    jitter_seconds: int = 0
    misfire_grace_seconds: int = 60
    catch_up_limit: int = 10
    start_at: datetime | None = None
    end_at: datetime | None = None
    exclusions: list[Exclusion] = []
    pause_after_failures: int | None = None
    note: str | None = None
    tags: list[str] = []
    last_run_at: datetime | None = None
    next_run_at: datetime | None = None
    last_run_status: str | None = None
    run_count: int = 0
    success_count: int = 0
    failure_count: int = 0
    consecutive_failures: int = 0
    created_by: str | None = None


class ScheduleRun(Answer, frozen=True, kw_only=True):
    """The decision about one due time, and what came of it."""

    id: str
    schedule_id: str
    schedule_name: str
    scheduled_at: datetime
    trigger: str
    status: str
    target_type: str
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration_seconds: float | None = None
    run_id: str | None = None
    execution_id: str | None = None
    fetch_id: str | None = None
    error: str | None = None
    skip_reason: str | None = None

    @property
    def target_id(self) -> str | None:
        return self.run_id or self.execution_id or self.fetch_id


class Due(Answer, frozen=True, kw_only=True):
    """A time to come: as an instant, and as a clock in the schedule's zone shows it. `dst` marks times that a change of
    the clock puts off (`gap`) or lets come twice (`fold`)."""

    next_run_at: datetime
    local_time: str
    timezone: str
    schedule_id: str | None = None
    schedule_name: str | None = None
    cron_expression: str | None = None
    interval_seconds: int | None = None
    dst: str | None = None
    expected_cost_micros: int | None = None


class Backfilled(Action, frozen=True, kw_only=True):
    """The due times of a range that will run, or would."""

    count: int
    skipped: int
    occurrences: list[datetime]
    schedule_run_ids: list[str]
