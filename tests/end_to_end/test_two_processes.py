"""Two services on one database: nothing is run twice, no subscriber skips an event, and both tell the same."""

from pathlib import Path

from end_to_end.conftest import Starter
from end_to_end.evidence import check_everything, check_lists
from end_to_end.grid import Program, Service
from end_to_end.load import Load

from rgrid.client.answers import Ended, LogLine
from rgrid.executions.events import AttemptEnded, ExecutionClaimed

SHARED = {"encryption_key": "7a" * 32}
FOLLOWED = "import time\nfor n in range(40):\n    print('line', n, flush=True)\n    time.sleep(0.03)"


def test_two_services_on_one_database_share_the_work_and_tell_the_same(
    start_service: Starter, stopping: list[Program], folder: Path
) -> None:
    first = start_service("first", slots=2, **SHARED)
    second = Service(folder, "second", data=first.data, slots=2, database_url=first.dsn, **SHARED)
    stopping.append(second)
    second.start()
    loads = [Load(first, prefix="a"), Load(second, prefix="b")]
    for load in loads:
        load.begin()
    followed = first.submit(FOLLOWED)
    items = list(second.client().follow(followed))
    assert [item.message for item in items if isinstance(item, LogLine)] == [f"line {n}" for n in range(40)]
    assert isinstance(items[-1], Ended)
    _check_that_a_repetition_makes_nothing_new(first, second)
    for load in loads:
        load.end()
        assert not load.open, f"never answered: {load.open} {load.statuses}"
        load.wake_sleepers()
    found = check_everything(first, wait_max_s=40)
    check_lists(second, found)
    workers = {one.event.worker_id for one in found.events if isinstance(one.event, ExecutionClaimed)}
    assert len(workers) == 2, f"only {workers} worked, so nothing is proved"
    for execution_id in found.streams:
        assert len(found.of(execution_id, ExecutionClaimed)) <= 1, f"it was run twice: {found.told(execution_id)}"
        assert len(found.of(execution_id, AttemptEnded)) <= 1, f"it was run twice: {found.told(execution_id)}"
    for load in loads:
        load.check(found, folder)


def _check_that_a_repetition_makes_nothing_new(first: Service, second: Service) -> None:
    headers = {"Idempotency-Key": "the-same"}
    body = {"script_content": "print(1)"}
    replies = [
        service.client().transport.call("POST", "/api/v1/executions", body=body, headers=headers, retry=False)
        for service in (first, second)
    ]
    assert replies[0].body == replies[1].body
    assert replies[1].headers["idempotency-replayed"] == "true"
