"""What one does with schedules that exist: let them count, start them now or for the past, take them away."""

import argparse

import msgspec

from rgrid.cli.connection import connect
from rgrid.cli.output import Console
from rgrid.cli.schedules.finding import find, instant
from rgrid.cli.schedules.looking import show_due
from rgrid.cli.workflows.parameters import values
from rgrid.cli.workflows.runs import RUN_PREFIX, started

DUE_SHOWN = 3
TIMES_SHOWN_MAX = 20


def enable(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        schedule = find(client, args.schedule_name)
        action = client.schedules.enable(schedule.id)
        if console.json:
            console.document(action)
            return 0
        console.line(f"{schedule.name} is enabled")
        show_due(console, client.schedules.next_runs(schedule.id, DUE_SHOWN), is_note=True)
    return 0


def disable(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        schedule = find(client, args.schedule_name)
        action = client.schedules.disable(schedule.id, args.note)
    if console.json:
        console.document(action)
    else:
        console.line(f"{schedule.name} is disabled; what runs goes on")
    return 0


def run_now(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        schedule = find(client, args.schedule_name)
        declared = client.workflows.get(schedule.target_name).parameters if schedule.target_type == "WORKFLOW" else []
        begun = client.schedules.run_now(schedule.id, values(client, console, args, declared))
        if begun.run_id.startswith(RUN_PREFIX):
            return started(client, console, args, begun)
    if console.json:
        console.document(begun)
    else:
        console.line(begun.run_id)
        console.note(f"  Next: rgrid logs -f {begun.run_id}")
    return 0


def backfill(args: argparse.Namespace, console: Console) -> int:
    start, end = instant(args.start), instant(args.end)
    with connect(args, console) as client:
        schedule = find(client, args.schedule_name)
        filled = client.schedules.backfill(
            schedule.id, start, end, max_parallel=args.parallel, force=args.force, dry_run=args.dry_run
        )
    if console.json:
        console.document(filled)
        return 0
    for at in filled.occurrences[:TIMES_SHOWN_MAX]:
        console.line(msgspec.to_builtins(at))
    if len(filled.occurrences) > TIMES_SHOWN_MAX:
        console.note(f"and {len(filled.occurrences) - TIMES_SHOWN_MAX} more")
    left_out = f", {filled.skipped} are done or under way already" if filled.skipped else ""
    if args.dry_run:
        console.note(f"{filled.count} would run{left_out}. Nothing was started.")
    else:
        console.note(f"{filled.count} will run{left_out}.\n  Next: rgrid schedules runs {schedule.name}")
    return 0


def delete(args: argparse.Namespace, console: Console) -> int:
    done = []
    with connect(args, console) as client:
        for named in args.schedule_names:
            done.append(client.schedules.delete(find(client, named).id))
            if not console.json:
                console.line(f"{named} is deleted")
    if console.json:
        console.document(done[0] if len(done) == 1 else {"data": done})
    return 0
