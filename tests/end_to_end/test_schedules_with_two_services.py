"""Two services and a scheduler on one database fire the same schedules while two of them are killed again and again:
each due time has one decision, and each run that began has begun one execution."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from end_to_end.conftest import Starter
from end_to_end.grid import Program, Service, query, until
from schedules.decision_checker import problems

from rgrid import catalogue
from rgrid.client.grid import Client

SHARED = {"encryption_key": "7a" * 32, "slots": 0}
PATH = "/api/v1/schedules"
SCHEDULES = 12
KILLS = 3
BETWEEN_KILLS_S = 2
SETTLED_MAX_S = 40
POLICIES = ("ALLOW", "SKIP", "QUEUE", "BUFFER_ONE")


def make(client: Client, index: int) -> str:
    body = {
        "name": f"fired-{index}", "target_type": "EXECUTION", "target_name": "x", "interval_seconds": 1,
        "overlap_policy": POLICIES[index % len(POLICIES)], "misfire_policy": "CATCH_UP", "catch_up_limit": 100,
        "jitter_seconds": index % 3, "params": {"script_content": "print(1)"},
    }  # fmt: skip
    reply = client.transport.call("POST", PATH, body=body)
    schedule_id: str = json.loads(reply.body)["id"]
    return schedule_id


def test_each_due_time_has_one_decision_whoever_is_killed(
    start_service: Starter, stopping: list[Program], folder: Path
) -> None:
    first = start_service("first", **SHARED)
    second = Service(folder, "second", data=first.data, database_url=first.dsn, **SHARED)
    third = Program("third", folder, "scheduler", "--data-dir", str(first.data), database_url=first.dsn, **SHARED)
    stopping += [second, third]
    second.start()
    third.spawn()
    client = first.client(patient=True)
    made = [make(client, index) for index in range(SCHEDULES)]
    for _ in range(KILLS):
        time.sleep(BETWEEN_KILLS_S)
        for program in (second, third):
            program.kill()
            program.spawn()
    time.sleep(BETWEEN_KILLS_S)
    for schedule_id in made:
        client.transport.call("POST", f"{PATH}/{schedule_id}/disable")
    codec = catalogue.codec()
    for schedule_id in made:
        rows = query(first.dsn, "select * from stored_events where originator_id = $1 order by originator_version",
                     f"schedule-{schedule_id}")  # fmt: skip
        events = [codec.recorded(row).event for row in rows]
        assert problems(events, datetime.now(UTC)) == []
        assert len({type(event).__name__ for event in events}) >= 3, f"nothing happened: {events}"
    until("every run that began has its execution", lambda: not _without_execution(first.dsn), SETTLED_MAX_S)
    begun = query(
        first.dsn, "select target_id, count(*) as runs from schedule_runs where target_id is not null group by 1"
    )
    assert begun
    assert {row["runs"] for row in begun} == {1}
    submitted: Any = query(
        first.dsn, "select count(*) as count from stored_events where topic = 'execution.submitted.v1'"
    )[0]["count"]
    assert submitted == len(begun), "an execution without a run, or a run that began twice"


def _without_execution(dsn: str) -> list[Any]:
    return query(
        dsn,
        "select r.target_id from stored_events e, lateral (select convert_from(e.state, 'utf8')::jsonb->>'target_id'"
        " as target_id) r where e.topic = 'schedule.run_started.v1' and not exists (select 1 from schedule_runs s"
        " where s.target_id = r.target_id)",
    )
