"""A real terminal for a program: what it shows is read, what is typed is sent."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

WAIT_S = 60
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x07")


class Terminal:
    """One program with a terminal of its own, 80 columns wide."""

    def __init__(self, program: Sequence[str | Path], env: Mapping[str, str], folder: Path, columns: int = 80) -> None:
        self.shown = ""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            program,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**env, "TERM": "xterm"},
            cwd=folder,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, text: str) -> str:
        """Everything shown so far, once `text` is among it."""
        ends = time.monotonic() + WAIT_S
        while text not in self.shown:
            if not self._read(ends):
                raise AssertionError(f"{text!r} was not shown, but: {self.shown}")
        return self.shown

    def end(self) -> int:
        """The exit code; everything that was shown is then in `shown`."""
        while self._read(time.monotonic() + WAIT_S):
            pass
        return self.process.wait(WAIT_S)

    def _read(self, ends: float) -> bool:
        readable, _, _ = select.select([self._master], [], [], max(ends - time.monotonic(), 0))
        try:
            data = os.read(self._master, 65_536) if readable else b""
        except OSError:
            return False
        self.shown += _CONTROLS.sub("", data.decode(errors="replace")).replace("\r\n", "\n")
        return bool(data)
