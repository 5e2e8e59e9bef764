"""Scripts that try to harm the service, all at once on a running one: contained, reported exactly, nothing left."""

import re
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from end_to_end import hostile
from end_to_end.conftest import stop_all
from end_to_end.evidence import check_everything
from end_to_end.grid import (
    Program,
    Service,
    groups_of,
    in_groups_of,
    left_in_scratch,
    mounts_below,
    temporary_folder,
    until,
)

from rgrid.client.answers import Execution
from rgrid.client.grid import Submission

DISK_QUOTA = 32 << 20
LOG_MAX = 1 << 20
SLOW_MAX_S = 3.0
ENDS_MAX_S = 60


class Attacked:
    """A service under attack by all of them, with somebody who goes on asking it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.mounts = mounts_below(service.data)
        self.ids: dict[str, str] = {}
        self.ended: dict[str, Execution] = {}
        self.waits_s: list[float] = []
        self._over = threading.Event()

    def run(self) -> None:
        asking = threading.Thread(target=self._ask_on, daemon=True)
        asking.start()
        self._submit("forks", hostile.FORKS, timeout_seconds=4)
        self._submit("memory", hostile.FILLS_MEMORY, memory_mb=64)
        self._submit("disk", hostile.FILLS_DISK)
        self._submit("prints", hostile.PRINTS, timeout_seconds=4)
        self._submit("stubborn", hostile.IGNORES_SIGTERM)
        self._submit("network", hostile.USES_NETWORK, args=[str(self.service.port)])
        around = [str(self.service.data), str(self.service.log.parent), str(self.service.pid)]
        self._submit("around", hostile.LOOKS_AROUND, args=around)
        self.service.printed(self.ids["stubborn"], "begin", 40)
        answer = self.service.client().cancel(self.ids["stubborn"])
        assert answer.status == "cancel_requested", answer
        for name, execution_id in self.ids.items():
            self.ended[name] = self.service.ended(execution_id, ENDS_MAX_S)
        self._over.set()
        asking.join(SLOW_MAX_S * 4)
        assert not asking.is_alive(), "a request hangs"

    def _submit(self, name: str, script: str, **more: object) -> None:
        more = {"timeout_seconds": 60, "cpu": 0.25, **more}
        submission = Submission(script_content=script, name=name, **more)  # type: ignore[arg-type]
        self.ids[name] = self.service.client().submit(submission).execution_id

    def _ask_on(self) -> None:
        client = self.service.client()
        while not self._over.wait(0.1):
            began = time.monotonic()
            client.document("GET", "/executions", query={"limit": 10})
            self.waits_s.append(time.monotonic() - began)


@pytest.fixture(scope="module")
def attacked() -> Iterator[Attacked]:
    programs: list[Program] = []
    with temporary_folder() as folder:
        service = Service(folder, slots=7, disk_quota_bytes=DISK_QUOTA, attempt_log_max_bytes=LOG_MAX)
        programs.append(service)
        try:
            service.start()
            one = Attacked(service)
            one.run()
            yield one
        finally:
            stop_all(programs)


def test_a_script_that_forks_without_end_is_ended_by_its_time_limit(attacked: Attacked) -> None:
    ended = attacked.ended["forks"]
    assert (ended.status, ended.failure_reason, ended.exit_code) == ("timed_out", "timeout", None)
    assert "timeout_seconds" in (ended.hint or ""), ended.hint
    assert "begin" in (ended.stdout or "")


def test_a_script_that_fills_memory_is_killed_with_the_exact_reason(attacked: Attacked) -> None:
    ended = attacked.ended["memory"]
    if ended.failure_reason == "exit_code" and "MemoryError" in (ended.stderr or ""):
        pytest.skip("no writable control groups here: memory is limited as address space, and the script was told")
    assert (ended.status, ended.failure_reason, ended.exit_code) == ("failed", "out_of_memory", 137)
    assert "64 MB" in (ended.execution_error or ""), ended.execution_error
    assert "memory_mb" in (ended.hint or ""), ended.hint
    assert ended.stdout == "begin\n"
    assert len(ended.attempts) == 1, "running out of memory is not tried again"


def test_a_script_that_fills_the_disk_is_stopped_at_its_quota(attacked: Attacked) -> None:
    ended = attacked.ended["disk"]
    assert (ended.status, ended.failure_reason, ended.exit_code) == ("failed", "exit_code", 153)
    assert "disk quota" in (ended.execution_error or ""), ended.execution_error
    assert "working directory" in (ended.hint or ""), ended.hint


def test_a_script_that_prints_without_end_is_cut_and_ended(attacked: Attacked) -> None:
    ended = attacked.ended["prints"]
    assert (ended.status, ended.failure_reason, ended.exit_code) == ("timed_out", "timeout", None)
    assert ended.output_truncated
    lines = list(attacked.service.client().logs(ended.execution_id))
    stored = sum(len(line.message) + 1 for line in lines)
    assert LOG_MAX // 2 < stored < LOG_MAX + (128 << 10), f"{stored} bytes were stored"
    assert any(line.stream == "stderr" and "cut" in line.message for line in lines), "nobody said that it was cut"
    # The kill may have cut the very last line in two.
    found = [re.fullmatch(r"the same line again and again (\d+)", line.message) for line in lines[:-1]]
    numbers = [int(whole[1]) for whole in found if whole]
    assert numbers[0] == 0
    assert numbers[-1] - numbers[0] > len(numbers), "the end of the output was not kept"


def test_a_script_that_ignores_sigterm_is_killed_after_the_grace_and_counts_as_cancelled(attacked: Attacked) -> None:
    ended = attacked.ended["stubborn"]
    assert (ended.status, ended.failure_reason) == ("cancelled", "cancelled")
    assert [(one.status, one.exit_code) for one in ended.attempts] == [("cancelled", 137)]
    assert ended.stdout == "begin\n"


def test_a_script_without_network_reaches_neither_the_service_nor_the_world(attacked: Attacked) -> None:
    ended = attacked.ended["network"]
    if (ended.execution_metadata or {}).get("network") == "not isolated":
        pytest.skip("no sandbox with a network namespace here, and the execution says so")
    assert (ended.status, ended.failure_reason, ended.exit_code) == ("failed", "exit_code", 1)
    assert "CONNECTED" not in (ended.stdout or "")
    assert len((ended.stdout or "").splitlines()) == 3
    assert "network" in (ended.hint or ""), ended.hint


def test_a_script_sees_nothing_of_the_service_or_its_machine(attacked: Attacked) -> None:
    ended = attacked.ended["around"]
    assert (ended.status, ended.exit_code) == ("completed", 0), ended.stderr
    assert (ended.stdout or "").endswith("end\n")
    assert "SUCCEEDED" not in (ended.stdout or ""), ended.stdout


def test_the_service_answered_all_the_while(attacked: Attacked) -> None:
    assert len(attacked.waits_s) > 20, "too few questions, so nothing is proved"
    assert max(attacked.waits_s) < SLOW_MAX_S, sorted(attacked.waits_s)[-5:]


def test_nothing_is_left_of_any_of_them(attacked: Attacked) -> None:
    service = attacked.service
    until(
        "no process is left in a box",
        lambda: not in_groups_of(service.pid),
        5,
        says=lambda: str(in_groups_of(service.pid)),
    )
    until("no control group is left", lambda: not groups_of(service.pid), 5, says=lambda: str(groups_of(service.pid)))
    until("no folder is left", lambda: not left_in_scratch(service.data), 5)
    assert mounts_below(service.data) == attacked.mounts
    boxed = [child for child in psutil.Process(service.pid).children(recursive=True) if child.uids().real >= 65_536]
    assert not boxed, f"processes of scripts are left: {boxed}"
    check_everything(service, wait_max_s=5)
    after = service.submit("print('as if nothing had happened')")
    assert service.ended(after, 20).status == "completed"
