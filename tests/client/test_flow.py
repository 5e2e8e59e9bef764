"""A workflow built in Python is the document that one would write by hand, and the service's own form reads it."""

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from rgrid.client import flow as built
from rgrid.client.flow import Flow, Quality, Retry
from rgrid.workflows import document as written
from rgrid.workflows.document import Document

WRITTEN = """
name: weekly_refresh
domain: sales
tags: [weekly]
parameters:
  - {name: week_ending, type: date, required: true}
  - {name: limit, type: integer, default: 10}
steps:
  - name: clean
    type: EXECUTION
    params:
      script_content: print('clean')
      args: ["${params.week_ending}"]
      timeout_seconds: 60
    timeout_seconds: 90
    retry: {max_attempts: 5, retry_on: [TRANSIENT]}
    quality: {min_records: 1, max_null_rate: 0.1, hard: false}
  - name: tiers
    type: MAP
    target_name: weekly_refresh.tier
    items: params.tiers
    item_name: tier
    max_concurrency: 2
    on_error: CONTINUE
  - name: is_large
    type: CHOICE
    condition: steps.clean.output.stdout_json.rows > params.limit
    then_step: approve
    else_step: publish
  - {name: approve, type: WAIT, signal: approved, timeout_seconds: 3600}
  - {name: pause, type: WAIT, duration_seconds: 0}
  - {name: fetch, type: SOURCE, target_name: sales.eu, depends_on: [clean]}
  - {name: child, type: WORKFLOW, target_name: other, params: {a: 1}}
  - {name: load, type: HANDLER, target_name: sales.load, params: {rows: "${steps.clean.output}"}, cache_seconds: 60}
  - {name: tell, type: ALERT, params: {title: done, severity: INFO}}
  - {name: publish, type: EXECUTION, description: the end, params: {script_content: print(1), network: true}}
policy: {mode: PARALLEL, max_concurrency: 3, on_failure: CONTINUE, timeout_seconds: 7200}
"""


def weekly(script: Path) -> Flow:
    return (
        Flow(
            "weekly_refresh",
            domain="sales",
            tags=["weekly"],
            mode="PARALLEL",
            max_concurrency=3,
            on_failure="CONTINUE",
            timeout_seconds=7200,
        )
        .parameter("week_ending", "date", required=True)
        .parameter("limit", "integer", default=10)
        .execution(
            "clean",
            script=script,
            args=["${params.week_ending}"],
            script_timeout_seconds=60,
            timeout_seconds=90,
            retry=Retry(max_attempts=5, retry_on=["TRANSIENT"]),
            quality=Quality(min_records=1, max_null_rate=0.1, hard=False),
        )
        .map(
            "tiers",
            "weekly_refresh.tier",
            items="params.tiers",
            item_name="tier",
            max_concurrency=2,
            on_error="CONTINUE",
        )
        .choice("is_large", "steps.clean.output.stdout_json.rows > params.limit", then="approve", otherwise="publish")
        .wait("approve", signal="approved", timeout_seconds=3600)
        .wait("pause", seconds=0)
        .source("fetch", "sales.eu", depends_on=["clean"])
        .workflow("child", "other", {"a": 1})
        .handler("load", "sales.load", {"rows": "${steps.clean.output}"}, cache_seconds=60)
        .alert("tell", {"title": "done", "severity": "INFO"})
        .execution("publish", script="print(1)", network=True, description="the end")
    )


def test_a_flow_is_what_one_would_write(tmp_path: Path) -> None:
    script = tmp_path / "clean.py"
    script.write_text("print('clean')")
    assert weekly(script).document() == msgspec.yaml.decode(WRITTEN)


def test_the_service_reads_it_and_gives_it_back(tmp_path: Path) -> None:
    script = tmp_path / "clean.py"
    script.write_text("print('clean')")
    document = weekly(script).document()
    assert msgspec.json.decode(msgspec.json.encode(msgspec.convert(document, Document))) == document


def test_a_document_does_not_change_with_the_flow() -> None:
    flow = Flow("grows").execution("a", script="print(1)")
    before = flow.document()
    flow.execution("b", script="print(2)")
    assert [step["name"] for step in before["steps"]] == ["a"]
    assert [step["name"] for step in flow.document()["steps"]] == ["a", "b"]


@pytest.mark.parametrize("name", ["RunMode", "OnError", "OnFailure", "ParameterType", "ErrorCategory"])
def test_the_words_are_those_of_the_service(name: str) -> None:
    assert get_args(getattr(built, name)) == get_args(getattr(written, name))


def test_every_field_of_a_step_can_be_built() -> None:
    fields = {"name", "type", "target_name", "condition", "then_step", "else_step", "duration_seconds", "until"}
    fields |= {"signal", "items", "item_name", "max_concurrency", "params", *built.StepOptions.__annotations__}
    assert fields == set(written.Step.__struct_fields__)
    assert set(built.Retry.__struct_fields__) == set(written.RetryPolicy.__struct_fields__)
    assert set(built.Quality.__struct_fields__) == set(written.QualityGate.__struct_fields__)
