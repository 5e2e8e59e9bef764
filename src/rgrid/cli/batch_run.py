"""`rgrid run --batch FILES SCRIPT`: one run for every file, watched in one line."""

import argparse
import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from rgrid.cli.batch_results import exit_code, explain, fetch_files
from rgrid.cli.batch_view import BatchView
from rgrid.cli.inputs import Mapped, add_file
from rgrid.cli.leaving import Left, interrupted
from rgrid.cli.output import Bar, Console, Usage, size
from rgrid.client.batches import Item, NewBatch
from rgrid.client.grid import Client, Submission

ITEMS_MAX: Final = 10_000
SHOWN_MAX: Final = 5


def items_of(given: Sequence[str], shared: Mapped) -> list[Item]:
    """One item for each file. It comes first among the arguments, or wherever a `{}` stands."""
    items = []
    for path in _files(given):
        files = dict(shared.files)
        name = add_file(files, path)
        has_place = any("{}" in word for word in shared.args)
        args = [word.replace("{}", name) for word in shared.args] if has_place else [name, *shared.args]
        # The item's own file comes first: it is what the item is called after.
        items.append(Item(name=name[-200:], args=args, files={name: files.pop(name), **files}))
    return items


def _files(given: Sequence[str]) -> list[Path]:
    found: dict[Path, Path] = {}
    for text in given:
        if any(sign in text for sign in "*?[") and not Path(text).is_file():
            # A pattern may be absolute, which Path.glob refuses.
            named = glob.glob(text, recursive=True)  # noqa: PTH207
            matched = sorted(path for path in map(Path, named) if path.is_file())
            if not matched:
                raise Usage(f"No file matches {text}. Nothing was sent.")
        else:
            matched = [Path(text)]
            if not matched[0].is_file():
                raise Usage(f"There is no file {text}. Nothing was sent.")
        for path in matched:
            found.setdefault(path.resolve(), path)
    if len(found) > ITEMS_MAX:
        raise Usage(f"These are {len(found)} files; a batch has at most {ITEMS_MAX}.")
    return list(found.values())


def run_batch(
    client: Client, console: Console, args: argparse.Namespace, submission: Submission, items: Sequence[Item]
) -> int:
    if args.dry_run:
        return _dry_run(client, console, submission, items)
    run = _BatchRun(client, console, args)
    try:
        run.submit(submission, items)
        if args.detach:
            return run.detached()
        return run.follow()
    except KeyboardInterrupt:
        return run.interrupted()


class _BatchRun:
    """One call of `run --batch` from the first upload to the last download."""

    def __init__(self, client: Client, console: Console, args: argparse.Namespace) -> None:
        self._client = client
        self._console = console
        self._args = args
        self._view = BatchView(console)
        self._batch_id = ""
        self._is_uploaded = False
        self._is_over = False

    def submit(self, submission: Submission, items: Sequence[Item]) -> None:
        def created(made: NewBatch) -> None:
            self._batch_id = made.batch_id

        total = sum(path.stat().st_size for item in items for path in item.files.values())
        with Bar(self._console, "sending", total) as bar:
            self._client.batches.create(
                submission,
                items,
                max_parallel=self._args.parallel,
                fail_fast=self._args.fail_fast,
                failures_max=self._args.max_failures,
                progress=bar.advance,
                on_created=created,
            )
        self._is_uploaded = True

    def detached(self) -> int:
        if self._console.json:
            self._console.document(self._client.document("GET", f"/batches/{self._batch_id}"))
        else:
            self._console.line(self._batch_id)
            self._console.note(f"  Next: rgrid batch watch {self._batch_id}")
        return 0

    def follow(self) -> int:
        self._console.note(self._batch_id)
        watch(self._client, self._console, self._batch_id, self._view, has_lines=self._args.watch)
        self._is_over = True
        saved = []
        if not self._args.remote_only:
            executions = [one for one in self._client.batches.executions(self._batch_id) if one.status != "cancelled"]
            saved = fetch_files(self._client, self._console, executions, self._args.output_dir, flat=self._args.flat)
        batch = self._client.batches.get(self._batch_id)
        if self._console.json:
            document = self._client.document("GET", f"/batches/{self._batch_id}")
            told = {**document, "downloaded": [str(path) for path in saved]}
            (self._console.json_line if self._args.watch else self._console.document)(told)
        explain(self._client, self._console, batch)
        return exit_code(batch)

    def interrupted(self) -> int:
        self._view.close()
        cancel = self._client.batches.cancel
        left = Left(self._batch_id, "rgrid batch", "watch", self._is_uploaded, self._is_over, cancel)
        return interrupted(self._console, left)


def watch(client: Client, console: Console, batch_id: str, view: BatchView, *, has_lines: bool) -> None:
    """Shows a batch to its end; programs get a line each time it changed."""
    try:
        for batch in client.batches.watch(batch_id):
            view.show(batch)
            if console.json and has_lines and not batch.is_over:
                console.json_line(msgspec.to_builtins(batch))
    finally:
        view.close()


def _dry_run(client: Client, console: Console, submission: Submission, items: Sequence[Item]) -> int:
    total = sum(path.stat().st_size for item in items for path in item.files.values())
    if console.json:
        body: dict[str, Any] = msgspec.to_builtins(submission)
        body["env_vars"] = dict.fromkeys(submission.env_vars, "***")
        body["items"] = [{"name": item.name, "args": item.args, "input_files": list(item.files)} for item in items]
        console.document({"api_url": client.url, "request": body})
        return 0
    shown = ", ".join(str(item.name) for item in items[:SHOWN_MAX])
    more = f" and {len(items) - SHOWN_MAX} more" if len(items) > SHOWN_MAX else ""
    console.facts(
        [
            ("Service", client.url),
            ("Script", submission.name),
            ("Runtime", submission.runtime),
            ("Items", f"{len(items)} ({size(total)}): {shown}{more}"),
            ("First", " ".join(items[0].args or [])),
        ]
    )
    console.note("Nothing was sent.")
    return 0
