"""The entry point: finds the command, imports only what that command needs, and turns failures into one message."""

import argparse
import difflib
import gc
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from importlib import import_module
from itertools import groupby
from typing import Final, NamedTuple, NoReturn

import msgspec

from rgrid import settings
from rgrid.cli.arguments import script_split
from rgrid.cli.output import Console, Failure, Usage, hush
from rgrid.client.problems import GridError, Refused
from rgrid.kernel.errors import RgridError

INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141
HELP_WIDTH: Final = 112
COLLECT_EVERY: Final = 50_000
"""New objects between two collections: what a command imports stays, and looking through it again and again while it
grows takes a quarter of the start of a service."""


class Command(NamedTuple):
    """`module` has a function `add_<name>` that puts the arguments and the handler on a parser. What talks to no
    service has no use for an address and a key."""

    module: str
    says: str
    talks: bool = True


GROUPS: Final[dict[str, dict[str, Command]]] = {
    "Start": {
        "up": Command("up", "start the service on this machine and keep it running", talks=False),
        "demo": Command("demo.command", "see it work: real data, real scripts, nothing left behind", talks=False),
        "login": Command("login", "save the address and the key of a service"),
        "init": Command("login", "the same as login"),
        "profiles": Command("profiles", "list, choose and forget saved services", talks=False),
    },
    "Run scripts": {
        "run": Command("run", "run a script on the grid as if it ran here"),
        "status": Command("executions", "show one execution"),
        "logs": Command("logs", "print or follow what a script wrote"),
        "list": Command("executions", "list executions, newest first"),
        "download": Command("executions", "fetch the files that a script made"),
        "cancel": Command("executions", "stop executions"),
        "retry": Command("executions", "run the same script with the same inputs once more"),
        "batch": Command("batch", "list, watch, download, cancel and retry batches"),
        "events": Command("executions", "show every recorded step of an execution"),
    },
    "Describe what runs when": {
        "workflows": Command("workflows.command", "apply, trigger, watch, retry and draw workflows"),
        "schedules": Command("schedules.command", "create, preview, pause and backfill schedules"),
    },
    "Look around": {
        "whoami": Command("login", "show which service and which key is in use"),
        "health": Command("overview", "show how the service is"),
        "workers": Command("overview", "list the workers"),
        "runtimes": Command("overview", "list the languages and versions that scripts may use"),
        "cost": Command("cost", "show what was spent, and set what may be"),
        "estimate": Command("cost", "say what running a script would take and cost"),
        "keys": Command("keys", "create, list, rotate and revoke API keys"),
        "version": Command("overview", "show the version"),
        "completion": Command("completion", "print what makes bash, zsh or fish complete commands", talks=False),
    },
    "Operate": {
        "worker": Command("up", "run scripts for a service that runs already", talks=False),
        "scheduler": Command("up", "let schedules fire for a service that runs already", talks=False),
        "purge": Command("up", "remove what has been kept long enough, also while no service runs", talks=False),
        "doctor": Command("doctor", "check what works on this machine", talks=False),
        "openapi": Command("up", "print the description of the HTTP interface", talks=False),
    },
}
COMMANDS: Final = {name: command for group in GROUPS.values() for name, command in group.items()}
# Whoever knows a group under its singular or plural name finds it, but `worker` is a command of its own.
ALIASES: Final = {
    "key": "keys",
    "runtime": "runtimes",
    "event": "events",
    "log": "logs",
    "profile": "profiles",
    "execution": "list",
    "executions": "list",
    "batches": "batch",
    "workflow": "workflows",
    "schedule": "schedules",
}
# What may stand before the command, and whether a value follows.
GLOBAL_OPTIONS: Final = {"--json": False, "--profile": True, "--api-url": True, "--api-key": True}
EXAMPLES: Final = """\
Examples:
  rgrid demo                              see everything work in under a minute
  rgrid up                                start a service here
  rgrid run analyse.py data.csv --top 10  run it there, get output and files
  rgrid run --batch 'data/*.csv' s.py     run it once for every file
  rgrid logs -f exec_01JB2Z4M7K8P9Q0R1S   follow a script that is running
  rgrid list --status failed --json       for programs

Every command has --help and --json."""
# Where the first word of what is missing says in which list to look.
LISTS: Final = {
    "Workflow run": "rgrid workflows runs",
    "Workflow": "rgrid workflows list",
    "Schedule": "rgrid schedules list",
    "Batch": "rgrid batch list",
}
NEXT: Final = {
    "credentials_missing": "rgrid login",
    "credentials_malformed": "rgrid login",
    "credentials_invalid": "rgrid login",
    "scope_missing": "rgrid whoami",
    "not_found": "rgrid list",
    "invalid_params": "rgrid workflows show NAME",
    "workflow_inactive": "rgrid workflows list --inactive",
    "partition_active": "rgrid workflows runs --status RUNNING",
    "unknown_target": "rgrid workflows list",
    "bad_cron": "rgrid schedules preview --cron EXPRESSION",
    "bad_timezone": "rgrid schedules preview --cron EXPRESSION --timezone ZONE",
    "unknown_runtime": "rgrid runtimes",
    "illegal_transition": "rgrid status ID",
    "spending_limit_exceeded": "rgrid cost show-limit",
    "unreachable": "rgrid up (a service on this machine) or rgrid login (another one)",
    "internal": "rgrid health",
    "unavailable": "rgrid health",
    "bad_setting": "rgrid doctor",
    "no_postgres": "rgrid doctor",
    "data_dir_in_use": "rgrid whoami (it runs already), or rgrid up --data-dir OTHER --port 0",
}


class _Help(argparse.RawDescriptionHelpFormatter):
    """One line for each option where the terminal is wide enough."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=shutil.get_terminal_size((HELP_WIDTH, 24)).columns - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Running text is set anew where the lines are too long; examples stay as they are."""
        if max(map(len, text.splitlines()), default=0) <= width:
            return super()._fill_text(text, width, indent)
        filled: list[str] = []
        for is_running, group in groupby(text.splitlines(), lambda line: bool(line) and not line.startswith(" ")):
            lines = list(group)
            filled += textwrap.wrap(" ".join(lines), width) if is_running else lines
        return "\n".join(filled)


class Parser(argparse.ArgumentParser):
    """argparse with our tone: one message, and the way to the help."""

    def error(self, message: str) -> NoReturn:
        raise Usage(f"{message[:1].upper()}{message[1:]}.", f"{self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the result is the exit code."""
    gc.set_threshold(COLLECT_EVERY, *gc.get_threshold()[1:])
    words = list(sys.argv[1:] if argv is None else argv)
    console = Console(has_colours=not settings.inherited("NO_COLOR").get("NO_COLOR"))
    try:
        code = _dispatch(words, console)
        sys.stdout.flush()
        return code
    except Failure as failure:
        console.fail(str(failure), failure.details, following=failure.following, name=failure.name)
        return failure.code
    except Refused as error:
        details = [f"{field.field}: {field.message}" for field in error.problem.errors]
        following = _next(error.code, str(error))
        console.fail(str(error), details, request_id=error.request_id, following=following, name=error.code)
        return 1
    except (GridError, RgridError) as error:
        console.fail(str(error), following=_next(error.code, str(error)), name=error.code)
        return 1
    except msgspec.ValidationError as error:
        console.fail(f"The service answered what this version does not understand: {error}.", following="rgrid health")
        return 1
    except KeyboardInterrupt:
        console.fail("Interrupted.", name="interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        hush()
        return PIPE_CLOSED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        console.fail(f"{where}{error.strerror or error}.", name="os")
        return 1


def _dispatch(words: list[str], console: Console) -> int:
    before, name, after = _split(words)
    if name == "help":
        return _help(after)
    # What follows the script belongs to the script, also what looks like an option of ours.
    own, passed = _own_and_passed(name, after)
    console.json = "--json" in before + own
    parser = make_parser(name)
    args = parser.parse_args(before + own)
    args.passed = passed
    handler = getattr(args, "handler", None)
    if handler is None:
        parser.print_help()
        return 2
    return int(handler(args, console))


def _own_and_passed(name: str, after: list[str]) -> tuple[list[str], list[str]]:
    """What a command reads itself, and what it hands on as it is."""
    if name == "run":
        return script_split(after)
    if name == "completion" and after[:1] == ["words"]:
        return after[:1], after[1:]
    return after, []


def _split(words: list[str]) -> tuple[list[str], str, list[str]]:
    """Global options, the command, and all that follows it."""
    before: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        if word in ("-h", "--help"):
            return [], "help", []
        if word == "--version":
            return before, "version", []
        if not word.startswith("-"):
            return before, _command(word), words[position + 1 :]
        taken = 2 if GLOBAL_OPTIONS.get(word) else 1
        if taken == 1 and word.partition("=")[0] not in GLOBAL_OPTIONS:
            raise Usage(f"There is no option {word} before the command.", "rgrid --help")
        before += words[position : position + taken]
        position += taken
    return [], "help", []


def _command(word: str) -> str:
    name = ALIASES.get(word, word)
    if name not in COMMANDS and name != "help":
        near = difflib.get_close_matches(word, COMMANDS, n=1, cutoff=0.7)
        raise Usage(f"There is no command {word}.", f"rgrid {near[0]} --help" if near else "rgrid --help")
    return name


def make_parser(name: str) -> Parser:
    """Everything that one command understands."""
    command = COMMANDS[name]
    shared = argparse.ArgumentParser(add_help=False)
    group = shared.add_argument_group("everywhere")
    group.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document")
    if command.talks:
        for option, metavar, says in (
            ("--profile", "NAME", "the saved service to talk to"),
            ("--api-url", "URL", "the service to talk to (RGRID_API_URL)"),
            ("--api-key", "KEY", "the key to send (RGRID_API_KEY)"),
        ):
            group.add_argument(option, metavar=metavar, default=argparse.SUPPRESS, help=says)
    parser = Parser(
        prog=f"rgrid {name}",
        description=f"{command.says[:1].upper()}{command.says[1:]}.",
        formatter_class=_Help,
        parents=[shared],
        allow_abbrev=False,
    )
    module = import_module(f"rgrid.cli.{command.module}")
    getattr(module, f"add_{name}")(parser, shared)
    return parser


def _help(words: list[str]) -> int:
    if words and words[0] != "help":
        make_parser(_command(words[0])).print_help()
        return 0
    print("rgrid runs scripts on your machines as if they ran here,\nand remembers everything that happened.\n")
    print("Usage: rgrid COMMAND [OPTIONS]\n")
    width = max(map(len, COMMANDS))
    for title, commands in GROUPS.items():
        print(f"{title}:")
        for name, command in commands.items():
            print(f"  {name:<{width}}  {command.says}")
        print()
    print(EXAMPLES)
    return 0


def _next(code: str, message: str) -> str | None:
    following = NEXT.get(code)
    if code == "not_found":
        return next((said for kind, said in LISTS.items() if message.startswith(kind)), following)
    named = re.search(r"(exec|run)_[0-9A-Z]+", message)
    if following is None or named is None:
        return following
    return following.replace("status ID", "workflows show ID" if named[1] == "run" else "status ID").replace(
        "ID", named[0]
    )
