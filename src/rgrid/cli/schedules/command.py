"""`rgrid schedules`: what can be typed."""

import argparse
from pathlib import Path
from typing import Final

from rgrid.cli import arguments
from rgrid.cli.schedules import acting, creating, looking
from rgrid.cli.workflows.parameters import add_parameters

LIST_LIMIT: Final = 20
OVERLAPS: Final = ("SKIP", "BUFFER_ONE", "QUEUE", "CANCEL_OTHER", "TERMINATE_OTHER", "ALLOW")
MISFIRES: Final = ("SKIP", "FIRE_ONCE", "CATCH_UP")
TARGETS: Final = ("EXECUTION", "WORKFLOW", "SOURCE")
RUN_STATES: Final = ("PENDING", "RUNNING", "COMPLETED", "PARTIAL", "FAILED", "SKIPPED", "MISSED", "CANCELLED")
TRIGGERS: Final = ("SCHEDULE", "MANUAL", "BACKFILL")
EPILOG: Final = """\
A schedule is found by its name or its id (sched_…). Cron is that of Debian: Sunday is 0 or 7, a restricted day of the
month or of the week is enough. Times without an offset on the command line are meant in UTC.

Examples:
  rgrid schedules preview --cron '0 6 * * 1' --timezone America/New_York
  rgrid schedules create weekly --cron '0 6 * * 1' --timezone America/New_York --workflow weekly_refresh
  rgrid schedules create nightly --cron '30 2 * * *' --script tidy.py --overlap QUEUE
  rgrid schedules backfill weekly --from 2026-01-01 --to 2026-02-01 --dry-run
  rgrid schedules run-now weekly --param region=EU --watch"""


class _Adder:
    """Adds the commands of the group, all in one form."""

    def __init__(self, parser: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(title="commands", metavar="COMMAND")
        self._formatter = parser.formatter_class
        self._shared = shared

    def __call__(self, name: str, says: str, *, takes: str | None = "schedule") -> argparse.ArgumentParser:
        made = self._commands.add_parser(
            name,
            help=says,
            description=f"{says[:1].upper()}{says[1:]}.",
            parents=[self._shared],
            allow_abbrev=False,
            formatter_class=self._formatter,
        )
        if takes == "schedule":
            made.add_argument("schedule_name", metavar="NAME")
        made.set_defaults(handler=HANDLERS[name])
        return made


def add_schedules(parser: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    command = _Adder(parser, shared)
    _add_create(command("create", "start a workflow or a script at its times", takes=None))
    _add_looking(command)
    _add_acting(command)
    parser.epilog = EPILOG


def _add_create(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", metavar="NAME", help="what it is called")
    add_timing(parser, is_required=True)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--workflow", metavar="NAME", dest="workflow_name", help="the workflow that it starts")
    target.add_argument("--script", metavar="FILE", type=Path, help="the script that it runs")
    target.add_argument("--source", metavar="NAME", help="the source that it fetches")
    add_parameters(parser)
    add("--arg", metavar="WORD", action="append", default=[], help="with --script: an argument of the script")
    add("--runtime", metavar="NAME", help="with --script: such as python:3.12; else its first line or ending decides")
    add("--overlap", choices=OVERLAPS, metavar="POLICY", help=f"when one still runs: {', '.join(OVERLAPS)}")
    add("--max-instances", metavar="N", type=arguments.count, help="how many may run at a time, 1 if not given")
    add("--misfire", choices=MISFIRES, metavar="POLICY", help=f"when a time was missed: {', '.join(MISFIRES)}")
    add("--grace", metavar="TIME", type=arguments.seconds, help="when it counts as missed, 60s if not given")
    add("--catch-up", metavar="N", type=arguments.count, help="with CATCH_UP: how many at most, 10 if not given")
    add("--jitter", metavar="TIME", type=arguments.seconds, help="put each start off by up to so much")
    add("--pause-after", metavar="N", type=arguments.count, help="so many failures in a row disable it")
    add("--disabled", action="store_true", help="let nothing be due until it is enabled")
    add("--description", metavar="TEXT", help="what it is for")
    add("--tag", metavar="TEXT", action="append", help="to find it by")


def add_timing(parser: argparse.ArgumentParser, *, is_required: bool) -> None:
    """When something is due: one of three forms."""
    form = parser.add_mutually_exclusive_group(required=is_required)
    form.add_argument("--cron", metavar="EXPRESSION", help="such as '0 6 * * 1', Mondays at six, or @daily")
    form.add_argument("--every", metavar="TIME", type=arguments.seconds, help="such as 90, 5m, 1h or 7d")
    form.add_argument("--at", metavar="TIME", help="once, such as 2026-01-31T18:00:00Z")
    add = parser.add_argument
    add("--timezone", metavar="ZONE", help="such as America/New_York; UTC if not given")
    add("--dst-gap", choices=("SHIFT", "SKIP"), metavar="RULE", help="a local time that doesn't exist: SHIFT, SKIP")
    add("--dst-fold", choices=("FIRST", "LAST", "BOTH"), metavar="RULE", help="one that comes twice: FIRST, LAST, BOTH")
    add("--start", metavar="TIME", help="nothing is due before")
    add("--end", metavar="TIME", help="nothing is due after")
    add(
        "--exclude",
        metavar="DATES",
        action="append",
        default=[],
        help="local dates: 2026-12-24 or 2026-12-24..2027-01-01",
    )


def _add_looking(command: _Adder) -> None:
    listed = command("list", "list schedules, newest first", takes=None)
    one = listed.add_mutually_exclusive_group()
    one.add_argument("--enabled", action="store_const", const=True, dest="is_enabled", help="only those")
    one.add_argument("--disabled", action="store_const", const=False, dest="is_enabled", help="only those")
    listed.add_argument("--target", choices=TARGETS, metavar="TYPE", help=", ".join(TARGETS))
    listed.add_argument("--workflow", metavar="NAME", dest="workflow_name", help="those that start this workflow")
    listed.add_argument("--tag", metavar="TEXT", help="those with this tag")
    command("show", "show a schedule and its next times")
    preview = command("preview", "show when a schedule, or what is not saved yet, is due next", takes=None)
    preview.add_argument("schedule_name", metavar="NAME", nargs="?", help="all that are enabled if not given")
    add_timing(preview, is_required=False)
    preview.add_argument("--count", metavar="N", type=arguments.count, default=5, help="how many times, 5 if not given")
    preview.add_argument("--after", metavar="TIME", help="with --cron, --every, --at: those after it; else from now")
    done = command("runs", "list what was decided about due times, newest first", takes=None)
    done.add_argument("schedule_name", metavar="NAME", nargs="?", help="of all schedules if not given")
    done.add_argument("--status", choices=RUN_STATES, metavar="STATUS", help=", ".join(RUN_STATES))
    done.add_argument("--trigger", choices=TRIGGERS, metavar="CAUSE", help=f"{', '.join(TRIGGERS)}; of one schedule")
    done.add_argument("--since", metavar="TIME", help="due at or after, such as 2026-01-31")
    done.add_argument("--until", metavar="TIME", help="due before")
    for each in (listed, done):
        each.add_argument("--limit", metavar="N", type=arguments.count, default=LIST_LIMIT, help="20 if not given")
        each.add_argument("--all", action="store_true", help="every one that matches")


def _add_acting(command: _Adder) -> None:
    command("enable", "let due times count again, from now on")
    disabled = command("disable", "let nothing be due")
    disabled.add_argument("--note", metavar="TEXT", help="why")
    now = command("run-now", "start its target at once")
    add_parameters(now)
    waiting = now.add_mutually_exclusive_group()
    waiting.add_argument("--wait", action="store_true", help="of a workflow: until it is over")
    waiting.add_argument("--watch", action="store_true", help="the same, and show how far it is")
    filled = command("backfill", "run the due times of the past")
    filled.add_argument("--from", metavar="TIME", dest="start", required=True, help="the first moment")
    filled.add_argument("--to", metavar="TIME", dest="end", required=True, help="the moment after the last")
    filled.add_argument("--parallel", metavar="N", type=arguments.count, default=1, help="at a time, 1 if not given")
    filled.add_argument("--force", action="store_true", help="also what completed already")
    filled.add_argument("--dry-run", action="store_true", help="say which times, start nothing")
    deleted = command("delete", "take schedules away; what they did stays", takes=None)
    deleted.add_argument("schedule_names", metavar="NAME", nargs="+")


HANDLERS: Final = {
    "create": creating.create,
    "list": looking.list_schedules,
    "show": looking.show,
    "preview": looking.preview,
    "runs": looking.list_runs,
    "enable": acting.enable,
    "disable": acting.disable,
    "run-now": acting.run_now,
    "backfill": acting.backfill,
    "delete": acting.delete,
}
