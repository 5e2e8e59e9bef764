"""What executions and cache entries let go of, and when they never do."""

from datetime import timedelta

import pytest
from executions.test_execution import FILE, SHA, claim, submit
from given import NOW, Given, given

from rgrid.executions import input_cache
from rgrid.executions.commands import (
    ArchiveLogs,
    CacheInputs,
    CancelExecution,
    CompleteInputs,
    ExpireCachedInputs,
    ExpireLogs,
    ExpireObjects,
    FinishAttempt,
)
from rgrid.executions.events import (
    CachedInputsExpired,
    DeclaredInput,
    Excerpt,
    ExecutionQueued,
    ExecutionSubmitted,
    InputsCached,
    InputsVerified,
    LogBlock,
    LogsArchived,
    LogsExpired,
    ObjectsExpired,
    StoredArtifact,
    StoredFile,
)
from rgrid.executions.execution import DECIDER

OTHER = StoredFile(name="b.csv", size_bytes=3, sha256="1" * 64)
INPUTS = [DeclaredInput(name="a.csv"), DeclaredInput(name="b.csv")]
MADE = StoredArtifact(artifact_id="art_1", filename="o", size_bytes=3, sha256="2" * 64, content_type="text/plain")
ENDED = FinishAttempt(fencing_token=1, end="completed", exit_code=0, duration_ms=1, artifacts=[MADE])


def queued() -> Given:
    return given(DECIDER).when(submit(inputs=INPUTS, verified=[FILE, OTHER])).after


def ended() -> Given:
    return queued().when(claim()).after.when(ENDED).after


def test_inputs_that_are_all_known_queue_it_at_once() -> None:
    given(DECIDER).when(submit(inputs=INPUTS, verified=[FILE, OTHER])).then(
        ExecutionSubmitted, InputsVerified, ExecutionQueued
    )


def test_with_some_inputs_known_it_waits_for_the_others_and_holds_both_then() -> None:
    waiting = given(DECIDER).when(submit(inputs=INPUTS, verified=[FILE])).then(ExecutionSubmitted, InputsVerified)
    assert waiting.state.status == "awaiting_inputs"
    waiting.when(claim()).then_refused("awaiting_inputs")
    ready = waiting.when(CompleteInputs(files=[OTHER])).then(InputsVerified, ExecutionQueued)
    assert ready.state.inputs == (FILE, OTHER)


def test_what_has_ended_lets_go_of_its_files_once() -> None:
    gone = (
        ended()
        .when(ExpireObjects(ended_before=NOW))
        .then(ObjectsExpired(released=[SHA, "1" * 64, "2" * 64], expired_at=NOW))
    )
    gone.when(ExpireObjects(ended_before=NOW)).then_nothing()


def test_what_ended_later_keeps_its_files_and_lines() -> None:
    before = NOW - timedelta(microseconds=1)
    ended().when(ExpireObjects(ended_before=before)).then_nothing()
    ended().when(ExpireLogs(ended_before=before)).then_nothing()


@pytest.mark.parametrize("past", [queued(), queued().when(claim()).after, given(DECIDER)])
def test_what_has_not_ended_never_lets_go(past: Given) -> None:
    forever = NOW + timedelta(days=36_500)
    past.when(ExpireObjects(ended_before=forever)).then_nothing()
    past.when(ExpireLogs(ended_before=forever)).then_nothing()


def test_without_files_there_is_nothing_to_let_go_of() -> None:
    bare = given(DECIDER).when(submit()).after.when(CancelExecution(requested_by="key:1")).after
    bare.when(ExpireObjects(ended_before=NOW)).then_nothing()


def test_lines_go_once_and_leave_their_excerpts() -> None:
    stdout = Excerpt(sha256=SHA, size_bytes=5, truncated=True)
    gone = ended().when(ExpireLogs(ended_before=NOW, stdout=stdout)).then(LogsExpired(stdout=stdout, expired_at=NOW))
    gone.when(ExpireLogs(ended_before=NOW)).then_nothing()


def block(first: int, last: int) -> LogBlock:
    return LogBlock(
        sha256=f"{first:064x}", size_bytes=9, attempt=1, first=first, last=last, stdout_lines=last - first,
        stderr_lines=1, stdout_bytes=5, stderr_bytes=5,
    )  # fmt: skip


def moves(after: int, *blocks: LogBlock, is_whole: bool = False) -> ArchiveLogs:
    return ArchiveLogs(ended_before=NOW, after=after, blocks=list(blocks), is_whole=is_whole)


def test_a_long_log_moves_step_by_step_and_each_step_once() -> None:
    first, second = moves(-1, block(0, 3), block(4, 9)), moves(9, block(10, 12), is_whole=True)
    begun = ended().when(first).then(LogsArchived(lines=10, blocks=first.blocks, is_whole=False, archived_at=NOW))
    begun.when(first).then_nothing()
    whole = begun.when(second).then(LogsArchived(lines=3, blocks=second.blocks, is_whole=True, archived_at=NOW))
    for late in (first, second, moves(12, block(13, 13))):
        whole.when(late).then_nothing()
    released = [one.sha256 for one in (*first.blocks, *second.blocks)]
    gone = whole.when(ExpireLogs(ended_before=NOW)).then(LogsExpired(released=released, expired_at=NOW))
    gone.when(moves(12, block(13, 13))).then_nothing()


def test_a_log_without_lines_is_archived_whole_and_holds_nothing() -> None:
    nothing = ended().when(moves(-1)).then_nothing()
    whole = nothing.when(moves(-1, is_whole=True)).then(LogsArchived)
    whole.when(moves(-1, is_whole=True)).then_nothing()
    whole.when(ExpireLogs(ended_before=NOW)).then(LogsExpired(expired_at=NOW))


def test_lines_of_what_has_not_ended_by_then_stay_where_they_are() -> None:
    for past in (queued(), queued().when(claim()).after, given(DECIDER)):
        past.when(moves(-1, block(0, 3)), NOW + timedelta(days=9)).then_nothing()
    later = queued().when(claim()).after.when(ENDED, NOW + timedelta(seconds=1)).after
    later.when(moves(-1, block(0, 3))).then_nothing()


def test_a_set_is_cached_once_and_nothing_extends_it() -> None:
    until = NOW + timedelta(days=30)
    cached = given(input_cache.DECIDER).when(CacheInputs(files=[FILE, OTHER], keep_days=30))
    entry = cached.then(InputsCached(files=[FILE, OTHER], cached_at=NOW, expires_at=until))
    entry.when(CacheInputs(files=[FILE, OTHER], keep_days=90), NOW + timedelta(days=29)).then_nothing()
    entry.when(ExpireCachedInputs(), until - timedelta(microseconds=1)).then_nothing()
    gone = entry.when(ExpireCachedInputs(), until).then(CachedInputsExpired(released=[SHA, "1" * 64], expired_at=until))
    gone.when(ExpireCachedInputs(), until).then_nothing()
    entry.when(CacheInputs(files=[FILE], keep_days=1), until).then(CachedInputsExpired, InputsCached)
    gone.when(CacheInputs(files=[FILE], keep_days=1), until).then(InputsCached)
