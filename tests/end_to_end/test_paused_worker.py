"""A worker stands still past its lease and comes back: what it brings then is refused, and the refusal recorded."""

import signal
from pathlib import Path

from end_to_end.conftest import Starter
from end_to_end.evidence import check_everything, gather
from end_to_end.grid import Program, Worker, query, until

from rgrid.executions.events import AttemptEnded, ExecutionClaimed, StaleResultRefused

LEASES = {"lease_ttl_s": 2, "renew_every_s": 1}
# It goes on printing while its worker stands still, so that there is something to refuse afterwards.
SCRIPT = """
import os, time
attempt = os.environ["RGRID_ATTEMPT"]
for number in range(50):
    print(attempt, number, flush=True)
    time.sleep(0.05)
open("whose.txt", "w").write(attempt)
"""


def test_a_worker_that_stood_still_past_its_lease_is_refused_and_the_result_of_the_next_one_stands(
    start_service: Starter, stopping: list[Program], folder: Path
) -> None:
    service = start_service(slots=0, **LEASES)
    workers = [Worker(service, name, slots=1, **LEASES) for name in ("one", "other")]
    stopping.extend(workers)
    for worker in workers:
        worker.spawn()
    ids = {worker.registered(): worker for worker in workers}
    execution_id = service.submit(SCRIPT)
    service.printed(execution_id, "1 2")
    [claim] = gather(service.dsn).of(execution_id, ExecutionClaimed)
    stale_id = claim.event.worker_id
    [fresh_id] = set(ids) - {stale_id}
    stale = ids[stale_id]

    stale.signal(signal.SIGSTOP)
    service.printed(execution_id, "2 1")  # the lease ran out, and the other one is at work
    stale.signal(signal.SIGCONT)

    ended = service.ended(execution_id, 30)
    assert ended.status == "completed", ended
    until(
        "the late result is refused and recorded",
        lambda: gather(service.dsn).of(execution_id, StaleResultRefused),
        20,
        says=lambda: gather(service.dsn).told(execution_id) + "\n" + stale.tail(),
    )
    found = check_everything(service, wait_max_s=10)
    story = found.told(execution_id)
    claims = [(one.event.attempt, one.event.worker_id) for one in found.of(execution_id, ExecutionClaimed)]
    assert claims == [(1, stale_id), (2, fresh_id)], story
    ends = [(one.event.attempt, one.event.status) for one in found.of(execution_id, AttemptEnded)]
    assert ends == [(1, "lost"), (2, "completed")], story
    [refused] = found.of(execution_id, StaleResultRefused)
    assert refused.event.fencing_token == 1
    assert refused.cause.actor == f"worker:{stale_id}"

    lost = found.of(execution_id, AttemptEnded)[0]
    said = [message.split() for *_, message in found.lines[execution_id]]
    assert [number for who, number in said if who == "2"] == [str(number) for number in range(50)]
    first = [int(number) for who, number in said if who == "1"]
    assert first == list(range(len(first))), "the first attempt's lines have a hole"
    assert len(first) < 50, "the stale worker stored lines after the loss of its lease"
    [row] = query(
        service.dsn,
        "select max(logged_at) as last from rgrid.execution_logs where execution_id = $1 and attempt = 1",
        execution_id,
    )
    assert row["last"] < lost.recorded_at, "the stale worker stored a line after the loss of its lease"

    [artifact] = service.client().artifacts(execution_id)
    assert service.client().download(artifact, folder).read_text() == "2"
    active = {worker.id for worker in service.client().workers("active")}
    assert active == {stale_id, fresh_id}, "the worker that came back takes work again"
