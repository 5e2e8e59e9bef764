"""A log that is followed while the service is killed and started again: every line once, in order, to the end."""

import subprocess
import sys
import threading

from end_to_end.conftest import Starter
from end_to_end.evidence import check_everything, check_lines
from end_to_end.grid import KEY, Program, Worker

from rgrid.client.answers import Ended, LogLine, StatusChange
from rgrid.client.following import Followed

LINES = 100
COUNTING = f"""
import sys, time
for number in range({LINES}):
    print("line", number, file=sys.stderr if number % 3 == 2 else sys.stdout, flush=True)
    time.sleep(0.05)
"""
SHARED = {"encryption_key": "7a" * 32}


def test_a_follower_sees_every_line_once_over_kills_of_the_service_that_it_follows(
    start_service: Starter, stopping: list[Program], postgres_dsn: str
) -> None:
    # The script runs at a worker of its own, with a database of its own, so that its one attempt lives on.
    service = start_service(slots=0, database_url=postgres_dsn, **SHARED)
    worker = Worker(service, slots=1, database_url=postgres_dsn, **SHARED)
    stopping.append(worker)
    worker.spawn()
    worker.registered()
    execution_id = service.submit(COUNTING)
    items: list[Followed] = []
    client = service.client(patient=True)
    library = threading.Thread(target=lambda: items.extend(client.follow(execution_id)), daemon=True)
    library.start()
    command = subprocess.Popen(
        [sys.executable, "-m", "rgrid", "logs", "-f", execution_id],
        env={**worker.environment, "RGRID_API_URL": service.url, "RGRID_API_KEY": KEY},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in (15, 60):
        service.printed(execution_id, f"line {line}")
        service.kill()
        service.start()
    out, err = command.communicate(timeout=60)
    library.join(60)
    assert not library.is_alive(), "the follower never came to the end"

    everything = [f"line {number}" for number in range(LINES)]
    assert [item.message for item in items if isinstance(item, LogLine)] == everything
    assert isinstance(items[-1], Ended)
    assert items[-1].status == "completed"
    assert len([item for item in items if isinstance(item, Ended)]) == 1
    assert ("running", 1) in [(item.status, item.attempt) for item in items if isinstance(item, StatusChange)]
    assert command.returncode == 0, err
    assert out.splitlines() == [text for number, text in enumerate(everything) if number % 3 != 2]
    assert [said for said in err.splitlines() if said.startswith("line")] == everything[2::3]


def test_a_follower_goes_on_into_the_next_attempt_when_the_script_died_with_the_service(start_service: Starter) -> None:
    service = start_service(slots=1)
    execution_id = service.submit(COUNTING.replace(str(LINES), "30"))
    items: list[Followed] = []
    client = service.client(patient=True)
    follower = threading.Thread(target=lambda: items.extend(client.follow(execution_id)), daemon=True)
    follower.start()
    service.printed(execution_id, "line 10")
    service.kill()
    service.start()
    follower.join(60)
    assert not follower.is_alive(), "the follower never came to the end"
    found = check_everything(service, wait_max_s=5)
    check_lines(found)
    seen = [
        (item.sequence_number, item.attempt, item.stream, item.message) for item in items if isinstance(item, LogLine)
    ]
    assert seen == found.lines[execution_id]
    assert {attempt for _, attempt, *_ in seen} == {1, 2}
    last = items[-1]
    assert isinstance(last, Ended)
    assert (last.status, last.last_sequence_number) == ("completed", seen[-1][0])
