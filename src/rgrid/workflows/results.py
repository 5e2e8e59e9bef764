"""What the end of something that a step began says of the step."""

from rgrid.workflows.commands import CompleteStep, EndMapItem, FailStep, RunCommand
from rgrid.workflows.events import Parent, RunEnded
from rgrid.workflows.neighbours import Ended


def of_execution(step: str, attempt: int, ended: Ended) -> RunCommand:
    """The result of a try whose execution ended."""
    if ended.category is None:
        return CompleteStep(step=step, attempt=attempt, outputs=ended.outputs)
    error = ended.error or "The execution did not complete."
    return FailStep(step=step, attempt=attempt, error=error, category=ended.category)


def of_child(parent: Parent, run_id: str, event: RunEnded) -> RunCommand:
    """The result of a step, or of an item of a MAP, whose child run ended."""
    step, attempt = parent.step, parent.attempt
    error = event.error or f"The run {run_id} ended {event.status}."
    if parent.index is not None:
        done = event.status in ("COMPLETED", "PARTIAL")
        return EndMapItem(
            step=step,
            attempt=attempt,
            index=parent.index,
            child_run_id=run_id,
            status=event.status,
            outputs=event.outputs if done else None,
            error=None if done else error,
            category=event.error_category,
        )
    match event.status:
        case "COMPLETED" | "PARTIAL":
            return CompleteStep(step=step, attempt=attempt, outputs=event.outputs)
        case "CANCELLED":
            return FailStep(step=step, attempt=attempt, error=error, category="CANCELLED")
    return FailStep(step=step, attempt=attempt, error=error, category=event.error_category or "DEPENDENCY")
