"""The progress of a batch: one calm view on a terminal, plain lines anywhere else."""

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from rgrid.cli.output import STATUS_COLOURS, Console, duration
from rgrid.client.answers import ExecutionRow

_SIGNS = {"completed": "✓", "failed": "✗", "timed_out": "✗", "cancelled": "–", "running": "▶", "queued": "·"}
REFRESHES_PER_SECOND = 8


class View(Protocol):
    def show(self, rows: Mapping[str, ExecutionRow]) -> None:
        """`rows` by name; what isn't there yet has not been sent."""
        ...


class Lines:
    """One line for each execution that ends."""

    def __init__(self, console: Console, names: Sequence[str]) -> None:
        self._console = console
        self._total = len(names)
        self._told: set[str] = set()

    def show(self, rows: Mapping[str, ExecutionRow]) -> None:
        for name, row in rows.items():
            if row.is_over and name not in self._told:
                self._told.add(name)
                self._console.note(
                    f"[{len(self._told)}/{self._total}] {name} {row.status} in {duration(row.duration_ms)}"
                )


@contextlib.contextmanager
def watching(console: Console, names: Sequence[str]) -> Iterator[View]:
    """The view that fits where standard error goes."""
    if not console.shows_bars:
        yield Lines(console, names)
        return
    from rich.console import Console as Screen
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def drawn(rows: Mapping[str, ExecutionRow]) -> Table:
        table = Table.grid(padding=(0, 2))
        over = sum(row.is_over for row in rows.values())
        table.add_row("", Text(f"{over} of {len(names)}", style="bold"), ProgressBar(len(names), over, width=24), "")
        for name in names:
            row = rows.get(name)
            status = row.status if row else "sending"
            style = STATUS_COLOURS.get(status, "dim")
            took = duration(row.duration_ms) if row and row.is_over else ""
            table.add_row(Text(_SIGNS.get(status, " "), style), name, Text(status, style), Text(took, justify="right"))
        return table

    screen = Screen(file=sys.stderr)
    with Live(drawn({}), console=screen, refresh_per_second=REFRESHES_PER_SECOND, transient=True) as live:

        class Screenful:
            def show(self, rows: Mapping[str, ExecutionRow]) -> None:
                live.update(drawn(rows))

        yield Screenful()
