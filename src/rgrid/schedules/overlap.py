"""What happens when a time comes due and earlier runs of the schedule haven't ended. Pure."""

import hashlib
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from rgrid.schedules.active_runs import Runs, holding, waiting
from rgrid.schedules.events import Decision, NotFired, Rules

WAITING_MAX: Final = 100
"""So many due times wait with QUEUE."""


class Admission(NamedTuple):
    """`decision` None: nothing starts, for this `reason`. `cancels` make way: what runs of them is to be stopped, and
    what didn't begin ends at once."""

    decision: Decision | None
    reason: NotFired | None = None
    cancels: tuple[str, ...] = ()


def admit(rules: Rules, runs: Runs, *, catching_up: bool) -> Admission:
    """What becomes of one more due time beside these runs. Those that are caught up on come one after another under
    every policy but ALLOW: they would only get in each other's way."""
    if rules.overlap_policy == "ALLOW":
        return Admission("fired")
    held, queued = holding(runs), waiting(runs)
    if len(held) < rules.max_instances and not queued:
        return Admission("fired")
    if catching_up:
        return Admission("buffered")
    match rules.overlap_policy:
        case "SKIP":
            return Admission(None, "overlap")
        case "BUFFER_ONE":
            return Admission("buffered") if not queued else Admission(None, "overlap")
        case "QUEUE":
            return Admission("buffered") if len(queued) < WAITING_MAX else Admission(None, "queue_full")
        case "CANCEL_OTHER" | "TERMINATE_OTHER":
            return _make_way(rules, runs)


def _make_way(rules: Rules, runs: Runs) -> Admission:
    """The oldest go that aren't going yet, so many that this one has a place as soon as they are gone."""
    # A backfill keeps to its own rules; what it waits with takes no place of the schedule.
    staying = [run for run in runs.values() if not run.stopping and (run.stage != "waiting" or run.backfill_id is None)]
    leaving = staying[: max(0, len(staying) + 1 - rules.max_instances)]
    cancels = tuple(run.schedule_run_id for run in leaving)
    # What runs keeps its place until it has ended.
    taken = [run for run in runs.values() if run in staying[len(leaving) :] or run.stage == "running"]
    return Admission("fired" if len(taken) < rules.max_instances else "buffered", None, cancels)


def jitter(schedule_id: str, due_at: datetime, rules: Rules) -> timedelta:
    """The delay of a start: from 0 to `jitter_s`, the same in every process."""
    if not rules.jitter_s:
        return timedelta(0)
    digest = hashlib.blake2b(f"{schedule_id}\0{due_at.isoformat()}".encode(), digest_size=8).digest()
    return timedelta(milliseconds=int.from_bytes(digest, "big") % (rules.jitter_s * 1000 + 1))
