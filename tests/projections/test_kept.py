"""The read models of what is kept: who holds which object, what is due, what may be referred to."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from projected import projected, read_model

from projections import artifacts, input_cache, log_blocks, objects, retention
from rgrid.executions.events import (
    AttemptEnded,
    CachedInputsExpired,
    Excerpt,
    ExecutionCompleted,
    ExecutionSubmitted,
    InputsCached,
    InputsVerified,
    LogBlock,
    LogsArchived,
    LogsExpired,
    ObjectsExpired,
    OutputsStored,
    StoredArtifact,
    StoredFile,
)
from rgrid.kernel.messages import Event

MOMENT = datetime(2026, 1, 5, tzinfo=UTC)
A, B, C = ("a" * 64, "b" * 64, "c" * 64)
INPUT = StoredFile(name="in", size_bytes=5, sha256=A)
OUTPUT = StoredArtifact(artifact_id="art_1", filename="out", size_bytes=7, sha256=B, content_type="text/plain")
VERIFIED = InputsVerified(files=[INPUT], verified_at=MOMENT)
STORED = OutputsStored(attempt=1, artifacts=[OUTPUT], stored_at=MOMENT)
COMPLETED = ExecutionCompleted(finalized_cost_micros=0, completed_at=MOMENT)
LOGS_GONE = LogsExpired(stdout=Excerpt(sha256=C, size_bytes=3, truncated=False), expired_at=MOMENT)
BLOCKS = [
    LogBlock(
        sha256=sha256, size_bytes=4, attempt=1, first=first, last=first + 9, stdout_lines=9, stderr_lines=1,
        stdout_bytes=90, stderr_bytes=10,
    )
    for first, sha256 in ((0, A), (10, B))
]  # fmt: skip


def archived(*blocks: LogBlock, is_whole: bool = True) -> LogsArchived:
    return LogsArchived(lines=10 * len(blocks), blocks=list(blocks), is_whole=is_whole, archived_at=MOMENT)


def submitted(script: str) -> ExecutionSubmitted:
    return ExecutionSubmitted(
        script_sha256=script, script_size_bytes=9, runtime="python:3.11", timeout_s=1, cpu=1, memory_mb=64,
        max_retries=0, root_execution_id="e1", created_by="key:1", submitted_at=MOMENT,
    )  # fmt: skip


def ended(printed: int, status: Any = "completed") -> AttemptEnded:
    return AttemptEnded(
        attempt=1, status=status, started_at=MOMENT, ended_at=MOMENT, duration_ms=1, cost_micros=0,
        stdout_size_bytes=printed,
    )  # fmt: skip


def test_an_object_is_held_until_its_last_holder_lets_go(database: str) -> None:
    given: list[tuple[str, Event]] = [
        ("execution-e1", submitted(C)),
        ("execution-e1", VERIFIED),
        ("execution-e1", STORED),
        ("execution-e2", VERIFIED),
        ("input_cache-h", InputsCached(files=[INPUT], cached_at=MOMENT, expires_at=MOMENT)),
        ("execution-e1", ObjectsExpired(released=[A, B], expired_at=MOMENT)),
    ]
    query = "select left(sha256, 1) as o, holders, is_kept, size_bytes from objects order by 1"
    rows = projected(database, objects.PROJECTION, given, query)
    assert [tuple(row.values()) for row in rows] == [("a", 2, False, 5), ("b", 0, False, 7), ("c", 0, True, 9)]
    given += [
        ("execution-e2", ObjectsExpired(released=[A], expired_at=MOMENT)),
        ("input_cache-h", CachedInputsExpired(released=[A], expired_at=MOMENT)),
        ("execution-e3", submitted(C)),
        ("execution-e3", ObjectsExpired(released=[C], expired_at=MOMENT)),
    ]
    rows = projected(database, objects.PROJECTION, given, "select sha256 from objects where holders > 0 or is_kept")
    assert [row["sha256"] for row in rows] == [C]


def test_excerpts_are_kept_for_good(database: str) -> None:
    rows = projected(database, objects.PROJECTION, [("execution-e1", LOGS_GONE)], "select * from objects")
    assert rows == [{"sha256": C, "size_bytes": 3, "holders": 0, "is_kept": True}]


def test_archived_lines_hold_their_blocks_until_they_expire(database: str) -> None:
    gone = LogsExpired(released=[A, B], expired_at=MOMENT)
    given: list[tuple[str, Event]] = [("execution-e1", archived(*BLOCKS)), ("execution-e2", archived(BLOCKS[0]))]
    given.append(("execution-e1", gone))
    rows = projected(database, objects.PROJECTION, given, "select sha256, holders from objects order by 1")
    assert rows == [{"sha256": A, "holders": 1}, {"sha256": B, "holders": 0}]


def test_the_index_has_the_blocks_of_each_execution_in_order_until_they_expire(database: str) -> None:
    given: list[tuple[str, Event]] = [
        ("execution-e1", archived(BLOCKS[0], is_whole=False)),
        ("execution-e2", archived(*BLOCKS)),
        ("execution-e1", archived(BLOCKS[1])),
        ("execution-e3", archived()),
        ("execution-e2", LogsExpired(released=[A, B], expired_at=MOMENT)),
    ]

    async def run() -> None:
        async with read_model(database, log_blocks.PROJECTION, given) as connection:
            found = [await log_blocks.of(connection, one) for one in ("e1", "e2", "e3")]
            assert found == [BLOCKS, [], []]

    asyncio.run(run())


def test_lines_wait_for_the_archive_until_all_of_them_have_moved(database: str) -> None:
    given: list[tuple[str, Event]] = [
        *((f"execution-{one}", event) for one in ("half", "new", "whole", "gone") for event in (ended(4), COMPLETED)),
        ("execution-half", archived(BLOCKS[0], is_whole=False)),
        ("execution-whole", archived(*BLOCKS)),
        ("execution-gone", LOGS_GONE),
    ]
    query = "select execution_id as e, has_lines as l, has_rows as r from retention order by 1"
    rows = projected(database, retention.PROJECTION, given, query)
    assert [tuple(row.values()) for row in rows] == [
        ("half", True, True),
        ("new", True, True),
        ("whole", True, False),
    ]


def test_only_what_has_files_or_lines_waits_for_its_end_and_leaves_afterwards(database: str) -> None:
    given: list[tuple[str, Event]] = [
        ("execution-bare", ended(0)),
        ("execution-bare", COMPLETED),
        ("execution-lost", ended(0, "lost")),
        ("execution-both", VERIFIED),
        ("execution-both", ended(4)),
        ("execution-both", COMPLETED),
        ("execution-half", STORED),
        ("execution-half", ended(4)),
        ("execution-half", COMPLETED),
        ("execution-half", ObjectsExpired(released=[B], expired_at=MOMENT)),
        ("execution-none", VERIFIED),
        ("execution-none", COMPLETED),
        ("execution-none", ObjectsExpired(released=[A], expired_at=MOMENT)),
    ]
    query = (
        "select execution_id as e, completed_at is not null as over, has_objects as o, has_lines as l"
        " from retention order by 1"
    )
    rows = projected(database, retention.PROJECTION, given, query)
    assert [tuple(row.values()) for row in rows] == [
        ("both", True, True, True),
        ("half", True, False, True),
        ("lost", False, False, True),
    ]


def test_artifacts_of_an_execution_expire_together(database: str) -> None:
    given: list[tuple[str, Event]] = [
        ("execution-e1", VERIFIED),
        ("execution-e1", STORED),
        ("execution-e2", VERIFIED),
        ("execution-e1", ObjectsExpired(released=[A, B], expired_at=MOMENT)),
    ]
    rows = projected(
        database, artifacts.PROJECTION, given, "select execution_id as e, expired, version from artifacts order by 1"
    )
    assert [tuple(row.values()) for row in rows] == [("e1", True, 2), ("e1", True, 2), ("e2", False, 1)]


def test_a_cache_entry_comes_and_goes_whole(database: str) -> None:
    cached = InputsCached(
        files=[INPUT, StoredFile(name="b", size_bytes=1, sha256=B)], cached_at=MOMENT, expires_at=MOMENT
    )
    given: list[tuple[str, Event]] = [
        ("input_cache-h1", cached),
        ("input_cache-h2", cached),
        ("input_cache-h1", CachedInputsExpired(released=[A, B], expired_at=MOMENT)),
    ]
    rows = projected(
        database, input_cache.PROJECTION, given, "select input_hash as h, name from input_cache order by 2"
    )
    assert [tuple(row.values()) for row in rows] == [("h2", "b"), ("h2", "in")]
