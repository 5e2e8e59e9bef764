"""A run while it goes: the graph with its states redrawn on a terminal, elsewhere a line for each step that ends."""

import shutil
import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final

from rgrid.cli.output import STATUS_COLOURS, Console, plain
from rgrid.cli.workflows.drawing import Line, detail_of, laid_out, lines
from rgrid.client.grid import Client
from rgrid.client.workflow_answers import Graph, Run

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

EXIT_CODES: Final = {"COMPLETED": 0, "PARTIAL": 2}
REFRESHES_PER_SECOND: Final = 4
ROWS_AROUND: Final = 4


def watch(client: Client, console: Console, run_id: str) -> Run:
    """Shows a run to its end; programs get a document each time it changed."""
    run: Run | None = None
    with _view(client, console) as show:
        for run in client.workflows.watch(run_id):
            show(run)
    assert run is not None
    return run


def exit_code(run: Run) -> int:
    """0 when it completed, 2 when a part of it failed, 1 otherwise."""
    return EXIT_CODES.get(run.status, 1)


def headline(run: Run) -> str:
    """`run_… weekly_refresh v3 RUNNING, 4 of 9 steps`."""
    what = f"{run.run_id} {plain(run.workflow_name)} v{run.workflow_version} {run.status}"
    return f"{what}, {run.ended_steps} of {run.total_steps} steps"


class _Screen:
    """The graph in place, calm: it is drawn again only when the run changed."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._live: Live | None = None

    def __enter__(self) -> Callable[[Run], None]:
        from rich.console import Console as Screen
        from rich.live import Live

        screen = Screen(file=sys.stderr, highlight=False)
        self._live = Live(console=screen, refresh_per_second=REFRESHES_PER_SECOND, auto_refresh=False)
        self._live.start()
        return self._show

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._live is not None
        self._live.stop()

    def _show(self, run: Run) -> None:
        assert self._live is not None
        size = shutil.get_terminal_size()
        graph = self._client.workflows.graph(run.run_id)
        self._live.update(_drawn(run, graph, size.columns - 1, None if run.is_over else size.lines - 1), refresh=True)


class _Lines:
    """One line for each try that ended."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: set[tuple[str, int]] = set()

    def __enter__(self) -> Callable[[Run], None]:
        return self._show

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left to do."""

    def _show(self, run: Run) -> None:
        if self._console.json:
            self._console.json_line(run)
            return
        ended = [step for step in run.steps if step.completed_at is not None or step.status == "SKIPPED"]
        for step in sorted(ended, key=lambda each: (each.completed_at or run.created_at, each.step_order)):
            if (step.step_name, step.attempt) in self._told:
                continue
            self._told.add((step.step_name, step.attempt))
            detail = detail_of(step)
            self._console.note(f"{plain(step.step_name)} {step.status}{f': {detail}' if detail else ''}")


def _view(client: Client, console: Console) -> _Screen | _Lines:
    return _Screen(client) if console.shows_bars else _Lines(console)


def _drawn(run: Run, graph: Graph, columns: int, height: int | None) -> "Text":
    from rich.text import Text

    text = Text(no_wrap=True, overflow="crop")
    text.append(headline(run)[:columns], "bold")
    drawn = lines(graph, run)
    laid = laid_out(drawn, columns)
    first, last = window(drawn, None if height is None else height - 1)
    for rail, name, rest, line in laid[first:last]:
        style = STATUS_COLOURS.get(line.status.lower(), "")
        text.append("\n").append(rail, "dim").append(line.sign, style).append(line.after, "dim").append(name)
        before, status, after = rest.partition(line.status) if line.status else (rest, "", "")
        text.append(before, "dim").append(status, style).append(after)
    return text


def window(drawn: list[Line], height: int | None) -> tuple[int, int]:
    """Which lines to show where there is room for `height`: those around the first that hasn't ended."""
    if height is None or len(drawn) <= height:
        return 0, len(drawn)
    open_lines = [at for at, line in enumerate(drawn) if line.status in ("RUNNING", "WAITING", "PENDING")]
    centre = open_lines[0] if open_lines else len(drawn)
    first = max(0, min(centre - ROWS_AROUND, len(drawn) - height))
    return first, first + height
