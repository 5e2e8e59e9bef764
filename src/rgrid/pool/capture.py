"""Bytes of two pipes become numbered log lines: decoded, masked, split and limited, whatever the chunks they came in.

Two pipes share one sequence in order of arrival. Memory is bounded: at most one unfinished line per pipe and, once the
limit is reached, a ring of the newest text, which is split into lines only at the end, so that a script that prints
without end costs little and is not slowed down.
"""

import codecs
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final

import msgspec

from rgrid.kernel.clock import now as clock_now
from rgrid.pool.masking import Masker
from rgrid.pool.protocol import LogLine, Stream

LINE_BYTES_MAX: Final = 64 * 1024
SILENCE_S: Final = 0.25
HINT_LINES_MAX: Final = 50
HINT_LINE_CHARACTERS_MAX: Final = 2000
REPLACEMENT: Final = "\ufffd"


class CaptureLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Per attempt; a line counts its bytes in UTF-8 and one for its newline."""

    bytes_max: int = 10 * 1024 * 1024
    lines_max: int = 200_000
    tail_bytes: int = 64 * 1024


class _Pipe:
    """One of the two streams: its decoder, its masker and the line it is in the middle of."""

    def __init__(self, masked: Sequence[str]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._masker = Masker(masked)
        self.size_bytes = 0
        self.fed_at = 0.0
        self.unfinished: list[str] = []
        self.unfinished_bytes = 0
        self.flushed = False  # the unfinished line went out after a silence: a newline next adds no empty line

    def text(self, data: bytes, final: bool = False) -> str:
        text = self._decoder.decode(data, final)
        if "\0" in text:
            text = text.replace("\0", REPLACEMENT)
        text = self._masker.feed(text)
        return text + self._masker.rest() if final else text

    def take_unfinished(self) -> str:
        text = "".join(self.unfinished)
        self.unfinished, self.unfinished_bytes = [], 0
        return text


class Capture:
    """Feed it chunks, get lines. `close` gives the last ones, with the kept end of a cut output."""

    def __init__(
        self,
        *,
        next_sequence: int,
        masked: Sequence[str],
        limits: CaptureLimits | None = None,
        now: Callable[[], datetime] = clock_now,
    ) -> None:
        self._next = next_sequence
        self._limits = limits or CaptureLimits()
        self._now = now
        self._pipes: dict[Stream, _Pipe] = {"stdout": _Pipe(masked), "stderr": _Pipe(masked)}
        self._bytes = 0
        self._lines = 0
        self._cut = False
        self._closing = False
        self._tail: deque[tuple[Stream, str, int, datetime]] = deque()
        self._tail_bytes = 0
        self.truncated = False
        self.stderr_end: deque[str] = deque(maxlen=HINT_LINES_MAX)

    def size_bytes(self, stream: Stream) -> int:
        """What the script printed, before any cut."""
        return self._pipes[stream].size_bytes

    def feed(self, stream: Stream, data: bytes) -> list[LogLine]:
        if not data:
            return []
        pipe = self._pipes[stream]
        pipe.size_bytes += len(data)
        pipe.fed_at = time.monotonic()
        return self._take(stream, pipe.text(data), self._now())

    def waiting_since(self) -> float | None:
        """When the pipe that has waited longest with an unfinished line was last fed (monotonic), if one has."""
        times = [pipe.fed_at for pipe in self._pipes.values() if pipe.unfinished]
        return min(times) if times else None

    def flush_silent(self, until: float) -> list[LogLine]:
        """The unfinished lines of pipes that were last fed at or before `until` (monotonic)."""
        lines: list[LogLine] = []
        for stream, pipe in self._pipes.items():
            if pipe.unfinished and pipe.fed_at <= until:
                lines += self._end_unfinished(stream, self._now())
        return lines

    def close(self) -> list[LogLine]:
        """The end of both pipes."""
        at = self._now()
        lines: list[LogLine] = []
        by_age: list[Stream] = sorted(self._pipes, key=lambda stream: self._pipes[stream].fed_at)
        for stream in by_age:
            lines += self._take(stream, self._pipes[stream].text(b"", final=True), at)
            lines += self._end_unfinished(stream, at)
        if self._cut:
            self._closing = True
            for stream, text, logged_at in self._end_of_output():
                lines += self._take(stream, text, logged_at)
            for stream in by_age:
                lines += self._end_unfinished(stream, at)
        return lines

    def _take(self, stream: Stream, text: str, at: datetime) -> list[LogLine]:
        if not text:
            return []
        if self._cut and not self._closing:
            self._keep(stream, text, at)
            return []
        pipe = self._pipes[stream]
        if "\n" not in text and pipe.unfinished_bytes + len(text) * 4 <= LINE_BYTES_MAX:
            pipe.unfinished.append(text)
            pipe.unfinished_bytes += _size(text)
            return []
        parts = (pipe.take_unfinished() + text).split("\n")
        if pipe.flushed and parts[0] == "" and len(parts) > 1:
            del parts[0]
        pipe.flushed = False
        return self._lines_of(stream, parts, at)

    def _lines_of(self, stream: Stream, parts: list[str], at: datetime) -> list[LogLine]:
        """Lines of `parts`; the last one has no newline yet and stays unfinished."""
        lines: list[LogLine] = []
        last = len(parts) - 1
        for index, part in enumerate(parts):
            pieces = [part] if len(part) * 4 <= LINE_BYTES_MAX else list(_pieces(part))
            if index == last:
                rest = pieces.pop()
                if rest:
                    self._pipes[stream].unfinished.append(rest)
                    self._pipes[stream].unfinished_bytes += _size(rest)
            for number, piece in enumerate(pieces):
                if not self._room_for(piece):
                    # Pieces of one long line have no newline between them; the unfinished rest follows the last part.
                    left = "".join(pieces[number:]) + ("\n" + "\n".join(parts[index + 1 :]) if index < last else "")
                    left += self._pipes[stream].take_unfinished() if index == last else ""
                    lines.append(self._begin_cut(stream, left, at))
                    return lines
                lines.append(self._line(stream, piece, at))
        return lines

    def _room_for(self, message: str) -> bool:
        """Counts the line if the limits allow it."""
        if self._closing:
            return True
        size = _size(message) + 1
        if self._lines + 1 > self._limits.lines_max or self._bytes + size > self._limits.bytes_max:
            return False
        self._lines += 1
        self._bytes += size
        return True

    def _line(self, stream: Stream, message: str, at: datetime) -> LogLine:
        if stream == "stderr":
            self.stderr_end.append(message[:HINT_LINE_CHARACTERS_MAX])
        line = LogLine(sequence_number=self._next, stream=stream, message=message, logged_at=at)
        self._next += 1
        return line

    def _end_unfinished(self, stream: Stream, at: datetime) -> list[LogLine]:
        pipe = self._pipes[stream]
        if not pipe.unfinished:
            return []
        message = pipe.take_unfinished()
        if not self._room_for(message):
            return [self._begin_cut(stream, message, at)]
        pipe.flushed = True
        return [self._line(stream, message, at)]

    def _begin_cut(self, stream: Stream, left: str, at: datetime) -> LogLine:
        """From now on text is only kept in the ring; says so in one line of stderr."""
        self._cut = True
        for other, pipe in self._pipes.items():
            if other != stream and pipe.unfinished:
                self._keep(other, pipe.take_unfinished(), at)
        self._keep(stream, left, at)
        limits = self._limits
        message = (
            f"[rgrid] output was cut here: it reached the limit of {limits.bytes_max:,} bytes or"
            f" {limits.lines_max:,} lines; the last {limits.tail_bytes:,} bytes follow when the script ends"
        )
        line = LogLine(sequence_number=self._next, stream="stderr", message=message, logged_at=at)
        self._next += 1
        return line

    def _keep(self, stream: Stream, text: str, at: datetime) -> None:
        size = _size(text)
        self._tail.append((stream, text, size, at))
        self._tail_bytes += size
        while self._tail_bytes - self._tail[0][2] >= self._limits.tail_bytes:
            self._tail_bytes -= self._tail.popleft()[2]
            self.truncated = True

    def _end_of_output(self) -> Iterator[tuple[Stream, str, datetime]]:
        """The ring's content, its oldest piece shortened so that the whole is at most the tail's size."""
        excess = self._tail_bytes - self._limits.tail_bytes
        for stream, text, _, at in self._tail:
            if excess > 0:
                data = text.encode()
                while excess < len(data) and data[excess] & 0xC0 == 0x80:
                    excess += 1
                text, excess = data[excess:].decode(), 0
                self.truncated = True
            yield stream, text, at
        self._tail.clear()


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _pieces(line: str) -> Iterator[str]:
    """The line in pieces of at most 64 KiB of UTF-8, cut between characters; an empty line is one piece."""
    data = line.encode()
    start = 0
    while len(data) - start > LINE_BYTES_MAX:
        end = start + LINE_BYTES_MAX
        while data[end] & 0xC0 == 0x80:
            end -= 1
        yield data[start:end].decode()
        start = end
    yield data[start:].decode()
