"""Quality gates: a hard one fails the step, a soft one warns."""

from typing import Any

import pytest
from workflows.runs import complete, end, start, step, triggered

from rgrid.workflows.document import QualityGate
from rgrid.workflows.events import RunEnded, StepCompleted, StepFailed
from rgrid.workflows.quality import complaints, measures


@pytest.mark.parametrize(
    ("gate", "outputs", "told"),
    [
        ({"min_records": 3}, {"row_count": 3}, []),
        ({"min_records": 4}, {"row_count": 3}, ["row_count is 3, less than 4."]),
        ({"max_records": 2}, {"row_count": 3}, ["row_count is 3, more than 2."]),
        ({"min_records": 0}, {}, ["The output reports no row_count."]),
        ({"min_records": 1}, {"row_count": True}, ["The output reports no row_count."]),
        ({"min_valid_rate": 0.9}, {"quality": {"valid_rate": 1}}, []),
        ({"min_valid_rate": 0.9}, {"quality": {"valid_rate": 0.5}}, ["quality.valid_rate is 0.5, less than 0.9."]),
        ({"max_null_rate": 0}, {"quality": {"null_rate": 0.5}}, ["quality.null_rate is 0.5, more than 0."]),
        ({"max_null_rate": 0.1}, {"quality": "good"}, ["The output reports no quality.null_rate."]),
        ({"min_records": 1}, {"rows": 7}, []),
        ({"min_records": 1}, {"stdout_json": {"row_count": 7}}, []),
        ({"max_null_rate": 0.1}, {"stdout_json": {"quality": {"null_rate": 0.01}}}, []),
    ],
)
def test_a_gate_compares_what_the_output_reports(
    gate: dict[str, Any], outputs: dict[str, Any], told: list[str]
) -> None:
    assert list(complaints(QualityGate(**gate), measures(outputs))) == told


def test_a_hard_gate_fails_the_step() -> None:
    run = triggered(step("a", quality=QualityGate(min_records=9))).when(start("a")).after
    run = run.when(complete("a", outputs={"row_count": 3})).then(StepFailed, RunEnded)
    assert (end(run).error, end(run).error_category) == ("row_count is 3, less than 9.", "DATA_QUALITY")


def test_a_soft_gate_warns() -> None:
    gate = QualityGate(min_records=9, max_null_rate=0.5, hard=False)
    run = triggered(step("a", quality=gate)).when(start("a")).after
    decided = run.when(complete("a", outputs={}, row_count=3))
    completed = decided.events[0]
    assert isinstance(completed, StepCompleted)
    assert completed.warnings == ["row_count is 3, less than 9.", "The output reports no quality.null_rate."]
    assert end(decided.after).rows_processed == 3
