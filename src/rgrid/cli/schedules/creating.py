"""`rgrid schedules create`: a target, its times, and the rules that hold when they come."""

import argparse
from typing import Any

from rgrid.cli.connection import connect
from rgrid.cli.inputs import read_script, runtime_for
from rgrid.cli.output import Console, Usage
from rgrid.cli.schedules.looking import show_due, timing_of
from rgrid.cli.workflows.parameters import values
from rgrid.client.grid import Client
from rgrid.client.schedules import NewSchedule

DUE_SHOWN = 3


def create(args: argparse.Namespace, console: Console) -> int:
    if not args.script and (args.arg or args.runtime):
        raise Usage("--arg and --runtime go with --script.", "rgrid schedules create --help")
    with connect(args, console) as client:
        kind, target, params = _target(client, console, args)
        timing = timing_of(args)
        made = client.schedules.create(
            NewSchedule(
                args.name,
                kind,
                target,
                cron_expression=timing.cron_expression,
                interval_seconds=timing.interval_seconds,
                run_at=timing.run_at,
                timezone=timing.timezone,
                target_params=params or None,
                enabled=not args.disabled,
                max_instances=args.max_instances,
                overlap_policy=args.overlap,
                misfire_policy=args.misfire,
                misfire_grace_seconds=args.grace,
                catch_up_limit=args.catch_up,
                dst_gap=timing.dst_gap,
                dst_fold=timing.dst_fold,
                jitter_seconds=args.jitter,
                start_at=timing.start_at,
                end_at=timing.end_at,
                description=args.description,
                tags=args.tag,
                exclusions=timing.exclusions,
                pause_after_failures=args.pause_after,
            )
        )
        if console.json:
            console.document(client.document("GET", f"/schedules/{made.id}"))
            return 0
        console.line(made.id)
        if not args.disabled:
            show_due(console, client.schedules.next_runs(made.id, DUE_SHOWN), is_note=True)
    return 0


def _target(client: Client, console: Console, args: argparse.Namespace) -> tuple[str, str, dict[str, Any]]:
    if args.workflow_name:
        declared = client.workflows.get(args.workflow_name).parameters
        return "WORKFLOW", args.workflow_name, values(client, console, args, declared)
    if args.source:
        return "SOURCE", args.source, values(client, console, args, [])
    text = read_script(args.script)
    template = values(client, console, args, [])
    template["script_content"] = text
    if args.runtime or "runtime" not in template:
        template["runtime"] = args.runtime or runtime_for(args.script, text, list(client.runtimes()))
    if args.arg:
        template["args"] = args.arg
    return "EXECUTION", args.script.name, template
