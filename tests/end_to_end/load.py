"""Clients that submit steadily from several threads and note what the service has acknowledged to them."""

import contextlib
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

from end_to_end.evidence import Evidence, check_counting, submissions
from end_to_end.grid import Service

from rgrid.client.grid import Client
from rgrid.client.problems import GridError
from rgrid.client.transport import decoded

LINES = 5
COUNTING = f"""
import time
for number in range({LINES}):
    print("line", number, flush=True)
    time.sleep(0.01)
open("out.txt", "w").write("the result of " + __import__("os").environ["WHO"])
"""
SLEEPING = "import time\nprint('asleep', flush=True)\ntime.sleep(600)"
PAUSE_S = 0.1


@dataclass
class Load:
    """`acknowledged` maps the name of each submission that was answered with 201 to its execution, `open` holds the
    names that got no answer, `cancelled` the executions whose cancellation was answered with 200."""

    service: Service
    threads: int = 3
    prefix: str = "n"
    cancels: bool = True
    acknowledged: dict[str, str] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    sleepers: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    statuses: set[int] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _running: list[threading.Thread] = field(default_factory=list)
    _number: int = 0

    def begin(self) -> None:
        self._stop.clear()
        self._running = [threading.Thread(target=self._submit_on, daemon=True) for _ in range(self.threads)]
        for thread in self._running:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._running:
            thread.join(30)
            assert not thread.is_alive(), "a request hangs"

    def repeat_open(self) -> None:
        """What was not answered is sent again under its key, as a careful client does."""
        client = self.service.client(patient=True)
        for name in sorted(self.open):
            self._post(client, name, retry=True)
        assert not self.open, f"never answered: {self.open}"

    def wake_sleepers(self) -> None:
        """Cancels those that still sleep."""
        client = self.service.client(patient=True)
        for name in sorted(self.sleepers):
            execution_id = self.acknowledged[name]
            with contextlib.suppress(GridError):
                client.cancel(execution_id)

    def check(self, found: Evidence, folder: Path) -> None:
        """Everything acknowledged is there, once; every script that ran to its end said and left all it had to."""
        assert self.acknowledged, "nothing was acknowledged, so nothing is proved"
        named = submissions(found)
        for name, execution_id in self.acknowledged.items():
            assert named.get(name) == [execution_id], (
                f"{name}: acknowledged {execution_id}, the log has {named.get(name)}"
            )
        client = self.service.client(patient=True)
        for execution_id in self.cancelled:
            assert found.state(execution_id) == "cancelled", f"{execution_id}: {found.told(execution_id)}"
        for name, execution_id in self.acknowledged.items():
            if name in self.sleepers:
                assert found.state(execution_id) == "cancelled", f"{execution_id}: {found.told(execution_id)}"
                continue
            assert found.state(execution_id) == "completed", f"{execution_id}: {found.told(execution_id)}"
            check_counting(found, execution_id, [f"line {number}" for number in range(LINES)])
            [artifact] = client.artifacts(execution_id)
            got = client.download(artifact, folder)
            assert got.read_text() == f"the result of {name}"

    def _submit_on(self) -> None:
        client = self.service.client()
        while not self._stop.wait(PAUSE_S):
            with self._lock:
                self._number += 1
                name = f"{self.prefix}{self._number}"
                if self.cancels and self._number % 7 == 0:
                    self.sleepers.add(name)
            execution_id = self._post(client, name)
            if execution_id and name in self.sleepers:
                self._stop.wait(random.random() * 0.5)
                try:
                    client.cancel(execution_id)
                except GridError:
                    continue
                with self._lock:
                    self.cancelled.add(execution_id)

    def _post(self, client: Client, name: str, *, retry: bool = False) -> str | None:
        with self._lock:
            self.open.add(name)
        body = {
            "script_content": SLEEPING if name in self.sleepers else COUNTING,
            "name": name,
            "env_vars": {"WHO": name},
            "max_retries": 10,
        }
        headers = {"Idempotency-Key": f"key-{name}"}
        try:
            reply = client.transport.call("POST", "/api/v1/executions", body=body, headers=headers, retry=retry)
        except GridError as error:
            with self._lock:
                self.statuses.add(getattr(error, "status", 0))
            return None
        assert reply.status == 201
        execution_id: str = decoded(reply)["execution_id"]
        with self._lock:
            self.acknowledged[name] = execution_id
            self.open.discard(name)
        return execution_id
