"""One calm line about a batch: redrawn on a terminal, now and then a new one anywhere else."""

import shutil
import sys
from typing import Final

from rgrid.cli.output import BAR_WIDTH, Console, duration
from rgrid.client.batches import Batch
from rgrid.kernel import clock
from rgrid.kernel.money import display

BAR_WIDTH_MIN: Final = 6
PLAIN_EVERY_MS: Final = 5_000


class BatchView:
    """Shows how far a batch is. Plain lines come at most every 5 seconds, and only when something changed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_bar = console.shows_bars
        self._last_ms: int | None = None
        self._last_text = ""

    def show(self, batch: Batch) -> None:
        if self._console.json:
            return
        now_ms = clock.monotonic_ms()
        text = told(batch)
        if self._is_bar:
            columns = shutil.get_terminal_size().columns
            redraw(f"{_bar(batch.percent_complete, columns - len(text) - 2)}{text}"[: columns - 1])
        elif text != self._last_text and (self._last_ms is None or now_ms - self._last_ms >= PLAIN_EVERY_MS):
            self._last_ms, self._last_text = now_ms, text
            self._console.note(text)

    def close(self) -> None:
        """Leaves an empty line to whoever writes next."""
        if self._is_bar:
            redraw("")


def redraw(text: str) -> None:
    """One line of a terminal, in the place of what it showed."""
    print(f"\r\033[2K{text}", end="", file=sys.stderr, flush=True)


def _bar(percent: float, room: int) -> str:
    """As wide as there is room beside the text, left out where that is too little to tell anything."""
    width = min(BAR_WIDTH, room)
    if width < BAR_WIDTH_MIN:
        return ""
    filled = round(percent / 100 * width)
    return "━" * filled + "─" * (width - filled) + " "


def told(batch: Batch) -> str:
    """`620 of 1000 · 10 running · 3 failed · €0.12 · 1 min 05 s left`."""
    counts = batch.counts
    parts = [f"{batch.ended} of {batch.total}"]
    failed = counts.failed + counts.timed_out
    for count, word in ((counts.running, "running"), (failed, "failed"), (counts.cancelled, "cancelled")):
        if count:
            parts.append(f"{count} {word}")
    if batch.total_cost_micros:
        parts.append(display(batch.total_cost_micros))
    if batch.eta_seconds:
        left = f"{batch.eta_seconds} s" if batch.eta_seconds < 60 else duration(batch.eta_seconds * 1000)
        parts.append(f"{left} left")
    return " · ".join(parts)
