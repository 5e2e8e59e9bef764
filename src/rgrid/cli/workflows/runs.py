"""What one does with runs: begin, list, follow, stop and repeat them."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from rgrid.cli.connection import connect
from rgrid.cli.leaving import INTERRUPTED
from rgrid.cli.lists import fetch
from rgrid.cli.output import Console, Usage, duration, moment, plain
from rgrid.cli.workflows.drawing import draw
from rgrid.cli.workflows.parameters import pairs, values
from rgrid.cli.workflows.watching import exit_code, watch
from rgrid.client.grid import Client
from rgrid.client.workflow_answers import Bulk, PlannedStep, RetryPlan, Run, RunRow, Triggered
from rgrid.client.workflows import RUNS_PAGE_MAX, run_path
from rgrid.kernel.converting import convert
from rgrid.kernel.money import display

RUN_PREFIX: Final = "run_"
VALUE_WIDTH: Final = 200


def trigger(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        workflow = client.workflows.get(args.workflow_name, args.version)
        triggered = client.workflows.trigger(
            args.workflow_name,
            values(client, console, args, workflow.parameters),
            partition_key=pairs(args.partition) or None,
            idempotency_key=args.idempotency_key,
            dry_run=args.dry_run,
            version=args.version,
        )
        return started(client, console, args, triggered)


def started(client: Client, console: Console, args: argparse.Namespace, triggered: Triggered) -> int:
    """What follows when a run began: wait for it, or say how to."""
    if not args.wait and not args.watch:
        if console.json:
            console.document(triggered)
            return 0
        if triggered.plan is not None:
            _show_steps(console, triggered.plan)
            console.note("Nothing runs; it is kept as " + triggered.run_id)
            return 0
        console.line(triggered.run_id)
        console.note(f"  Next: rgrid workflows watch {triggered.run_id}")
        return 0
    if args.watch:
        return _followed(client, console, triggered.run_id)
    try:
        run = client.workflows.wait(triggered.run_id)
    except KeyboardInterrupt:
        return _left(console, triggered.run_id)
    if console.json:
        console.document(client.document("GET", run_path(run.run_id)))
    else:
        console.line(f"{run.run_id} {run.status}")
    _explain(console, run)
    return exit_code(run)


def watch_run(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        return _followed(client, console, args.run_id)


def _followed(client: Client, console: Console, run_id: str) -> int:
    try:
        run = watch(client, console, run_id)
    except KeyboardInterrupt:
        return _left(console, run_id)
    if not console.json:
        console.line(f"{run.run_id} {run.status}")
    _explain(console, run)
    return exit_code(run)


def _left(console: Console, run_id: str) -> int:
    following = f"rgrid workflows watch {run_id} (follow it again) or rgrid workflows cancel {run_id}"
    # Programs have had their documents: one more would be none of them.
    print(file=sys.stderr)
    console.note(f"rgrid: You left; {run_id} goes on.\n  Next: {following}")
    return INTERRUPTED


def _explain(console: Console, run: Run) -> None:
    """What failed, and what to type next."""
    if run.status == "COMPLETED":
        return
    for step in run.last_tries():
        if step.status == "FAILED":
            where = f" (rgrid logs {step.execution_id})" if step.execution_id else ""
            console.note(f"  {plain(step.step_name)}: {plain(step.error or 'failed')}{where}"[:VALUE_WIDTH])
    if run.status != "CANCELLED" and run.error and not any(step.status == "FAILED" for step in run.steps):
        console.note(f"  {plain(run.error)}"[:VALUE_WIDTH])
    console.note(f"  Next: rgrid workflows retry {run.run_id}")


def list_runs(args: argparse.Namespace, console: Console) -> int:
    filters: dict[str, object] = {
        "workflow_name": args.workflow_name,
        "status": args.status,
        "trigger": args.trigger,
        "domain": args.domain,
        "parent_run_id": args.run_id,
        "since": args.since,
        "until": args.until,
    }
    with connect(args, console) as client:
        found = fetch(client, "/workflows/runs", filters, None if args.all else args.limit, RUNS_PAGE_MAX)
    if console.json:
        console.document(found.document())
        return 0
    if not found.rows:
        is_filtered = any(value is not None for value in filters.values())
        console.note("Nothing matches." if is_filtered else "No runs yet.\n  Next: rgrid workflows trigger NAME")
        return 0
    console.table(
        ("ID", "STATUS", "WORKFLOW", "STEPS", "CREATED", "DURATION", "CAUSE"),
        [
            (
                row.run_id,
                row.status,
                f"{row.workflow_name} v{row.workflow_version}",
                f"{row.ended_steps}/{row.total_steps}",
                moment(row.created_at),
                duration(row.duration_ms),
                row.trigger,
            )
            for row in convert(found.rows, list[RunRow])
        ],
    )
    if len(found.rows) < found.total:
        console.note(f"{len(found.rows)} of {found.total}; more with --limit N or --all")
    return 0


def show_run(args: argparse.Namespace, console: Console, client: Client) -> int:
    document = client.document("GET", run_path(args.workflow_or_run))
    if console.json:
        console.document(document)
        return 0
    run = convert(document, Run)
    console.facts(_facts(run))
    console.line()
    draw(console, client.workflows.graph(run.run_id), run)
    if not run.is_over:
        console.note(f"\n  Next: rgrid workflows watch {run.run_id}")
    elif run.status != "COMPLETED":
        console.note(f"\n  Next: rgrid workflows retry {run.run_id} --plan")
    return 0


def _facts(run: Run) -> list[tuple[str, str | None]]:
    retried = f"{run.retry_of}, from {run.from_step}" if run.retry_of and run.from_step else run.retry_of
    return [
        ("Id", run.run_id),
        ("Workflow", f"{run.workflow_name} v{run.workflow_version}"),
        ("Status", run.status),
        (
            "Steps",
            f"{run.ended_steps} of {run.total_steps}" + (f", {run.failed_steps} failed" * bool(run.failed_steps)),
        ),
        ("Error", run.error),
        ("Parameters", _short(run.params)),
        ("Partition", _short(run.partition_key)),
        ("Cause", run.trigger + (f", {run.triggered_by}" if run.triggered_by else "")),
        ("Retry of", retried),
        ("Parent", run.parent_run_id),
        ("Schedule", run.schedule_id),
        ("Paused", f"{moment(run.paused_at)} {run.pause_note or ''}" if run.paused_at else None),
        ("Dry run", "yes" if run.dry_run else None),
        ("Created", moment(run.created_at)),
        ("Started", moment(run.started_at) if run.started_at else None),
        ("Ended", moment(run.completed_at) if run.completed_at else None),
        ("Duration", duration(run.duration_ms) if run.duration_ms is not None else None),
    ]


def _short(value: dict[str, Any] | None) -> str | None:
    if not value:
        return None
    text = ", ".join(
        f"{name}={each if isinstance(each, str) else msgspec.json.encode(each).decode()}"
        for name, each in value.items()
    )
    return text if len(text) <= VALUE_WIDTH else f"{text[: VALUE_WIDTH - 1]}…"


def logs(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        for line in client.workflows.logs(args.run_id, args.step):
            if console.json:
                console.json_line(line)
                continue
            stream = sys.stderr if line.stream == "stderr" else sys.stdout
            before = "" if args.step else f"{console.paint(plain(line.step_name), 'dim', stream)}  "
            stream.write(f"{before}{line.message}\n")
    return 0


def cancel(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        if args.run_id is None:
            bulk = client.workflows.cancel_many(dry_run=args.dry_run, **many(args))
            return _told(console, bulk, "are being stopped", "would be stopped")
        action = client.workflows.cancel(args.run_id, args.reason, force=args.force)
    if console.json:
        console.document(action)
    else:
        console.line(f"{args.run_id} {'cancelled' if action.status == 'cancelled' else 'is being stopped'}")
    return 0


def retry(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        if args.run_id is None:
            if args.from_step or args.plan or args.wait or args.watch:
                raise Usage("--from, --plan, --wait and --watch need a run.", "rgrid workflows retry --help")
            bulk = client.workflows.retry_many(dry_run=args.dry_run, **many(args))
            return _told(console, bulk, "run again", "would run again")
        if args.plan or args.dry_run:
            return _show_plan(console, client.workflows.plan(args.run_id, args.from_step))
        return started(client, console, args, client.workflows.retry(args.run_id, args.from_step))


def many(args: argparse.Namespace) -> dict[str, object]:
    """Which runs are meant where none is named."""
    filters = {
        "workflow_name": args.workflow_name,
        "status": args.status,
        "domain": args.domain,
        "since": args.since,
        "until": args.until,
    }
    if not any(filters.values()):
        raise Usage("Name a run, or say which ones are meant: --workflow, --status, --domain, --since, --until.")
    return filters


def _told(console: Console, bulk: Bulk, done: str, would: str) -> int:
    """What came of an action on many runs."""
    if console.json:
        console.document(bulk)
        return 0
    for run in bulk.runs:
        console.line(f"{run.run_id}  {plain(run.error or run.new_run_id or run.status)}")
    if bulk.dry_run:
        console.note(f"{bulk.matched} {would}. Nothing was done.")
    else:
        console.note(f"{bulk.done} {done}{f', {bulk.refused} refused' if bulk.refused else ''}")
    return 0


def _show_plan(console: Console, plan: RetryPlan) -> int:
    if console.json:
        console.document(plan)
        return 0
    _show_steps(console, plan.steps)
    took = f", in about {duration(plan.expected_ms)}" if plan.expected_ms is not None else ""
    cost = f" for about {display(plan.expected_cost_micros)}" if plan.expected_cost_micros is not None else ""
    count = sum(step.action == "run" for step in plan.steps)
    again = f"rgrid workflows retry {plan.run_id} --from {plan.from_step}"
    console.note(
        f"{count} of {len(plan.steps)} steps would run again{took}{cost}. Nothing was started.\n  Next: {again}"
    )
    return 0


def _show_steps(console: Console, steps: Sequence[PlannedStep]) -> None:
    console.table(
        ("STEP", "TYPE", "WHAT", "EXPECTED", "COST"),
        [
            (
                step.step_name,
                step.step_type,
                "runs" if step.action == "run" else "keeps its output",
                duration(step.expected_ms) if step.action == "run" else "-",
                display(step.expected_cost_micros) if step.expected_cost_micros is not None else "-",
            )
            for step in steps
        ],
    )


def pause(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        action = client.workflows.pause(args.run_id, args.note)
    if console.json:
        console.document(action)
    else:
        console.line(f"{args.run_id} paused")
        console.note(f"  Next: rgrid workflows resume {args.run_id}")
    return 0


def resume(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        action = client.workflows.resume(args.run_id)
    if console.json:
        console.document(action)
    else:
        console.line(f"{args.run_id} goes on")
    return 0


def signal(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        action = client.workflows.signal(args.run_id, args.signal, pairs(args.payload))
    if console.json:
        console.document(action)
    else:
        console.line(f"{args.run_id} was told {args.signal}")
    return 0
