"""How far a batch is and how long it may still take, by the rule."""

import pytest

from rgrid.api.batch_views import eta_seconds, percent_complete

NOBODY = dict.fromkeys(("awaiting_inputs", "queued", "running", "completed", "failed", "cancelled", "timed_out"), 0)


def row(timed: int = 0, timed_ms: int = 0, **counts: int) -> dict[str, int]:
    return {**NOBODY, **counts, "total": sum(counts.values()), "timed": timed, "timed_ms": timed_ms}


@pytest.mark.parametrize(
    ("batch", "percent", "eta"),
    [
        (row(queued=3), 0.0, None),
        (row(queued=2, running=1), 0.0, None),
        (row(timed=1, timed_ms=4_000, queued=1, running=1, completed=1), 33.3, 8),
        (row(timed=2, timed_ms=6_000, queued=2, running=2, completed=1, failed=1), 33.3, 6),
        (row(timed=3, timed_ms=10_000, queued=4, completed=2, timed_out=1), 42.9, 14),
        (row(timed=1, timed_ms=1, running=1, completed=1), 50.0, 1),
        (row(queued=1, cancelled=2), 66.7, None),
        (row(timed=2, timed_ms=9_000, completed=2), 100.0, 0),
        (row(cancelled=3), 100.0, 0),
    ],
)
def test_the_rest_takes_as_long_as_the_ended_ones_did(batch: dict[str, int], percent: float, eta: int | None) -> None:
    assert (percent_complete(batch), eta_seconds(batch)) == (percent, eta)
