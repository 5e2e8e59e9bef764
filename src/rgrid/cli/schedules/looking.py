"""What there is, what it did, and when it is due next."""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime

from rgrid.cli.connection import connect
from rgrid.cli.lists import fetch
from rgrid.cli.output import Console, Usage, duration, moment
from rgrid.cli.schedules.finding import find, instant
from rgrid.client.schedules import Timing
from rgrid.client.workflow_answers import Due, Exclusion, Schedule, ScheduleRun
from rgrid.kernel.converting import convert
from rgrid.kernel.money import display

DUE_SHOWN = 5


def list_schedules(args: argparse.Namespace, console: Console) -> int:
    filters: dict[str, object] = {
        "enabled": args.is_enabled,
        "target_type": "WORKFLOW" if args.workflow_name else args.target,
        "target_name": args.workflow_name,
        "tag": args.tag,
    }
    with connect(args, console) as client:
        found = fetch(client, "/schedules", filters, None if args.all else args.limit)
    if console.json:
        console.document(found.document())
        return 0
    if not found.rows:
        is_filtered = any(value is not None for value in filters.values())
        console.note("Nothing matches." if is_filtered else "No schedules yet.\n  Next: rgrid schedules create --help")
        return 0
    console.table(
        ("NAME", "ENABLED", "WHEN DUE", "STARTS", "NEXT", "LAST", "FAILED"),
        [
            (
                row.name,
                "yes" if row.enabled else "no",
                timing_told(row),
                row.target_name,
                moment(row.next_run_at),
                row.last_run_status or "-",
                f"{row.failure_count}/{row.run_count}",
            )
            for row in convert(found.rows, list[Schedule])
        ],
    )
    if len(found.rows) < found.total:
        console.note(f"{len(found.rows)} of {found.total}; more with --limit N or --all")
    return 0


def show(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        schedule = find(client, args.schedule_name)
        if console.json:
            console.document(client.document("GET", f"/schedules/{schedule.id}"))
            return 0
        due = client.schedules.next_runs(schedule.id, DUE_SHOWN) if schedule.enabled else []
    console.facts(_facts(schedule))
    if due:
        console.line()
        show_due(console, due)
    return 0


def _facts(schedule: Schedule) -> list[tuple[str, str | None]]:
    counted = f"{schedule.run_count}, {schedule.failure_count} failed" if schedule.run_count else None
    row = f", {schedule.consecutive_failures} in a row" if schedule.consecutive_failures > 1 else ""
    overlap = f"{schedule.overlap_policy}, at most {schedule.max_instances} at a time"
    missed = f"{schedule.misfire_policy}, after {schedule.misfire_grace_seconds} s"
    return [
        ("Id", schedule.id),
        ("Name", schedule.name),
        ("Enabled", "yes" if schedule.enabled else "no"),
        ("When due", timing_told(schedule)),
        ("Starts", f"{schedule.target_type} {schedule.target_name}"),
        ("Overlap", overlap),
        ("Missed", missed),
        ("Clocks", f"gap {schedule.dst_gap}, fold {schedule.dst_fold}" if schedule.cron_expression else None),
        ("Jitter", f"up to {schedule.jitter_seconds} s" if schedule.jitter_seconds else None),
        ("From", moment(schedule.start_at) if schedule.start_at else None),
        ("Until", moment(schedule.end_at) if schedule.end_at else None),
        ("Not on", ", ".join(_dates(each) for each in schedule.exclusions)),
        (
            "Pauses",
            f"after {schedule.pause_after_failures} failures in a row" if schedule.pause_after_failures else None,
        ),
        ("Note", schedule.note),
        ("Last", f"{schedule.last_run_status or ''} {moment(schedule.last_run_at)}" if schedule.last_run_at else None),
        ("Runs", f"{counted}{row}" if counted else None),
        ("Description", schedule.description),
        ("Tags", ", ".join(schedule.tags)),
    ]


def _dates(exclusion: Exclusion) -> str:
    span = exclusion.first if exclusion.first == exclusion.last else f"{exclusion.first}..{exclusion.last}"
    return f"{span} ({exclusion.reason})" if exclusion.reason else span


def timing_told(schedule: Schedule) -> str:
    """`0 6 * * 1 America/New_York`, `every 5 min 00 s`."""
    if schedule.cron_expression:
        return f"{schedule.cron_expression} {schedule.timezone}"
    if schedule.interval_seconds:
        return f"every {duration(schedule.interval_seconds * 1000)}"
    return f"at {moment(schedule.run_at)}"


def preview(args: argparse.Namespace, console: Console) -> int:
    is_unsaved = bool(args.cron or args.every or args.at)
    if is_unsaved and args.schedule_name:
        raise Usage("Name a schedule, or say when with --cron, --every or --at.", "rgrid schedules preview --help")
    if not is_unsaved and (args.after or timing_of(args) != Timing()):
        raise Usage("The zone and the dates go with --cron, --every and --at.", "rgrid schedules preview --help")
    with connect(args, console) as client:
        if is_unsaved:
            due = client.schedules.preview(timing_of(args), args.count, instant(args.after) if args.after else None)
        else:
            schedule_id = find(client, args.schedule_name).id if args.schedule_name else None
            due = client.schedules.next_runs(schedule_id, args.count)
    if console.json:
        console.document({"data": due, "pagination": {"total": len(due), "shown": len(due)}})
    elif due:
        show_due(console, due, is_of_all=not is_unsaved and not args.schedule_name)
    else:
        console.note("Nothing is due.")
    return 0


def timing_of(args: argparse.Namespace) -> Timing:
    """What the options of `add_timing` say."""
    ranges = [text.partition("..") for text in args.exclude]
    return Timing(
        cron_expression=args.cron,
        interval_seconds=args.every,
        run_at=instant(args.at) if args.at else None,
        timezone=args.timezone,
        dst_gap=args.dst_gap,
        dst_fold=args.dst_fold,
        start_at=instant(args.start) if args.start else None,
        end_at=instant(args.end) if args.end else None,
        exclusions=[Exclusion(first=first, last=last or first) for first, _, last in ranges],
    )


def show_due(console: Console, due: Sequence[Due], *, is_note: bool = False, is_of_all: bool = False) -> None:
    """Each time as a clock there shows it, in UTC, and what a change of the clock did to it."""
    if is_note:
        for each in due:
            console.note(f"  due {_local(each)} ({_utc(each.next_run_at)}){f', {dst_told(each)}' if each.dst else ''}")
        return
    columns: list[tuple[str, list[str]]] = [
        ("LOCAL TIME", [_local(each) for each in due]),
        ("UTC", [_utc(each.next_run_at) for each in due]),
        ("CLOCK CHANGE", [dst_told(each) for each in due]),
        ("SCHEDULE", [each.schedule_name or "" for each in due] if is_of_all else []),
        ("COST", [_cost(each) for each in due]),
        ("ZONE", [each.timezone for each in due]),
    ]
    kept = [(header, cells) for header, cells in columns if any(cells)]
    console.table([header for header, _ in kept], zip(*(cells for _, cells in kept), strict=True))


def _cost(due: Due) -> str:
    return "" if due.expected_cost_micros is None else f"about {display(due.expected_cost_micros)}"


def dst_told(due: Due) -> str:
    """What a change of the clock did to this time."""
    return {"gap": "clock skips it", "fold": "comes twice"}.get(due.dst or "", due.dst or "")


def _local(due: Due) -> str:
    """`Mon 2026-03-09 06:00:00 -04:00`."""
    there = datetime.fromisoformat(due.local_time)
    offset = there.strftime("%z")
    return f"{there:%a %Y-%m-%d %H:%M:%S} {offset[:3]}:{offset[3:5]}"


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def list_runs(args: argparse.Namespace, console: Console) -> int:
    filters: dict[str, object] = {
        "status": args.status,
        "trigger": args.trigger,
        "since": args.since,
        "until": args.until,
    }
    if args.trigger and not args.schedule_name:
        raise Usage("--trigger needs the name of a schedule.", "rgrid schedules runs --help")
    with connect(args, console) as client:
        path = f"/schedules/{find(client, args.schedule_name).id}/runs" if args.schedule_name else "/schedules/runs"
        found = fetch(client, path, filters, None if args.all else args.limit)
    if console.json:
        console.document(found.document())
        return 0
    if not found.rows:
        console.note("Nothing matches." if any(filters.values()) else "Nothing was due yet.")
        return 0
    rows = convert(found.rows, list[ScheduleRun])
    console.table(
        ("DUE", "STATUS", "STARTED", "TOOK", "ID", "SCHEDULE", "CAUSE", "WHY"),
        [
            (
                moment(row.scheduled_at),
                row.status,
                moment(row.started_at),
                "-" if row.duration_seconds is None else duration(round(row.duration_seconds * 1000)),
                row.target_id or "-",
                row.schedule_name,
                row.trigger,
                row.error or row.skip_reason or "",
            )
            for row in rows
        ],
    )
    if len(found.rows) < found.total:
        console.note(f"{len(found.rows)} of {found.total}; more with --limit N or --all")
    return 0
