"""The container image: built with the engine that is here, started read-only as an operator would, used over HTTP."""

import json
import os
import resource
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from neighbours import needs

TREE: Final = Path(__file__).resolve().parent.parent
NAME: Final = "rgrid-test"
KEY: Final = "sk_live_" + "0123456789" * 4 + "abc"
FILES_MAX: Final = 8192
PROCESSES_MAX: Final = 4096
READY_MAX_S: Final = 90
EXECUTION_MAX_S: Final = 60

pytestmark = pytest.mark.timeout(600)


def run(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=TREE, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout.strip()


@dataclass(frozen=True)
class Container:
    """A started container of the image."""

    engine: tuple[str, ...]
    name: str

    def do(self, verb: str, *words: str) -> str:
        return run(*self.engine, verb, self.name, *words)

    def state(self, field: str) -> str:
        return run(*self.engine, "inspect", "--format", "{{.State." + field + "}}", self.name)

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer to a GET, or to a POST when there is a body."""
        address = run(*self.engine, "port", self.name, "8000/tcp").splitlines()[0]
        request = urllib.request.Request(
            f"http://{address}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_MAX_S
        while self.state("Status") == "running" and time.monotonic() < deadline:
            try:
                self.call("/api/v1/health/ready")
                return
            except OSError:
                time.sleep(0.1)
        pytest.fail(f"The container is not ready:\n{self.logs()}")

    def wait_ended(self, execution_id: str) -> Any:
        deadline = time.monotonic() + EXECUTION_MAX_S
        while time.monotonic() < deadline:
            execution = self.call(f"/api/v1/executions/{execution_id}")
            if execution["status"] not in ("queued", "running"):
                return execution
            time.sleep(0.1)
        pytest.fail(f"The execution did not end:\n{self.logs()}")

    def logs(self) -> str:
        done = subprocess.run([*self.engine, "logs", self.name], capture_output=True, text=True)
        return (done.stdout + done.stderr)[-4000:]


def container_engine() -> tuple[str, ...]:
    """The command line that reaches the engine, with what it needs where no systemd runs."""
    if subprocess.run(["docker", "info"], capture_output=True).returncode == 0:
        return ("docker",)
    needs("podman", "podman")
    if Path("/run/systemd/system").exists():
        return ("podman",)
    if os.geteuid() != 0:
        pytest.skip("where no systemd runs, podman takes root")
    needs("runc", "runc")
    needs("debootstrap", "debootstrap")
    return ("podman", "--cgroup-manager", "cgroupfs", "--runtime", "runc")


def hard_limit(which: int, at_most: int) -> int:
    _, hard = resource.getrlimit(which)
    return at_most if hard == resource.RLIM_INFINITY else min(hard, at_most)


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    engine = container_engine()
    run(TREE / ".ci/image", NAME)
    # An engine's own defaults may lie above what the caller of the engine has.
    files, processes = hard_limit(resource.RLIMIT_NOFILE, FILES_MAX), hard_limit(resource.RLIMIT_NPROC, PROCESSES_MAX)
    service = Container(engine, f"{NAME}-{os.getpid()}")
    volume = f"{service.name}-data"
    try:
        run(
            *(*engine, "run", "--detach", "--name", service.name, "--read-only", "--tmpfs", "/tmp"),
            *("--ulimit", f"nofile={files}:{files}", "--ulimit", f"nproc={processes}:{processes}"),
            # The check of health is run by hand below: here nothing may be there to run it on a timer.
            *("--no-healthcheck", "--publish", "127.0.0.1::8000", "--volume", f"{volume}:/data"),
            *("--env", f"RGRID_BOOTSTRAP_KEY={KEY}", NAME),
        )
        service.wait_ready()
        yield service
    finally:
        subprocess.run([*engine, "rm", "--force", service.name], capture_output=True)
        subprocess.run([*engine, "volume", "rm", "--force", volume], capture_output=True)


def test_a_script_completes_in_a_read_only_container(container: Container) -> None:
    script = "import pathlib\nprint(6 * 7)\npathlib.Path('made.txt').write_text('made here')\n"
    submitted = container.call("/api/v1/executions", {"script_content": script})
    ended = container.wait_ended(submitted["execution_id"])
    assert (ended["status"], ended["exit_code"]) == ("completed", 0), container.logs()
    lines = container.call(f"/api/v1/executions/{submitted['execution_id']}/logs")["data"]
    assert [line["message"] for line in lines] == ["42"]
    artifacts = container.call(f"/api/v1/executions/{submitted['execution_id']}/artifacts")["data"]
    assert [artifact["filename"] for artifact in artifacts] == ["made.txt"]


def test_the_worker_in_the_container_says_how_far_it_can_isolate(container: Container) -> None:
    # Docker's own profile forbids user namespaces to a container, podman's allows them.
    level = "rlimits" if container.engine == ("docker",) else "bubblewrap-limited-proc"
    workers = container.call("/api/v1/workers")["data"]
    assert [worker["sandbox_level"] for worker in workers] == [level]


def test_nothing_in_the_container_runs_as_root(container: Container) -> None:
    look = "import os, pathlib; print({p.stat().st_uid for p in pathlib.Path('/proc').iterdir() if p.name.isdigit()})"
    assert container.do("exec", "python", "-c", look) == "{10001}"


def test_the_image_holds_no_sources_and_no_installer(container: Container) -> None:
    look = "import importlib.util as u, rgrid; print(rgrid.__file__, u.find_spec('pip'), u.find_spec('hatchling'))"
    file, *tools = container.do("exec", "python", "-c", look).split()
    assert "site-packages" in file
    assert tools == ["None", "None"]


def test_the_check_of_health_passes_while_the_service_is_ready(container: Container) -> None:
    image = json.loads(run(*container.engine, "inspect", "--type", "image", NAME))[0]
    check = (image.get("HealthCheck") or image.get("Healthcheck") or image["Config"]["Healthcheck"])["Test"]
    assert check[0] == "CMD"
    container.do("exec", *check[1:])


def test_it_stops_cleanly_on_sigterm_and_keeps_its_data(container: Container) -> None:
    execution_id = container.call("/api/v1/executions", {"script_content": "print('kept')"})["execution_id"]
    container.wait_ended(execution_id)
    run(*container.engine, "stop", "--time", "40", container.name)
    assert container.state("ExitCode") == "0", container.logs()
    container.do("start")
    container.wait_ready()
    assert container.call(f"/api/v1/executions/{execution_id}")["status"] == "completed"
