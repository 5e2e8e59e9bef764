"""Runs to test with: outlines, and a run of them that was triggered."""

from typing import Any

from given import Given, given

from rgrid.workflows.commands import CompleteStep, FailStep, StartStep, TriggerRun
from rgrid.workflows.document import ErrorCategory, Outline, Policy, StepType
from rgrid.workflows.events import RunEnded
from rgrid.workflows.run import DECIDER
from rgrid.workflows.run_state import Run

RUN_ID = "run_01"


def step(name: str, kind: StepType = "EXECUTION", **more: Any) -> Outline:
    """A step, of which only what matters is said."""
    return Outline(name=name, type=kind, **more)


def choice(name: str, then: str, otherwise: str | None = None, **more: Any) -> Outline:
    return Outline(name=name, type="CHOICE", condition="x", then_step=then, else_step=otherwise, **more)


def trigger(*outlines: Outline, mode: Any = "SEQUENTIAL", on_failure: Any = "STOP", **more: Any) -> TriggerRun:
    """The command; `timeout_seconds` and `max_concurrency` are those of the policy."""
    limits = {name: more.pop(name) for name in ("timeout_seconds", "max_concurrency") if name in more}
    return TriggerRun(
        run_id=RUN_ID,
        workflow_name="w",
        workflow_version=1,
        document_sha256="0" * 64,
        outlines=list(outlines),
        policy=Policy(mode=mode, on_failure=on_failure, **limits),
        params=more.pop("params", {}),
        trigger=more.pop("trigger", "API"),
        triggered_by="key:1",
        **more,
    )


def triggered(*outlines: Outline, **more: Any) -> Given:
    """A run that was triggered, and nothing else."""
    return given(DECIDER).when(trigger(*outlines, **more)).after


def start(name: str, attempt: int = 1, **more: Any) -> StartStep:
    return StartStep(step=name, attempt=attempt, **more)


def complete(name: str, attempt: int = 1, **more: Any) -> CompleteStep:
    return CompleteStep(step=name, attempt=attempt, outputs=more.pop("outputs", {}), **more)


def fail(name: str, attempt: int = 1, category: ErrorCategory = "INTERNAL", error: str = "broke") -> FailStep:
    return FailStep(step=name, attempt=attempt, error=error, category=category)


def done(run: Given, *names: str, **more: Any) -> Given:
    """The run after these steps have started and completed, one after the other."""
    for name in names:
        run = run.when(start(name)).after.when(complete(name, **more)).after
    return run


def statuses(run: Given) -> list[str]:
    """How the steps stand, in the order of the list; of skipped ones why."""
    state: Run = run.state
    return [one.skip_reason or one.status for one in state.steps.values()]


def end(run: Given) -> RunEnded:
    """How the run ended."""
    last = run.past[-1]
    assert isinstance(last, RunEnded), f"{last}"
    return last
