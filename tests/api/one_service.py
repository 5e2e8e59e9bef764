"""A real service for tests of the interface: `rgrid up` in a process of its own, spoken to as its users do."""

import ctypes
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from prepared import prepare
from websockets.sync.client import ClientConnection, connect

from rgrid.adapters.master_key import MasterKeys, master_keys
from rgrid.adapters.signing import Signer
from rgrid.api.lease_tokens import LeaseClaim, LeaseTokens
from rgrid.settings import Settings

KEY = "sk_live_" + "K" * 43
STATES = {"completed", "failed", "timed_out", "cancelled"}
ENDS_MAX_S = 60
PR_SET_PDEATHSIG = 1
SOURCES = Path(__file__).resolve().parents[2]
JSON = {"content-type": "application/json"}
_names = count(1)


class Live:
    """A running service. `http` is a client with the admin key; `call` takes any other credentials."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)

    # ---------------------------------------------------------------- executions

    def create(self, **body: Any) -> httpx.Response:
        return self.http.post("/api/v1/executions", json=body)

    def submit(self, script: str, **body: Any) -> dict[str, Any]:
        """Submits a script that must be accepted."""
        answer = self.create(script_content=script, **body)
        assert answer.status_code == 201, answer.text
        execution: dict[str, Any] = answer.json()
        return execution

    def get(self, execution_id: str, **query: Any) -> dict[str, Any]:
        answer = self.http.get(f"/api/v1/executions/{execution_id}", params=query)
        assert answer.status_code == 200, answer.text
        execution: dict[str, Any] = answer.json()
        return execution

    def until(self, execution_id: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The execution as soon as this holds of it."""
        give_up = time.monotonic() + ENDS_MAX_S
        while not holds(seen := self.get(execution_id)):
            assert time.monotonic() < give_up, f"still {seen['status']}: {seen}"
            time.sleep(0.05)
        return seen

    def ended(self, execution_id: str) -> dict[str, Any]:
        return self.until(execution_id, lambda seen: seen["status"] in STATES)

    def run(self, script: str, **body: Any) -> dict[str, Any]:
        return self.ended(self.submit(script, **body)["execution_id"])

    def started(self, script: str, **body: Any) -> dict[str, Any]:
        """An execution whose first line has been printed."""
        execution_id = self.submit(script, **body)["execution_id"]
        return self.until(execution_id, lambda seen: bool(seen["stdout"]))

    def cancel(self, execution_id: str) -> httpx.Response:
        return self.http.post(f"/api/v1/executions/{execution_id}/cancel")

    def stop(self, execution_id: str) -> dict[str, Any]:
        self.cancel(execution_id)
        return self.ended(execution_id)

    def page(self, path: str, **query: Any) -> dict[str, Any]:
        """A list that must be answered."""
        answer = self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        return page

    def ids(self, **query: Any) -> list[str]:
        return [row["execution_id"] for row in self.page("/api/v1/executions", **query)["data"]]

    def events(self, execution_id: str) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = self.page(f"/api/v1/executions/{execution_id}/events", limit=1000)["data"]
        return events

    # ---------------------------------------------------------------- credentials

    def key(self, *scopes: str) -> str:
        answer = self.http.post("/api/v1/keys", json={"name": f"test {next(_names)}", "scopes": list(scopes)})
        assert answer.status_code == 201, answer.text
        secret: str = answer.json()["key"]
        return secret

    def call(self, method: str, path: str, secret: str | None, **more: Any) -> httpx.Response:
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        return httpx.request(method, self.url + path, headers=headers | more.pop("headers", {}), timeout=60, **more)

    @property
    def keys(self) -> MasterKeys:
        return master_keys(Settings(data_dir=self.folder))

    @property
    def signer(self) -> Signer:
        return Signer(self.keys.derived("signing"))

    def lease_token(self, execution: dict[str, Any], **changes: int) -> str:
        """The token of an execution's last attempt."""
        last = execution["attempts"][-1]
        claim = {"attempt": last["attempt"], "fencing_token": last["fencing_token"], **changes}
        tokens = LeaseTokens(self.keys.derived("lease tokens")[0])
        return tokens.issue(LeaseClaim(execution_id=execution["execution_id"], **claim))

    def follow(self, execution_id: str, query: str = "", secret: str | None = KEY) -> ClientConnection:
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        address = f"ws{self.url[4:]}/ws/executions/{execution_id}/logs{query}"
        return connect(address, additional_headers=headers, max_size=None)


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document of an answer that must be a refusal of this kind."""
    assert answer.status_code == status, f"{answer.status_code}: {answer.text[:2000]}"
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["code"] == code, body
    assert body["status"] == status
    assert body["type"].endswith(f"/{code}")
    assert body["instance"] == answer.request.url.path
    assert body["request_id"] == answer.headers["x-request-id"]
    assert isinstance(body["errors"], list)
    assert body["title"]
    assert body["detail"]
    return body


def fields(answer: httpx.Response) -> set[str]:
    """The fields that a refusal names."""
    return {wrong["field"] for wrong in answer.json()["errors"]}


def moment(text: str) -> datetime:
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


@contextmanager
def service(folder: Path, **settings: object) -> Iterator[Live]:
    """Runs until the block ends. Settings are those of `rgrid up`, in lower case without their prefix."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "PYTHONPATH": f"{SOURCES}:{SOURCES / 'src'}",
        "RGRID_BOOTSTRAP_KEY": KEY,
        "RGRID_LOG_LEVEL": "warning",
        **{f"RGRID_{name.upper()}": str(value) for name, value in settings.items()},
    }
    data = folder / "data"
    prepare(data)
    with (folder / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "rgrid", "up", "--port", "0", "--data-dir", str(data), "--json"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    try:
        yield Live(_address(process, folder), data)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _die_with_parent() -> None:
    """Nobody would stop the service of a test run that was killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _address(process: "subprocess.Popen[bytes]", folder: Path) -> str:
    assert process.stdout is not None
    said = b""
    for line in process.stdout:
        said += line
        if line.rstrip() == b"}":
            url: str = json.loads(said)["url"]
            return url
    raise AssertionError((folder / "service.log").read_text())
