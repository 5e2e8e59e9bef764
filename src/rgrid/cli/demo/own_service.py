"""A service of one's own for as long as it is needed: `rgrid up` as a child, on a free port, in a temporary folder."""

import ctypes
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from rgrid import settings
from rgrid.cli.output import Failure

READY_TIMEOUT_S: Final = 120
STOP_TIMEOUT_S: Final = 45
LOG_LINES_SHOWN: Final = 15
# What a child needs of this process' environment. No RGRID_ setting is among them: the demonstration must not touch
# a database or a service that happens to be configured here.
PASSED_ON: Final = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "TZ",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
)
_PR_SET_PDEATHSIG: Final = 1


class Ready(msgspec.Struct):
    """What `rgrid up --json` says when it is ready."""

    url: str


class Service:
    """Starts on entering, stops on leaving and removes its folder, unless it shall be kept."""

    def __init__(self, *, keep: bool = False) -> None:
        self.keep = keep
        self.url = ""
        self.key = f"sk_live_{_letters(43)}"
        self.folder = Path()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> "Service":
        self.folder = Path(tempfile.mkdtemp(prefix="rgrid-demo-"))
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self.keep or kind is not None:
            self.stop()

    def stop(self) -> None:
        """Ends the service and everything it started, and removes its folder."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        words = ["up", "--port", "0", "--data-dir", str(self.folder / "data"), "--json"]
        log = (self.folder / "service.log").open("wb")
        with log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rgrid", *words],
                env={**settings.inherited(*PASSED_ON), "RGRID_BOOTSTRAP_KEY": self.key},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C is ours to handle: the service goes when it is told to.
                start_new_session=True,
                preexec_fn=None if self.keep else _die_with_parent,
            )
        assert self._process.stdout is not None
        # The document ends when the line of its closing brace does, or when the process has gone.
        said = b""
        for line in self._process.stdout:
            said += line
            if line.rstrip() == b"}":
                break
        try:
            self.url = msgspec.json.decode(said, type=Ready).url
        except (msgspec.DecodeError, msgspec.ValidationError):
            raise self._failure() from None

    def _failure(self) -> Failure:
        lines = (self.folder / "service.log").read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return Failure("The service did not start. Its last words:", "rgrid doctor", details=lines)


def _letters(count: int) -> str:
    letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return "".join(secrets.choice(letters) for _ in range(count))


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
