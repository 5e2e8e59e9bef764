"""What the installer says, as lines of the execution's log before the script's own: on stderr, and marked."""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from rgrid.pool.capture import LINE_BYTES_MAX, Capture, CaptureLimits
from rgrid.pool.protocol import LogLine, Stream

MARK: Final = "[install] "
_LIMITS: Final = CaptureLimits(bytes_max=1024 * 1024, lines_max=10_000)
_CHARACTERS_MAX: Final = LINE_BYTES_MAX // 4 - len(MARK)


class InstallLog:
    """`add` gets the lines as they come; `close` sends the last ones and says where the script's lines go on."""

    def __init__(self, next_sequence: int, masked: Sequence[str], add: Callable[[list[LogLine]], None]) -> None:
        self._capture = Capture(next_sequence=next_sequence, masked=masked, limits=_LIMITS)
        self._add = add
        self._next = next_sequence

    def hear(self, stream: Stream, data: bytes) -> None:
        self._pass_on(self._capture.feed(stream, data))

    def note(self, text: str) -> None:
        """Something that the worker says of the installation."""
        self.hear("stderr", f"{text}\n".encode())

    def close(self) -> int:
        self._pass_on(self._capture.close())
        return self._next

    def _pass_on(self, lines: list[LogLine]) -> None:
        if lines:
            self._next = lines[-1].sequence_number + 1
            self._add([replace(line, message=f"{MARK}{line.message[:_CHARACTERS_MAX]}") for line in lines])
