"""`rgrid run SCRIPT [ARGS…]`: a script runs on the grid, and everything about it looks as if it ran here."""

import argparse
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from rgrid import settings
from rgrid.cli import arguments
from rgrid.cli.batch_run import items_of, run_batch
from rgrid.cli.connection import connect
from rgrid.cli.inputs import Mapped, map_arguments, read_script, runtime_for
from rgrid.cli.leaving import Left, interrupted
from rgrid.cli.output import Bar, Console, Usage, duration, plain, size
from rgrid.client.answers import Artifact, Ended, Execution, LogLine
from rgrid.client.grid import Client, Submission

TIMED_OUT: Final = 124
STDERR_LINES_MAX: Final = 20
REQUIREMENTS_BYTES_MAX: Final = 65_536


def add_run(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    parser.usage = "rgrid run [OPTIONS] SCRIPT [ARGS…]"
    add = parser.add_argument
    add("--runtime", metavar="NAME", help="such as python:3.12 or node; else the script's first line or ending decides")
    add("--env", metavar="NAME=VALUE", action="append", default=[], help="a variable; NAME alone takes yours")
    add("--env-file", metavar="FILE", action="append", default=[], type=Path, help="variables, one NAME=VALUE per line")
    add(
        "--secret",
        metavar="NAME=REF",
        action="append",
        default=[],
        type=arguments.pair,
        help="a variable from a secret",
    )
    add("--timeout", metavar="TIME", type=arguments.seconds, help="such as 90, 5m or 1h; 5m if not given")
    add("--cpu", metavar="CORES", type=float, help="how many cores, 1 if not given")
    add("--memory", metavar="SIZE", type=arguments.megabytes, help="such as 512m or 2g; 512m if not given")
    add("--network", action="store_true", help="let the script reach the network")
    add(
        "--metadata",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        type=arguments.pair,
        help="a label to find it by",
    )
    add("--priority", metavar="N", type=int, default=0, help="-10 to 10; higher goes first among those that wait")
    add("--queue-timeout", metavar="TIME", type=arguments.seconds, help="give up when no worker takes it in this time")
    add("--retry-on", metavar="LIST", type=arguments.reasons, help="such as timeout,75: reasons and exit codes")
    add("--name", metavar="TEXT", help="what lists call it; the script's file name if not given")
    add("--output-dir", metavar="DIR", type=Path, default=Path(), help="where its files go; here if not given")
    _add_batch(parser)
    add("--remote-only", action="store_true", help="leave its files on the grid")
    add("--detach", action="store_true", help="print the id and return at once")
    add("--no-cache", action="store_true", help="send files also when the grid has them already")
    add("--dry-run", action="store_true", help="show what would be sent, send nothing")
    packages = parser.add_mutually_exclusive_group()
    packages.add_argument(
        "--requirements", metavar="FILE", type=Path, help="the packages it needs; else requirements.txt beside it"
    )
    packages.add_argument("--no-requirements", action="store_true", help="ignore a requirements.txt beside the script")
    add("--allow-missing", action="store_true", help="arguments that look like missing files are just text")
    parser.epilog = (
        "Everything after SCRIPT goes to the script. Files among ARGS are sent along; files that the script\n"
        "makes come back, and a file that is already here stays. The exit code is the script's; 124 means\n"
        "out of time, 130 that you left with Ctrl-C, 2 a mistake in the command. On a terminal Ctrl-C asks\n"
        "whether to detach or to cancel, and once more detaches at once; without a terminal the run goes on.\n\n"
        "Examples:\n"
        "  rgrid run hello.py\n"
        "  rgrid run analyse.py data/sales.csv --top 10\n"
        "  rgrid run --memory 2g --timeout 1h --env MODE=full train.py train.csv\n"
        "  rgrid run --requirements needs.txt analyse.py\n"
        "  id=$(rgrid run --detach long.py) && rgrid logs -f $id\n"
        "  rgrid run --batch 'data/*.csv' --parallel 10 analyse.py --top 10\n"
        "With --batch the file comes first among the script's arguments, or where a {} stands; what each run makes\n"
        "goes to DIR/<file>/. The exit code is then 0 when all completed, 2 when some failed, 1 when none completed."
    )
    parser.set_defaults(handler=run)


def _add_batch(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--batch", metavar="FILES", nargs="+", help="one run for each file: a quoted glob (** goes deep), or paths")
    add("--parallel", metavar="N", type=arguments.parallel, help="with --batch: at most N at a time")
    add("--fail-fast", action="store_true", help="with --batch: the first failure cancels the rest")
    add("--max-failures", metavar="N", type=arguments.parallel, help="with --batch: N failures cancel the rest")
    add("--flat", action="store_true", help="with --batch: all files into one folder")
    add("--watch", action="store_true", help="with --batch --json: a line each time something changed")


def run(args: argparse.Namespace, console: Console) -> int:
    if not args.passed:
        raise Usage("Which script?", "rgrid run --help")
    script = Path(args.passed[0]).expanduser()
    text = read_script(script)
    mapped = map_arguments(args.passed[1:], allow_missing=args.allow_missing)
    submission = _submission(args, script, text, mapped)
    if args.batch is None and (args.parallel or args.fail_fast or args.max_failures or args.flat):
        raise Usage("--parallel, --fail-fast, --max-failures and --flat go with --batch.", "rgrid run --help")
    items = None if args.batch is None else items_of(args.batch, mapped)
    with connect(args, console) as client:
        if submission.runtime is None:
            submission.runtime = runtime_for(script, text, list(client.runtimes()))
        if items is not None:
            return run_batch(client, console, args, submission, items)
        if args.dry_run:
            return _dry_run(client, submission, mapped, console)
        return _Run(client, console, args).go(submission, mapped)


class _Run:
    """One call of `run` from the first upload to the last download."""

    def __init__(self, client: Client, console: Console, args: argparse.Namespace) -> None:
        self.client = client
        self.console = console
        self.args = args
        self.execution_id = ""
        self.is_uploaded = False
        self.is_over = False
        self.has_shown_stderr = False

    def go(self, submission: Submission, mapped: Mapped) -> int:
        try:
            self._submit(submission, mapped)
            if self.args.detach:
                return self._detached()
            self._follow()
            execution = self.client.get(self.execution_id)
            saved = [] if self.args.remote_only else self._download()
        except KeyboardInterrupt:
            return self._interrupted()
        if self.console.json:
            document = self.client.document("GET", f"/executions/{self.execution_id}")
            self.console.document({**document, "downloaded": [str(path) for path in saved]})
        explain(execution, self.console, with_stderr=not self.has_shown_stderr)
        return exit_code(execution)

    def _submit(self, submission: Submission, mapped: Mapped) -> None:
        def created(execution: Execution) -> None:
            self.execution_id = execution.execution_id

        total = sum(path.stat().st_size for path in mapped.files.values())
        with Bar(self.console, "sending", total) as bar:
            use_cache = not self.args.no_cache
            self.client.submit(submission, mapped.files, bar.advance, created, use_cache=use_cache)
        self.is_uploaded = True

    def _follow(self) -> None:
        for item in self.client.follow(self.execution_id):
            if isinstance(item, Ended):
                self.is_over = True
                return
            if isinstance(item, LogLine) and not self.console.json:
                stream = sys.stderr if item.stream == "stderr" else sys.stdout
                stream.write(f"{item.message}\n")
                stream.flush()
                self.has_shown_stderr |= item.stream == "stderr"

    def _download(self) -> list[Path]:
        return download_all(self.client, self.execution_id, self.args.output_dir, self.console)

    def _detached(self) -> int:
        if self.console.json:
            self.console.document(self.client.document("GET", f"/executions/{self.execution_id}"))
        else:
            self.console.line(self.execution_id)
            self.console.note(f"  Next: rgrid logs -f {self.execution_id}")
        return 0

    def _interrupted(self) -> int:
        client, is_uploaded = self.client, self.is_uploaded
        left = Left(self.execution_id, "rgrid", "logs -f", is_uploaded, self.is_over, client.cancel)
        return interrupted(self.console, left)


def download_all(
    client: Client, execution_id: str, folder: Path, console: Console, wanted: list[Artifact] | None = None
) -> list[Path]:
    """All outputs of an execution into a folder; says what came."""
    found = list(client.artifacts(execution_id, "output")) if wanted is None else wanted
    artifacts = [artifact for artifact in found if not artifact.expired]
    saved = []
    with Bar(console, "fetching", sum(artifact.size_bytes for artifact in artifacts)) as bar:
        for artifact in artifacts:
            saved.append((client.download(artifact, folder, bar.advance), artifact))
    for path, artifact in saved:
        console.note(console.paint(f"saved {path} ({size(artifact.size_bytes)})", "dim", sys.stderr))
    return [path for path, _ in saved]


def explain(execution: Execution, console: Console, *, with_stderr: bool) -> None:
    """What went wrong, if anything did, and what to type next."""
    if execution.status == "completed" or console.json:
        return
    reason = f" ({execution.failure_reason})" if execution.failure_reason not in (None, execution.status) else ""
    code = f", exit code {execution.exit_code}" if execution.exit_code is not None else ""
    ran = f" after {duration(execution.duration_ms)}" if execution.duration_ms is not None else ""
    status = console.paint(execution.status, "red", sys.stderr)
    console.note(f"{execution.execution_id} {status}{reason}{code}{ran}")
    # That the script ended with its exit code was said just now.
    if execution.execution_error and execution.failure_reason != "exit_code":
        console.note(f"  {plain(execution.execution_error)}")
    if execution.hint:
        console.note(f"  Hint: {plain(execution.hint)}")
    if with_stderr and execution.stderr:
        for line in execution.stderr.splitlines()[-STDERR_LINES_MAX:]:
            console.note(f"  | {plain(line)}")
    console.note(f"  Next: rgrid status {execution.execution_id}")


def exit_code(execution: Execution) -> int:
    """The script's own code where there is one."""
    if execution.status == "completed":
        return 0
    if execution.status == "timed_out":
        return TIMED_OUT
    return execution.exit_code if execution.status == "failed" and execution.exit_code else 1


def _submission(args: argparse.Namespace, script: Path, text: str, mapped: Mapped) -> Submission:
    return Submission(
        script_content=text,
        name=args.name or script.name,
        runtime=args.runtime,
        args=mapped.args,
        env_vars=_environment(args),
        secret_env=dict(args.secret),
        timeout_seconds=args.timeout,
        cpu=args.cpu,
        memory_mb=args.memory,
        network=args.network,
        requirements_content=_requirements(args, script),
        user_metadata=dict(args.metadata) or None,
        retry_on=args.retry_on,
        queue_timeout_seconds=args.queue_timeout,
        priority=args.priority,
    )


def _requirements(args: argparse.Namespace, script: Path) -> str | None:
    """What the script needs beside Python: from the file that was named, else from the one that lies beside it. What
    the script says of itself the service reads."""
    given: Path | None = args.requirements
    path = given.expanduser() if given else script.parent / "requirements.txt"
    if given is None and (args.no_requirements or script.suffix != ".py" or not path.is_file()):
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Usage(f"{path} can't be read: {error.strerror}.") from None
    if len(content) > REQUIREMENTS_BYTES_MAX:
        raise Usage(f"{path} is larger than {REQUIREMENTS_BYTES_MAX} bytes.", "rgrid run --no-requirements …")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Usage(f"{path} is not UTF-8 text.") from None


def _environment(args: argparse.Namespace) -> dict[str, str]:
    """Files first, then the single ones, so that the nearer one wins."""
    found: dict[str, str] = {}
    for path in args.env_file:
        for number, raw in enumerate(path.read_text().splitlines(), 1):
            line = raw.strip().removeprefix("export ").strip()
            if not line or line.startswith("#"):
                continue
            name, equals, value = line.partition("=")
            if not equals or not name.strip():
                raise Usage(f"{path}, line {number}: this is not NAME=VALUE.")
            value = value.strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
            found[name.strip()] = value[1:-1] if quoted else value
    for given in args.env:
        name, equals, value = given.partition("=")
        if equals:
            found[name] = value
        elif name in (own := settings.inherited(name)):
            found[name] = own[name]
        else:
            raise Usage(
                f"--env {name} takes your variable {name}, and you have none.", f"rgrid run --env {name}=VALUE …"
            )
    return found


def _dry_run(client: Client, submission: Submission, mapped: Mapped, console: Console) -> int:
    body: dict[str, Any] = msgspec.to_builtins(submission)
    body["env_vars"] = dict.fromkeys(submission.env_vars, "***")
    files = {name: path.stat().st_size for name, path in mapped.files.items()}
    body["input_files"] = [{"name": name, "size_bytes": count} for name, count in files.items()]
    if console.json:
        console.document({"api_url": client.url, "request": body})
        return 0
    console.facts(
        [
            ("Service", client.url),
            ("Script", submission.name),
            ("Runtime", submission.runtime),
            ("Arguments", " ".join(submission.args)),
            ("Inputs", ", ".join(f"{name} ({size(count)})" for name, count in files.items())),
            ("Variables", ", ".join([*submission.env_vars, *submission.secret_env])),
            ("Packages", ", ".join((submission.requirements_content or "").split("\n")).strip(", ") or None),
        ]
    )
    console.note("Nothing was sent.")
    return 0
