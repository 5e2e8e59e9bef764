"""The database dies, or stands still: the service says so, refuses politely, and goes on when it is back."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from end_to_end.conftest import Starter
from end_to_end.evidence import check_everything
from end_to_end.grid import Service, until
from end_to_end.load import Load

from rgrid.client.grid import Client
from rgrid.client.problems import GridError, Refused
from rgrid.executions.events import AttemptEnded, ExecutionClaimed

KILLS = 3
ANSWER_MAX_S = 8.0
HEALTH_MAX_S = 3.5  # 3 s by contract, and something for the way
PATIENT_SCRIPT = """
import time
for number in range(60):
    print("line", number, flush=True)
    time.sleep(0.05)
"""


def test_a_killed_postgres_is_started_again_and_running_scripts_go_on(start_service: Starter, folder: Path) -> None:
    # A claim whose answer is lost in the outage is given away again when its lease is over.
    service = start_service(slots=4, lease_ttl_s=10, renew_every_s=2)
    through = service.submit(PATIENT_SCRIPT)
    service.printed(through, "line 1")
    load = Load(service, cancels=False)
    load.begin()
    for _ in range(KILLS):
        time.sleep(0.5)
        dead = service.postmaster
        os.kill(dead, signal.SIGKILL)
        until("Postgres is started again", lambda dead=dead: _other_postmaster(service, dead), 20)
        until("the service is ready again", lambda: _ready(service), 20)
    load.end()
    load.repeat_open()
    found = check_everything(service, wait_max_s=30)
    assert load.statuses, "no request met the outage, so nothing is proved"
    assert load.statuses <= {0, 503}, f"an outage was answered with {load.statuses}"
    load.check(found, folder)
    assert len(found.of(through, ExecutionClaimed)) == 1, f"it was run again: {found.told(through)}"
    assert found.of(through, AttemptEnded)[0].event.status == "completed"
    assert [message for *_, message in found.lines[through]] == [f"line {number}" for number in range(60)]


def test_a_database_that_stands_still_is_reported_and_requests_are_refused_in_time(start_service: Starter) -> None:
    service = start_service(slots=2)
    through = service.submit(PATIENT_SCRIPT)
    service.printed(through, "line 1")
    assert service.client().health().status == "ok"
    with _frozen(service):
        began = time.monotonic()
        document = service.client().health_document()
        took_s = time.monotonic() - began
        assert document["status"] == "down", document
        assert document["components"]["database"]["status"] == "down", document
        assert took_s < HEALTH_MAX_S, f"health took {took_s:.1f} s"
        service.client().transport.call("GET", "/api/v1/health/live", retry=False)
        for method, path, body in (
            ("GET", f"/executions/{through}", None),
            ("GET", "/executions", None),
            ("GET", f"/executions/{through}/logs", None),
            ("POST", "/executions", {"script_content": "print(1)"}),
            ("POST", f"/executions/{through}/cancel", None),
        ):
            refused, took_s = _refusal(service.client(), method, path, body)
            assert refused is not None, f"{method} {path} was answered although the database stands still"
            assert refused.status == 503, f"{method} {path}: {refused.status} {refused}"
            assert refused.code == "database_unavailable", f"{method} {path}: {refused.code}"
            assert took_s < ANSWER_MAX_S, f"{method} {path} took {took_s:.1f} s"
    until("health is ok again", lambda: _health(service) == "ok", 20)
    after = until("scripts are taken again", lambda: _submitted(service, "print('here again')"), 10)
    assert service.ended(after, 20).stdout == "here again\n"
    found = check_everything(service, wait_max_s=30)
    assert found.state(through) in ("completed", "cancelled"), found.told(through)


@contextlib.contextmanager
def _frozen(service: Service) -> Iterator[None]:
    """Every process of the server stands still; stopping the first alone would only keep new sessions away."""
    first = psutil.Process(service.postmaster)
    server = [first, *first.children(recursive=True)]
    for process in server:
        process.suspend()
    try:
        yield
    finally:
        for process in server:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def _refusal(client: Client, method: str, path: str, body: object) -> tuple[Refused | None, float]:
    began = time.monotonic()
    try:
        client.document(method, path, body=body, retry=False)
    except Refused as refused:
        return refused, time.monotonic() - began
    return None, time.monotonic() - began


def _submitted(service: Service, script: str) -> str | None:
    with contextlib.suppress(Refused):
        return service.submit(script)
    return None


def _other_postmaster(service: Service, dead: int) -> bool:
    with contextlib.suppress(OSError, IndexError, ValueError):
        return service.postmaster != dead
    return False


def _ready(service: Service) -> bool:
    with contextlib.suppress(GridError):
        service.client().transport.call("GET", "/api/v1/health/ready", retry=False)
        return True
    return False


def _health(service: Service) -> str:
    with contextlib.suppress(GridError):
        return service.client().health().status
    return "down"
