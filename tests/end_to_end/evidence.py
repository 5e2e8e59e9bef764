"""What must hold of a whole installation after any fault, read from its log, its tables and its API."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from end_to_end.grid import Service, query, until

from projections.all import ALL
from rgrid import catalogue
from rgrid.client.answers import TERMINAL
from rgrid.eventstore.store import Store
from rgrid.executions.events import (
    AttemptEnded,
    ExecutionCancelled,
    ExecutionClaimed,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionSubmitted,
    ExecutionTimedOut,
    StaleResultRefused,
)
from rgrid.executions.execution import DECIDER
from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.pool import open_pool

ENDS = (ExecutionCompleted, ExecutionFailed, ExecutionTimedOut, ExecutionCancelled)
Line = tuple[int, int, str, str]
"""Sequence number, attempt, stream, message."""


@dataclass
class Evidence:
    """One look at the database. `streams` holds each execution's events in order, `lines` its log."""

    events: list[AnyRecorded] = field(default_factory=list)
    streams: dict[str, list[AnyRecorded]] = field(default_factory=dict)
    lines: dict[str, list[Line]] = field(default_factory=dict)
    leases: list[str] = field(default_factory=list)
    checkpoints: dict[str, int] = field(default_factory=dict)
    parked: list[str] = field(default_factory=list)

    def of(self, execution_id: str, *kinds: type) -> list[AnyRecorded]:
        return [one for one in self.streams.get(execution_id, []) if isinstance(one.event, kinds)]

    def state(self, execution_id: str) -> str:
        return DECIDER.fold(DECIDER.initial, [one.event for one in self.streams[execution_id]]).status

    def told(self, execution_id: str) -> str:
        """The story of one execution, for messages."""
        return " > ".join(
            f"{one.topic.removeprefix('execution.').removesuffix('.v1')}"
            f"{'' if not isinstance(one.event, AttemptEnded) else f'({one.event.status} {one.event.error})'}"
            for one in self.streams[execution_id]
        )


def gather(dsn: str) -> Evidence:
    return asyncio.run(_gather(dsn))


async def _gather(dsn: str) -> Evidence:
    pool = await open_pool(dsn, name="evidence", connections_max=1)
    try:
        store, found = Store(pool, catalogue.codec()), Evidence()
        while page := await store.read_log(found.events[-1].position if found.events else 0):
            found.events += page
        streams: dict[str, list[AnyRecorded]] = defaultdict(list)
        for one in found.events:
            if one.stream_id.startswith("execution-"):
                streams[one.entity_id].append(one)
        found.streams = dict(streams)
        lines: dict[str, list[Line]] = defaultdict(list)
        for row in await pool.fetch("select * from rgrid.execution_logs order by execution_id, sequence_number"):
            stream = "stdout" if row["fd"] == 1 else "stderr"
            lines[row["execution_id"]].append((row["sequence_number"], row["attempt"], stream, row["message"]))
        found.lines = dict(lines)
        found.leases = [row["execution_id"] for row in await pool.fetch("select execution_id from rgrid.leases")]
        ready = await pool.fetch("select subscriber, position from rgrid.checkpoints where ready")
        found.checkpoints = {row["subscriber"]: row["position"] for row in ready}
        parked = await pool.fetch("select subscriber, position, error from rgrid.dead_letters")
        found.parked = [str(dict(row)) for row in parked]
        return found
    finally:
        await pool.close()


def wait_for_ends(service: Service, max_s: float) -> None:
    """Until no execution is on its way any more."""

    def open_ones() -> list[str]:
        rows = query(service.dsn, "select execution_id, status from executions where not status = any($1)",
                     list(TERMINAL))  # fmt: skip
        return [f"{row['execution_id']} {row['status']}" for row in rows]

    until("every execution is over", lambda: not open_ones(), max_s, every_s=0.2, says=lambda: str(open_ones()))


def check_log(found: Evidence) -> None:
    """The log itself: no position and no version is missing or there twice."""
    assert found.events, "the log is empty"
    positions = [one.position for one in found.events]
    assert positions == list(range(1, len(positions) + 1)), "positions have a hole or a double"
    versions: Counter[str] = Counter()
    for one in found.events:
        versions[one.stream_id] += 1
        assert one.version == versions[one.stream_id], f"{one.stream_id} has a hole before version {one.version}"


def check_attempts(found: Evidence) -> None:
    """No execution has two accepted results, and none ends twice or goes on after its end."""
    for execution_id, stream in found.streams.items():
        story = f"{execution_id}: {found.told(execution_id)}"
        claims = [one.event.fencing_token for one in found.of(execution_id, ExecutionClaimed)]
        assert claims == list(range(1, len(claims) + 1)), f"fencing tokens don't grow by one: {story}"
        ended = Counter(one.event.attempt for one in found.of(execution_id, AttemptEnded))
        assert all(count == 1 for count in ended.values()), f"two ends of one attempt: {story}"
        assert set(ended) <= set(claims), f"an end of an attempt that nobody claimed: {story}"
        accepted = [one for one in found.of(execution_id, AttemptEnded) if one.event.status == "completed"]
        assert len(accepted) <= 1, f"two accepted results: {story}"
        ends = [one.version for one in found.of(execution_id, *ENDS)]
        assert len(ends) == 1, f"{len(ends)} ends: {story}"
        later = [one for one in stream if one.version > ends[0]]
        assert all(isinstance(one.event, StaleResultRefused) for one in later), f"it goes on after its end: {story}"
        assert len(ended) == len(claims), f"an attempt without an end: {story}"
    assert not found.leases, f"leases without an attempt: {found.leases}"


def check_lines(found: Evidence) -> None:
    """Sequence numbers have no hole and no double, and never go back to an earlier attempt."""
    for execution_id, lines in found.lines.items():
        numbers = [number for number, *_ in lines]
        assert numbers == list(range(len(numbers))), f"{execution_id}: holes or doubles in {numbers}"
        attempts = [attempt for _, attempt, *_ in lines]
        assert attempts == sorted(attempts), f"{execution_id}: an old attempt wrote after a new one: {attempts}"


def check_counting(found: Evidence, execution_id: str, expected: Iterable[str]) -> None:
    """Each attempt's lines are the beginning of what the script prints, and the last attempt's are all of it."""
    wanted = list(expected)
    by_attempt: dict[int, list[str]] = defaultdict(list)
    for _, attempt, stream, message in found.lines.get(execution_id, []):
        if stream == "stdout":
            by_attempt[attempt].append(message)
    story = f"{execution_id}: {found.told(execution_id)}: {dict(by_attempt)}"
    for said in by_attempt.values():
        assert said == wanted[: len(said)], f"lines got lost or came twice: {story}"
    last = found.of(execution_id, ExecutionClaimed)[-1].event.attempt
    assert by_attempt.get(last) == wanted, f"the last attempt's lines are not whole: {story}"


def check_subscribers(dsn: str) -> None:
    """Every subscriber has come to the end of the log and parked nothing."""
    behind: dict[str, int] = {}

    def all_there() -> bool:
        found = gather(dsn)
        assert not found.parked, f"dead letters: {found.parked}"
        behind.clear()
        # Inline projections are written with their events and need no place in the log.
        asked = [projection.name for projection in ALL if not projection.inline]
        head = found.events[-1].position
        behind.update({name: head - found.checkpoints.get(name, 0) for name in asked})
        return not any(behind.values())

    until("every subscriber is at the head of the log", all_there, 10, every_s=0.2, says=lambda: str(behind))


def check_lists(service: Service, found: Evidence) -> None:
    """What the API lists is what the log says: each execution once, with its status, and an exact total."""
    client = service.client(patient=True)
    told = {execution_id: found.state(execution_id) for execution_id in found.streams}
    listed = [(row.execution_id, row.status) for row in client.executions()]
    assert len(listed) == len(dict(listed)), "an execution is listed twice"
    assert dict(listed) == told
    total = client.document("GET", "/executions", query={"limit": 1})["pagination"]["total"]
    assert total == len(told)
    for status, count in Counter(told.values()).items():
        page = client.document("GET", "/executions", query={"limit": 1, "status": status})
        assert page["pagination"]["total"] == count, f"the total of {status} is wrong"


def submissions(found: Evidence) -> dict[str, list[str]]:
    """Executions by the name they were submitted with."""
    named: dict[str, list[str]] = defaultdict(list)
    for execution_id in found.streams:
        for one in found.of(execution_id, ExecutionSubmitted):
            named[one.event.name or ""].append(execution_id)
    return dict(named)


def check_everything(service: Service, wait_max_s: float) -> Evidence:
    """All of the above, once nothing is on its way any more."""
    wait_for_ends(service, wait_max_s)
    check_subscribers(service.dsn)
    found = gather(service.dsn)
    check_log(found)
    check_attempts(found)
    check_lines(found)
    check_lists(service, found)
    return found
