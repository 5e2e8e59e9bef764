"""One calm line about a batch: redrawn on a terminal, now and then a new one anywhere else."""

import sys
from typing import Final

from rgrid.cli.output import BAR_WIDTH, Console, duration
from rgrid.client.batches import Batch
from rgrid.kernel import clock
from rgrid.kernel.money import display

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
            filled = round(batch.percent_complete / 100 * BAR_WIDTH)
            bar = "━" * filled + "─" * (BAR_WIDTH - filled)
            print(f"\r\033[2K{bar} {text}", end="", file=sys.stderr, flush=True)
        elif text != self._last_text and (self._last_ms is None or now_ms - self._last_ms >= PLAIN_EVERY_MS):
            self._last_ms, self._last_text = now_ms, text
            self._console.note(text)

    def close(self) -> None:
        """Leaves an empty line to whoever writes next."""
        if self._is_bar:
            print("\r\033[2K", end="", file=sys.stderr, flush=True)


def told(batch: Batch) -> str:
    """`620 of 1000 · 10 running · 3 failed · €0.12 · about 1 min 05 s left`, within a line of 80 columns."""
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
