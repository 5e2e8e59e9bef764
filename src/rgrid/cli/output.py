"""What the command line says and how: tables and colours for people, one JSON document for programs."""

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, TextIO

import msgspec

from rgrid.kernel import clock

BAR_WIDTH: Final = 24
CELL_MIN: Final = 10
WRAP_MIN: Final = 20
COLUMNS_MIN: Final = 2
WHOLE: Final = frozenset(
    {"ID", "EXECUTION", "BATCH", "STATUS", "CREATED", "WHEN", "SEEN", "LAST USED", "DUE", "LOCAL TIME", "UTC"}
)
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
BAR_EVERY_MS: Final = 100
_COLOURS: Final = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "dim": "2", "bold": "1"}
STATUS_COLOURS: Final = {
    "completed": "green",
    "active": "green",
    "ok": "green",
    "failed": "red",
    "timed_out": "red",
    "down": "red",
    "lost": "red",
    "revoked": "red",
    "expired": "red",
    "cancelled": "yellow",
    "degraded": "yellow",
    "rotating": "yellow",
    "draining": "yellow",
    "running": "blue",
    "waiting": "blue",
    "partial": "yellow",
    "cancelling": "yellow",
    "missed": "red",
    "skipped": "dim",
}


class Failure(Exception):
    """A command that can't do what was asked. `following` is the next command to type, `details` are more lines."""

    def __init__(
        self,
        message: str,
        following: str | None = None,
        *,
        code: int = 1,
        name: str = "client",
        details: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.details = details
        self.following = following
        self.code = code
        self.name = name


class Usage(Failure):
    """The command line itself is wrong: exit code 2."""

    def __init__(self, message: str, following: str | None = None) -> None:
        super().__init__(message, following, code=2, name="usage")


class Console:
    """Standard output for results, standard error for everything said about them."""

    def __init__(self, *, json: bool = False, has_colours: bool = False) -> None:
        self.json = json
        self.has_colours = has_colours
        self.shows_bars = sys.stderr.isatty() and not json and has_colours

    def line(self, text: str = "") -> None:
        """One line of the result."""
        print(text)

    def note(self, text: str) -> None:
        """One line about the result; programs don't want it."""
        if not self.json:
            print(text, file=sys.stderr, flush=True)

    def document(self, value: Any) -> None:
        """The result of a command as its one JSON document."""
        encoded = msgspec.json.format(msgspec.json.encode(value), indent=2)
        print(encoded.decode())

    def json_line(self, value: Any) -> None:
        """One of many JSON documents, each in its line."""
        print(msgspec.json.encode(value).decode(), flush=True)

    def paint(self, text: str, colour: str | None, stream: TextIO | None = None) -> str:
        if not (colour and self.has_colours and (stream or sys.stdout).isatty()):
            return text
        return f"\033[{_COLOURS[colour]}m{text}\033[0m"

    def status(self, text: str, shown: str | None = None) -> str:
        """A status in its colour, or what is shown for it."""
        return self.paint(text if shown is None else shown, STATUS_COLOURS.get(text.lower()))

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Columns as wide as their widest cell; on a terminal that is too narrow for that, long cells are cut. A column
        called STATUS has colours."""
        shown = [[plain(cell) for cell in row] for row in rows]
        widths = [max(len(cell) for cell in column) for column in zip(headers, *shown, strict=True)]
        if sys.stdout.isatty():
            headers, shown, widths = fitted(headers, shown, widths, shutil.get_terminal_size().columns)
        print(self.paint(_row(headers, widths), "bold"))
        coloured = headers.index("STATUS") if "STATUS" in headers else None
        for row in shown:
            text = _row(row, widths)
            if coloured is not None:
                start = sum(widths[:coloured]) + 2 * coloured
                cell = row[coloured]
                text = text[:start] + self.status(cell) + text[start + len(cell) :]
            print(text)

    def facts(self, pairs: Iterable[tuple[str, str | None]]) -> None:
        """Names and values in two columns; what has no value is left out."""
        kept = [(name, plain(value)) for name, value in pairs if value not in (None, "")]
        width = max((len(name) for name, _ in kept), default=0)
        room = shutil.get_terminal_size().columns - width - 2 if sys.stdout.isatty() else 0
        for name, value in kept:
            lines = textwrap.wrap(value, room, break_on_hyphens=False) if room >= WRAP_MIN else [value]
            shown = self.status(value) if name == "Status" else f"\n{'':{width}}  ".join(lines)
            print(f"{self.paint(name.ljust(width), 'dim')}  {shown}")

    def fail(
        self,
        message: str,
        details: Sequence[str] = (),
        *,
        request_id: str = "",
        following: str | None = None,
        name: str = "client",
    ) -> None:
        """The one message of a command that failed; programs get it as their document too."""
        stamp = f" (request {request_id})" if request_id else ""
        text = f"{self.paint('rgrid:', 'red', sys.stderr)} {plain(message)}{stamp}"
        text += "".join(f"\n  {plain(detail)}" for detail in details)
        if following:
            text += f"\n  Next: {following}"
        print(text, file=sys.stderr, flush=True)
        if self.json:
            error = {"code": name, "detail": message, "errors": list(details)}
            self.document({"error": {**error, "request_id": request_id or None, "next": following}})


class Bar:
    """One line on a terminal that shows how far a transfer is; silent anywhere else."""

    def __init__(self, console: Console, title: str, total: int) -> None:
        self._shown = console.shows_bars and total > 0
        self._title, self._total, self._done = title, total, 0
        self._last_ms = 0

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print("\r\033[2K", end="", file=sys.stderr, flush=True)

    def advance(self, count: int) -> None:
        self._done += count
        now_ms = clock.monotonic_ms()
        if not self._shown or now_ms - self._last_ms < BAR_EVERY_MS:
            return
        self._last_ms = now_ms
        share = min(self._done / self._total, 1.0)
        filled = round(share * BAR_WIDTH)
        bar = "━" * filled + "─" * (BAR_WIDTH - filled)
        print(f"\r\033[2K{self._title} {bar} {share:4.0%} of {size(self._total)}", end="", file=sys.stderr, flush=True)


def plain(text: str) -> str:
    """Text from elsewhere without the characters that steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def moment(value: datetime | None) -> str:
    """A moment in the time zone of whoever reads it."""
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S") if value else "-"


def duration(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "-"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.2f} s"
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def size(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5:
            return f"{value:.1f} {unit}" if value < 99.5 else f"{value:.0f} {unit}"
    return f"{value / 1000:.1f} TB"


def hush() -> None:
    """After the reader of a pipe has gone: nothing more can be said, and Python must not try at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fitted(
    headers: Sequence[str], rows: list[list[str]], widths: list[int], room: int
) -> tuple[Sequence[str], list[list[str]], list[int]]:
    """The same table in no more than `room` characters: first moments lose their year and seconds, then the widest
    cells are cut, then the last columns left out. Ids, statuses and moments are only good as a whole."""
    if sum(widths) + 2 * len(widths) - 2 > room:
        rows = [[cell[5:16] if _MOMENT.fullmatch(cell) else cell for cell in row] for row in rows]
        widths = [max(len(cell) for cell in column) for column in zip(headers, *rows, strict=True)]
    natural = widths
    widths = list(widths)
    whole = {at for at, name in enumerate(headers) if name in WHOLE}
    while sum(widths) + 2 * len(widths) - 2 > room:
        too_much = sum(widths) + 2 * len(widths) - 2 - room
        cuttable = [at for at, width in enumerate(widths) if at not in whole and width > CELL_MIN]
        if cuttable:
            widest = max(cuttable, key=lambda at: widths[at])
            widths[widest] = max(CELL_MIN, len(headers[widest]), widths[widest] - too_much)
            if widths[widest] == len(headers[widest]):
                whole.add(widest)
        elif len(widths) > COLUMNS_MIN:
            headers, widths = headers[:-1], widths[:-1]
            rows = [row[:-1] for row in rows]
        else:
            break
    for at in range(len(widths)):
        # What columns leave that were left out goes to those that were cut before.
        widths[at] += max(min(natural[at] - widths[at], room - sum(widths) - 2 * len(widths) + 2), 0)
    cut = [
        [cell if len(cell) <= width else f"{cell[: width - 1]}…" for cell, width in zip(row, widths, strict=True)]
        for row in rows
    ]
    return headers, cut, widths


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
