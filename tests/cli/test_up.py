"""`rgrid up`: one line when it is ready, a key that is saved for its user, and an orderly end."""

import json
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running_grid import SOURCES

STOP_TIMEOUT_S = 60


class User:
    """Somebody with a home and a data folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.saved = home / ".rgrid" / "credentials"

    def environment(self, **more: str) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin", "HOME": str(self.home), "PYTHONPATH": SOURCES, **more}

    @contextmanager
    def up(self, *words: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """The running process and the first line that it prints."""
        with (self.home / "service.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "rgrid", "up", "--data-dir", str(self.home / "data"), "--slots", "0", *words],
                env=self.environment(**environment),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline()
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(STOP_TIMEOUT_S)
            process.stdout.close()

    def rgrid(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rgrid", *words],
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=STOP_TIMEOUT_S,
        )


@pytest.fixture
def user(tmp_path: Path) -> User:
    # The user that Postgres runs as passes through.
    for each in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        each.chmod(0o711)
    return User(tmp_path)


def test_the_first_start_saves_a_key_that_later_starts_keep(user: User) -> None:
    with user.up("--port", "0") as (process, line):
        assert line.startswith("rgrid is ready at http://127.0.0.1:")
        assert stat.S_IMODE(user.saved.stat().st_mode) == 0o600
        assert "profile local" in user.rgrid("whoami").stdout
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_TIMEOUT_S) == 0
    before = json.loads(user.saved.read_text())["profiles"]["local"]["api_key"]
    with user.up("--port", "0") as (process, line):
        assert line.startswith("rgrid is ready at ")
        assert json.loads(user.saved.read_text())["profiles"]["local"]["api_key"] == before
        assert user.rgrid("whoami").returncode == 0
        process.terminate()
        assert process.wait(STOP_TIMEOUT_S) == 0


def test_a_key_of_ones_own_is_taken_and_not_saved(user: User) -> None:
    key = "sk_live_" + "k" * 43
    with user.up("--port", "0", RGRID_BOOTSTRAP_KEY=key) as (_, line):
        url = line.split()[4]
        assert user.rgrid("whoami", RGRID_API_URL=url, RGRID_API_KEY=key).returncode == 0
        assert not user.saved.exists()


def test_a_lost_key_is_said_to_be_lost(user: User) -> None:
    with user.up("--port", "0"):
        pass
    user.saved.unlink()
    with user.up("--port", "0") as (_, line):
        assert line.startswith("rgrid is ready at ")
    assert not user.saved.exists()
    assert "set up with another key" in (user.home / "service.log").read_text()


def test_a_port_that_is_taken_is_one_message(user: User, tmp_path: Path) -> None:
    with user.up("--port", "0") as (_, line):
        port = line.split()[4].rpartition(":")[2]
        other = user.rgrid("up", "--port", port, "--data-dir", str(tmp_path / "other"), "--slots", "0")
        assert other.returncode == 1
        assert f"Port {port} of 127.0.0.1 is taken." in other.stderr
        assert "Traceback" not in other.stderr
        same = user.rgrid("up", "--port", "0", "--data-dir", str(tmp_path / "data"))
        assert same.returncode == 1
        assert "Traceback" not in same.stderr


def test_the_doctor_names_what_works_and_what_is_set(user: User) -> None:
    found = json.loads(user.rgrid("doctor", "--json", RGRID_LOG_LEVEL="debug", RGRID_PROT="1").stdout)
    verdicts = {finding["part"]: finding["verdict"] for finding in found["findings"]}
    assert {"python", "sandbox", "interpreters", "postgres", "disk", "service"} <= verdicts.keys()
    assert verdicts["postgres"] == "ok"
    assert verdicts["service"] == "warning"
    (stranger,) = [finding for finding in found["findings"] if finding["part"] == "settings"]
    assert stranger["remedy"] == "is RGRID_PORT meant?"
    (level,) = [each for each in found["settings"] if each["name"] == "RGRID_LOG_LEVEL"]
    assert (level["value"], level["origin"]) == ("debug", "environment")


def test_the_doctor_sees_a_folder_that_is_closed_and_a_database_that_is_not_there(user: User) -> None:
    done = user.rgrid("doctor", RGRID_DATABASE_URL="postgresql://nobody:secret@127.0.0.1:1/none")
    assert done.returncode == 1
    assert "problem  postgres" in done.stdout
    assert "secret" not in done.stdout + done.stderr
