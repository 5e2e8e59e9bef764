"""The queue: who is next, who runs, who owns an attempt, and what happens when its worker dies."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from api.one_service import SOURCES, Live

SLEEPER = "print('on', flush=True); import time; time.sleep(120)"


def places(idle: Live, executions: list[str]) -> list[Any]:
    return [idle.get(execution_id)["queue_position"] for execution_id in executions]


def emptied(idle: Live) -> None:
    """Cancels whatever the other tests left in the queue."""
    while rows := idle.ids(status="queued", limit=1000):
        for execution_id in rows:
            idle.cancel(execution_id)


def test_the_place_in_the_queue_is_one_for_the_next(idle: Live) -> None:
    emptied(idle)
    ours = [idle.submit("1")["execution_id"] for _ in range(3)]
    assert places(idle, ours) == [1, 2, 3]
    idle.cancel(ours[0])
    assert places(idle, ours) == [None, 1, 2]
    assert idle.http.get("/api/v1/health").json()["queue_depth"] == 2


def test_batches_take_turns_so_that_a_large_one_holds_up_nobody(idle: Live) -> None:
    emptied(idle)
    large = [idle.submit("1", batch_id="batch_large0001")["execution_id"] for _ in range(6)]
    single = idle.submit("1")["execution_id"]
    small = [idle.submit("1", batch_id="batch_small0001")["execution_id"] for _ in range(2)]
    assert places(idle, [large[0], single, small[0]]) == [1, 2, 3]
    assert places(idle, [large[1], small[1], large[2]]) == [4, 5, 6]


def test_what_does_not_fit_any_worker_waits_while_others_pass(live: Live) -> None:
    big = live.submit("print(1)", memory_mb=65_536, cpu=16)["execution_id"]
    assert live.run("print(2)")["status"] == "completed"
    seen = live.get(big)
    assert (seen["status"], seen["queue_position"]) == ("queued", 1)
    live.stop(big)


def test_each_execution_runs_once_however_many_slots_there_are(live: Live) -> None:
    made = [live.submit(f"print({n})", user_metadata={"suite": "once"})["execution_id"] for n in range(40)]
    ended = [live.ended(execution_id) for execution_id in made]
    assert [one["stdout"] for one in ended] == [f"{n}\n" for n in range(40)]
    assert {len(one["attempts"]) for one in ended} == {1}
    for one in ended:
        types = [event["type"] for event in live.events(one["execution_id"])]
        assert types.count("execution.claimed") == types.count("execution.completed") == 1


def test_a_running_execution_names_its_worker_and_the_worker_names_it(live: Live) -> None:
    running = live.started(SLEEPER)
    worker = live.http.get(f"/api/v1/workers/{running['worker_id']}").json()
    assert running["execution_id"] in worker["current_executions"]
    assert running["attempts"][0]["fencing_token"] == 1
    assert running["attempts"][0]["sandbox_level"] == worker["sandbox_level"]
    live.stop(running["execution_id"])
    worker = live.http.get(f"/api/v1/workers/{running['worker_id']}").json()
    assert running["execution_id"] not in worker["current_executions"]


def test_the_attempt_of_a_killed_worker_is_lost_and_another_worker_takes_over(idle: Live) -> None:
    emptied(idle)
    script = "import os\nprint('attempt', os.environ['RGRID_ATTEMPT'], flush=True)\n"
    script += "if os.environ['RGRID_ATTEMPT'] == '1':\n    import time; time.sleep(120)\n"
    execution_id = idle.submit(script)["execution_id"]
    first = worker(idle)
    seen = idle.until(execution_id, lambda seen: bool(seen["stdout"]))
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    lost = idle.until(execution_id, lambda seen: seen["attempts"][0]["status"] == "lost")
    assert (lost["attempts"][0]["failure_reason"], lost["retry_count"]) == ("worker_lost", 1)
    second = worker(idle)
    try:
        ended = idle.ended(execution_id)
    finally:
        second.terminate()
        second.wait(60)
    assert (ended["status"], ended["exit_code"], ended["execution_error"]) == ("completed", 0, None)
    assert [(one["attempt"], one["status"]) for one in ended["attempts"]] == [(1, "lost"), (2, "completed")]
    assert ended["worker_id"] != seen["worker_id"]
    assert [one["fencing_token"] for one in ended["attempts"]] == [1, 2]
    assert ended["stdout"] == "attempt 2\n"
    log = idle.page(f"/api/v1/executions/{execution_id}/logs")["data"]
    assert [(row["sequence_number"], row["attempt"]) for row in log] == [(0, 1), (1, 2)]


def worker(idle: Live) -> "subprocess.Popen[bytes]":
    """`rgrid worker` beside a service that runs nothing itself."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(idle.folder.parent),
        "PYTHONPATH": f"{SOURCES}:{SOURCES / 'src'}",
        "RGRID_SLOTS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "rgrid", "worker", "--data-dir", str(idle.folder)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
