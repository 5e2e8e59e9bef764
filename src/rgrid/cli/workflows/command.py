"""`rgrid workflows`: what can be typed."""

import argparse
from pathlib import Path
from typing import Final

from rgrid.cli import arguments
from rgrid.cli.workflows import definitions, runs
from rgrid.cli.workflows.parameters import add_parameters

RUN_STATES: Final = ("PENDING", "RUNNING", "CANCELLING", "COMPLETED", "PARTIAL", "FAILED", "CANCELLED")
TRIGGERS: Final = ("SCHEDULE", "MANUAL", "API", "DEPENDENCY", "RETRY")
LIST_LIMIT: Final = 20
EPILOG: Final = """\
A name, or the id of a run (run_…), says what is meant. With --wait and --watch the exit code is the run's:
0 COMPLETED, 2 PARTIAL, 1 FAILED or CANCELLED, and 130 when you left with Ctrl-C, which lets it go on.

Examples:
  rgrid workflows apply weekly_refresh.yaml
  rgrid workflows trigger weekly_refresh --param week_ending=2026-01-09 --watch
  rgrid workflows runs weekly_refresh --status FAILED
  rgrid workflows graph run_01JB2Z4M7K8P9Q0R1S2T3V4W5X
  rgrid workflows retry run_01JB2Z4M7K8P9Q0R1S2T3V4W5X --from load --plan"""


class _Adder:
    """Adds the commands of the group, all in one form."""

    def __init__(self, parser: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(title="commands", metavar="COMMAND")
        self._formatter = parser.formatter_class
        self._shared = shared

    def __call__(self, name: str, says: str, *places: str) -> argparse.ArgumentParser:
        made = self._commands.add_parser(
            name,
            help=says,
            description=f"{says[:1].upper()}{says[1:]}.",
            parents=[self._shared],
            allow_abbrev=False,
            formatter_class=self._formatter,
        )
        for place in places:
            made.add_argument(place, metavar=METAVARS[place])
        made.set_defaults(handler=HANDLERS[name])
        return made


def add_workflows(parser: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    command = _Adder(parser, shared)
    _add_definitions(command)
    _add_runs(command)
    parser.epilog = EPILOG


def _add_definitions(command: _Adder) -> None:
    for name, says in (
        ("apply", "make each document the newest version of its workflow"),
        ("validate", "say everything that is wrong with documents, keep nothing"),
    ):
        files = command(name, says)
        files.add_argument("files", metavar="FILE", nargs="+", type=Path, help="YAML or JSON")
    command("delete", "take workflows away; their runs stay").add_argument("names", metavar="NAME", nargs="+")
    listed = command("list", "list workflows by name")
    listed.add_argument("--domain", metavar="TEXT", help="those of one domain")
    listed.add_argument("--tag", metavar="TEXT", help="those with this tag")
    listed.add_argument("--inactive", action="store_true", help="those that can't be triggered")
    listed.add_argument("--limit", metavar="N", type=arguments.count, default=LIST_LIMIT, help="20 if not given")
    listed.add_argument("--all", action="store_true", help="every one that matches")
    shown = command("show", "show a workflow, or a run with its steps", "workflow_or_run")
    shown.add_argument("--version", metavar="N", type=arguments.count, help="an older version of a workflow")
    shown.add_argument("--document", action="store_true", help="print the document as it can be applied again")
    graph = command("graph", "draw what depends on what", "workflow_or_run")
    form = graph.add_mutually_exclusive_group()
    form.add_argument("--dot", action="store_true", help="in the language of Graphviz")
    form.add_argument("--mermaid", action="store_true", help="in the language of Mermaid")
    graph.add_argument("--version", metavar="N", type=arguments.count, help="an older version of a workflow")


def _add_runs(command: _Adder) -> None:
    trigger = command("trigger", "begin a run", "workflow_name")
    add_parameters(trigger)
    trigger.add_argument(
        "--partition",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        type=arguments.pair,
        help="what it is about: one run at a time for each",
    )
    trigger.add_argument("--idempotency-key", metavar="TEXT", help="triggered again with it, it is the same run")
    trigger.add_argument("--version", metavar="N", type=arguments.count, help="an older version")
    trigger.add_argument("--dry-run", action="store_true", help="plan it, start nothing")
    _add_waiting(trigger)
    listed = command("runs", "list runs, newest first")
    listed.add_argument("workflow_name", metavar="NAME", nargs="?", help="those of one workflow")
    listed.add_argument("--status", choices=RUN_STATES, metavar="STATUS", help=", ".join(RUN_STATES))
    listed.add_argument("--trigger", choices=TRIGGERS, metavar="CAUSE", help=", ".join(TRIGGERS))
    listed.add_argument("--domain", metavar="TEXT", help="those of one domain")
    listed.add_argument("--parent", metavar="ID", dest="run_id", help="those that a run started")
    listed.add_argument("--since", metavar="TIME", help="made at or after, such as 2026-01-31")
    listed.add_argument("--until", metavar="TIME", help="made before")
    listed.add_argument("--limit", metavar="N", type=arguments.count, default=LIST_LIMIT, help="20 if not given")
    listed.add_argument("--all", action="store_true", help="every one that matches")
    command("watch", "follow a run to its end", "run_id")
    logs = command("logs", "print what the scripts of a run wrote", "run_id")
    logs.add_argument("--step", metavar="STEP", help="of one step")
    cancelled = command("cancel", "stop a run, or every one that is meant")
    cancelled.add_argument("--reason", metavar="TEXT", help="kept with the run")
    cancelled.add_argument("--force", action="store_true", help="give what runs no time to end by itself")
    _add_many(cancelled)
    retried = command("retry", "run it again from a step on, with the outputs of those before")
    retried.add_argument("--from", metavar="STEP", dest="from_step", help="the first that failed if not given")
    retried.add_argument("--plan", action="store_true", help="say what would run again, start nothing")
    _add_many(retried)
    _add_waiting(retried)
    paused = command("pause", "let nothing new start in a run", "run_id")
    paused.add_argument("--note", metavar="TEXT", help="why")
    command("resume", "let steps of a run start again", "run_id")
    signalled = command("signal", "tell a run of what one of its steps waits for", "run_id")
    signalled.add_argument("signal", metavar="SIGNAL", help="the name that the step waits for")
    signalled.add_argument(
        "--payload",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=arguments.pair,
        help="goes into the output of the step",
    )


def _add_many(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run_id", metavar="RUN", nargs="?")
    add("--workflow", metavar="NAME", dest="workflow_name", help="instead of one run: all of this workflow")
    add("--status", choices=RUN_STATES, metavar="STATUS", help="all with this status")
    add("--domain", metavar="TEXT", help="all of one domain")
    add("--since", metavar="TIME", help="all made at or after")
    add("--until", metavar="TIME", help="all made before")
    add("--dry-run", action="store_true", help="say which ones, do nothing")


def _add_waiting(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--wait", action="store_true", help="until it is over; the exit code is the run's")
    form.add_argument("--watch", action="store_true", help="the same, and show how far it is")


METAVARS: Final = {"run_id": "RUN", "workflow_name": "NAME", "workflow_or_run": "NAME|RUN"}
HANDLERS: Final = {
    "apply": definitions.apply,
    "validate": definitions.validate,
    "delete": definitions.delete,
    "list": definitions.list_workflows,
    "show": definitions.show,
    "graph": definitions.graph,
    "trigger": runs.trigger,
    "runs": runs.list_runs,
    "watch": runs.watch_run,
    "logs": runs.logs,
    "cancel": runs.cancel,
    "retry": runs.retry,
    "pause": runs.pause,
    "resume": runs.resume,
    "signal": runs.signal,
}
