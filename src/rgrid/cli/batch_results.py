"""What came of a batch: its files, each item's in a folder of its own, and what failed."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from rgrid.cli.batch_view import redraw
from rgrid.cli.output import Console, plain
from rgrid.client.batches import Batch, BatchExecution
from rgrid.client.grid import Client
from rgrid.client.transfers import safe_relative

FETCHERS_MAX: Final = 4
FAILURES_SHOWN_MAX: Final = 10
NAMES_MAX: Final = 100_000


def exit_code(batch: Batch) -> int:
    """0 when all completed, 1 when none did, 2 in between."""
    if batch.counts.completed == batch.total:
        return 0
    return 2 if batch.counts.completed else 1


def fetch_files(
    client: Client, console: Console, executions: Sequence[BatchExecution], folder: Path, *, flat: bool
) -> list[Path]:
    """The outputs of these executions; a few executions at a time."""
    from concurrent.futures import ThreadPoolExecutor

    folders = [folder] * len(executions) if flat else list(_folders(executions, folder))

    def fetch(execution: BatchExecution, into: Path) -> list[Path]:
        outputs = client.artifacts(execution.execution_id, "output")
        return [client.download(each, into) for each in outputs if not each.expired]

    saved: list[Path] = []
    with ThreadPoolExecutor(FETCHERS_MAX, thread_name_prefix="fetch") as pool:
        for number, paths in enumerate(pool.map(fetch, executions, folders), 1):
            saved += paths
            if console.shows_bars:
                redraw(f"fetched the files of {number} of {len(executions)}")
    if console.shows_bars:
        redraw("")
    if saved:
        console.note(f"saved {len(saved)} files below {folder}")
    return saved


def _folders(executions: Sequence[BatchExecution], folder: Path) -> Iterator[Path]:
    """A folder for each item, named after its input; a name that is taken, here or by a file, gets `_1`."""
    taken: set[Path] = set()
    for execution in executions:
        name = PurePosixPath(execution.batch_metadata.input_file or f"item_{execution.index}").name
        wanted = folder / safe_relative(name)
        found = wanted
        for number in range(1, NAMES_MAX):
            if found not in taken and (not found.exists() or found.is_dir()):
                break
            found = wanted.with_name(f"{wanted.name}_{number}")
        taken.add(found)
        yield found


def explain(client: Client, console: Console, batch: Batch) -> None:
    """What failed, if anything did, and what to type next."""
    if console.json or batch.status == "completed":
        return
    console.note(f"{batch.batch_id} {batch.status}: {batch.counts.completed} of {batch.total} completed")
    failed = [
        execution
        for status in ("failed", "timed_out")
        for execution in client.batches.executions(batch.batch_id, status=status)
    ]
    for execution in failed[:FAILURES_SHOWN_MAX]:
        what = execution.batch_metadata.input_file or f"item {execution.index}"
        code = f", exit code {execution.exit_code}" if execution.exit_code is not None else ""
        console.note(f"  {plain(what)}: {execution.failure_reason}{code} (rgrid logs {execution.execution_id})")
    if len(failed) > FAILURES_SHOWN_MAX:
        console.note(f"  and {len(failed) - FAILURES_SHOWN_MAX} more (rgrid batch status {batch.batch_id})")
    console.note(f"  Next: rgrid retry --batch {batch.batch_id}")
