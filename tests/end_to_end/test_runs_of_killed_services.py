"""Workflow runs on a real service: scripts, handlers of an installed package, maps and waits, through kill -9."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from end_to_end import pipeline_package
from end_to_end.grid import Program, Service, until

from rgrid.postgres.embedded import EmbeddedPostgres

ENDS_MAX_S = 90
MAKE = """
import json, pathlib, time
time.sleep(%s)
pathlib.Path("made.csv").write_text("a;1\\nb;2\\n")
print("making")
print(json.dumps({"row_count": 2, "names": ["a", "b"]}))
"""
READ = "import pathlib; print(len(pathlib.Path('in.csv').read_text().splitlines()))"
DOUBLE = "import json, sys, time; time.sleep(%s); print(json.dumps({'twice': sys.argv[1] * 2}))"
FAIL = "import json, sys; print(json.dumps({'error_category': 'DATA_QUALITY'})); sys.exit(3)"

Start = Callable[..., Service]


@pytest.fixture
def service(folder: Path, stopping: list[Program]) -> Service:
    started = Service(folder, slots=2)
    started.environment["PYTHONPATH"] += f":{pipeline_package.install(folder)}"
    stopping.append(started)
    started.start()
    return started


def call(service: Service, method: str, path: str, body: Any = None) -> Any:
    reply = service.client().transport.call(method, f"/api/v1/workflows/{path}", body=body, retry=False)
    return msgspec.json.decode(reply.body)


def define(service: Service, name: str, *steps: dict[str, Any], **more: Any) -> None:
    call(service, "PUT", f"definitions/{name}", {"name": name, "steps": list(steps), **more})


def trigger(service: Service, name: str, **params: Any) -> str:
    run_id: str = call(service, "POST", f"trigger/{name}", {"params": params})["run_id"]
    return run_id


def run_of(service: Service, run_id: str) -> dict[str, Any]:
    run: dict[str, Any] = call(service, "GET", f"runs/{run_id}")
    return run


def ended(service: Service, run_id: str) -> dict[str, Any]:
    def over() -> dict[str, Any] | None:
        run = run_of(service, run_id)
        return run if run["completed_at"] else None

    return until(f"{run_id} is over", over, ENDS_MAX_S, says=lambda: str(steps(service, run_id)))


def steps(service: Service, run_id: str) -> dict[str, dict[str, Any]]:
    """The last try of each step."""
    listed = call(service, "GET", f"runs/{run_id}/steps?limit=100")["data"]
    return {one["step_name"]: one for one in listed}


def running(service: Service, run_id: str, step: str) -> None:
    def is_so() -> bool:
        return steps(service, run_id).get(step, {}).get("status") in ("RUNNING", "WAITING")

    until(f"{step} runs", is_so, ENDS_MAX_S)


def script(name: str, content: str, **more: Any) -> dict[str, Any]:
    params = {"script_content": content, **more.pop("params", {})}
    return {"name": name, "type": "EXECUTION", "params": params, **more}


def artifact(step: str, filename: str) -> dict[str, str]:
    return {"execution_id": f"${{steps.{step}.output.execution_id}}", "filename": filename}


def pipeline(service: Service, folder: Path, pause_s: float) -> None:
    define(service, "double", script("double", DOUBLE % pause_s, params={"args": ["${params.item}"]}))
    slow = {"seconds": pause_s, "marker": str(folder / "marker")}
    define(
        service,
        "pipeline",
        script("make", MAKE % pause_s),
        script("read", READ, params={"inputs": {"in.csv": artifact("make", "made.csv")}}),
        {"name": "slow", "type": "pipeline", "target_name": "pipeline.slow", "params": slow},
        {"name": "each", "type": "MAP", "target_name": "double", "items": "steps.make.output.stdout_json.names"},
        {"name": "wait", "type": "WAIT", "duration_seconds": round(pause_s)},
        {
            "name": "sum",
            "type": "HANDLER",
            "target_name": "pipeline.add",
            "params": {"a": "${steps.make.output.stdout_json.row_count}", "b": 40},
        },
    )


def check_pipeline(run: dict[str, Any]) -> None:
    outputs = run["outputs"]
    assert run["status"] == "COMPLETED"
    assert outputs["make"]["stdout_json"] == {"row_count": 2, "names": ["a", "b"]}
    assert [one["filename"] for one in outputs["make"]["artifacts"]] == ["made.csv"]
    assert (outputs["read"]["exit_code"], outputs["read"]["stdout_json"]) == (0, None)
    assert [one["double"]["stdout_json"] for one in outputs["each"]["results"]] == [{"twice": "aa"}, {"twice": "bb"}]
    assert outputs["sum"] == {"sum": 42}
    assert run["rows_processed"] == 2


def test_scripts_and_handlers_hand_files_and_values_on(service: Service, folder: Path) -> None:
    pipeline(service, folder, 0)
    run = ended(service, trigger(service, "pipeline"))
    check_pipeline(run)
    assert (folder / "marker").read_text().splitlines() == [f"{run['run_id']}/slow/1"]


def test_a_script_that_fails_says_why_and_fails_the_step(service: Service) -> None:
    define(service, "fails", script("fails", FAIL), script("later", "pass"))
    run_id = trigger(service, "fails")
    run = ended(service, run_id)
    seen = steps(service, run_id)
    assert (run["status"], run["failed_step"], run["error_category"]) == ("FAILED", "fails", "DATA_QUALITY")
    assert "exit code 3" in seen["fails"]["error"]
    assert seen["later"]["skip_reason"] == "upstream_failed"


def test_cancelling_a_run_kills_its_script(service: Service) -> None:
    define(service, "long", script("long", "import time; print('on', flush=True); time.sleep(600)"))
    run_id = trigger(service, "long")
    running(service, run_id, "long")
    execution_id = steps(service, run_id)["long"]["execution_id"]
    service.printed(execution_id, "on")
    call(service, "POST", f"runs/{run_id}/cancel", {})
    assert ended(service, run_id)["status"] == "CANCELLED"
    assert service.ended(execution_id, 30).status == "cancelled"


def test_a_run_whose_service_is_killed_at_every_kind_of_step_ends_the_same(service: Service, folder: Path) -> None:
    pipeline(service, folder, 2)
    run_id = trigger(service, "pipeline")
    for step in ("make", "slow", "each", "wait"):
        running(service, run_id, step)
        service.kill()
        service.start()
    check_pipeline(ended(service, run_id))
    assert {one["attempt"] for one in steps(service, run_id).values()} == {1}
    ends = [event for event in _events(service, run_id) if event["type"] == "run.step_completed"]
    names = [event["data"]["step"] for event in ends]
    assert sorted(names) == sorted({"make", "read", "slow", "each", "wait", "sum"})
    # It was under way when the process was killed, so it ran again: under the same key.
    assert set((folder / "marker").read_text().splitlines()) == {f"{run_id}/slow/1"}


def _events(service: Service, run_id: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = call(service, "GET", f"runs/{run_id}/events?limit=100")["data"]
    return events


def test_another_service_goes_on_with_the_runs_of_one_that_is_killed(folder: Path, stopping: list[Program]) -> None:
    packages = pipeline_package.install(folder)
    database = EmbeddedPostgres(folder / "database")
    try:
        shared = {"data": folder / "data", "database_url": database.start(), "encryption_key": "7a" * 32, "slots": 0}
        first, second = (Service(folder, name, **shared) for name in ("first", "second"))
        for one in (first, second):
            one.environment["PYTHONPATH"] += f":{packages}"
            stopping.append(one)
            one.start()
        slow = {"seconds": 3, "marker": str(folder / "marker")}
        define(first, "slow", {"name": "slow", "type": "HANDLER", "target_name": "pipeline.slow", "params": slow})
        run_ids = [trigger(one, "slow") for one in (first, second) * 3]
        for run_id in run_ids:
            running(second, run_id, "slow")
        # It came first, so it leads, and all that runs now runs there.
        first.kill()
        for run_id in run_ids:
            assert ended(second, run_id)["status"] == "COMPLETED"
        second.stop()
        called = (folder / "marker").read_text().splitlines()
        assert sorted(set(called)) == sorted(f"{run_id}/slow/1" for run_id in run_ids)
        assert len(called) == 2 * len(run_ids)
    finally:
        database.stop()
