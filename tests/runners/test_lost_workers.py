"""Who is taken for lost: by silence anywhere, by a dead process on the same machine."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from rgrid.runners.host import Host, process_runs, this_host
from rgrid.runners.process import Gone, find_lost, find_returned

HERE = Host(hostname="here", boot_id="boot")
HEARD = datetime(2026, 1, 5, tzinfo=UTC)


class Worker:
    """A worker as the read model shows it."""

    def __init__(self, status: str = "active", silent_s: float = 1.0, hostname: str = "here", boot: str = "boot"):
        self.worker_id = "wrk_1"
        self.status = status
        self.hostname = hostname
        self.boot_id = boot
        self.pid = 7
        self.process_started_ticks = 99
        self.last_heartbeat_at = HEARD
        self.silent_s = silent_s


def runs(pid: int, ticks: int) -> bool:
    assert (pid, ticks) == (7, 99)
    return True


def is_gone(pid: int, ticks: int) -> bool:
    return not runs(pid, ticks)


def test_a_worker_that_is_heard_and_runs_is_not_lost() -> None:
    assert find_lost([Worker()], 60, HERE, runs) == []  # type: ignore[list-item]


def test_a_worker_is_lost_when_it_is_silent_for_longer_than_a_lease() -> None:
    gone = Gone(worker_id="wrk_1", last_heartbeat_at=HEARD, reason="No heartbeat for 61 s.")
    assert find_lost([Worker(silent_s=61)], 60, HERE, runs) == [gone]  # type: ignore[list-item]
    assert find_lost([Worker(silent_s=60)], 60, HERE, runs) == []  # type: ignore[list-item]


def test_silence_that_may_be_the_watchers_own_does_not_count_but_a_dead_process_does() -> None:
    silent = Worker(silent_s=100)
    assert find_lost([silent], 60, HERE, runs, silence_counts=False) == []  # type: ignore[list-item]
    assert len(find_lost([silent], 60, HERE, is_gone, silence_counts=False)) == 1  # type: ignore[list-item]


def test_a_worker_of_this_machine_is_lost_as_soon_as_its_process_is_gone() -> None:
    (gone,) = find_lost([Worker()], 60, HERE, is_gone)  # type: ignore[list-item]
    assert gone.reason == "Its process ended without saying so."


def test_a_worker_of_another_machine_or_another_boot_is_judged_by_its_heartbeats_only() -> None:
    others = [Worker(hostname="there"), Worker(boot="an earlier boot")]
    assert find_lost(others, 60, HERE, is_gone) == []  # type: ignore[arg-type]


def test_nothing_is_known_of_processes_where_the_machine_has_no_boot_id() -> None:
    assert find_lost([Worker(boot="")], 60, Host(hostname="here", boot_id=""), is_gone) == []  # type: ignore[list-item]


def test_a_lost_worker_is_not_lost_again_but_returns_when_it_is_heard() -> None:
    assert find_lost([Worker("lost", 100)], 60, HERE, is_gone) == []  # type: ignore[list-item]
    assert find_returned([Worker("lost", 1)], 60, HERE, runs) == ["wrk_1"]  # type: ignore[list-item]
    assert find_returned([Worker("lost", 61)], 60, HERE, runs) == []  # type: ignore[list-item]
    assert find_returned([Worker("lost", 1)], 60, HERE, is_gone) == []  # type: ignore[list-item]
    assert find_returned([Worker("active", 1)], 60, HERE, runs) == []  # type: ignore[list-item]


def ticks_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_a_process_is_known_by_its_pid_and_its_start() -> None:
    assert process_runs(os.getpid(), ticks_of(os.getpid()))
    assert not process_runs(os.getpid(), ticks_of(os.getpid()) + 1), "another process that has the pid now"


def test_a_killed_process_does_not_run_even_while_it_is_a_zombie() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ticks = ticks_of(child.pid)
    assert process_runs(child.pid, ticks)
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not process_runs(child.pid, ticks), "a zombie"
    child.wait()
    assert not process_runs(child.pid, ticks)
    assert child.stdin is not None
    child.stdin.close()


def test_a_stopped_process_still_runs() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ticks = ticks_of(child.pid)
    child.send_signal(signal.SIGSTOP)
    try:
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        assert process_runs(child.pid, ticks)
    finally:
        child.kill()
        child.communicate()


def test_this_host_says_which_boot_and_which_pid_namespace_it_is() -> None:
    host = this_host()
    assert host == this_host()
    assert "/pid:[" in host.boot_id
