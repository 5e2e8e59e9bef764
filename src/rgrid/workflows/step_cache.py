"""Outputs that may be used again: which try of which run began with the same inputs not long ago."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import asyncpg
import msgspec

from rgrid.eventstore.append import Rider
from rgrid.eventstore.handle import Handler
from rgrid.workflows.document import Outline
from rgrid.workflows.run import DECIDER as RUN

LOOKED_AT_MAX: Final = 10
PURGED_MAX: Final = 10_000


class Inputs(msgspec.Struct, frozen=True):
    """What a step begins with, as a hash, and how long its output may be used for equal ones."""

    sha256: bytes
    seconds: int


def inputs_of(outline: Outline, params: Mapping[str, Any]) -> Inputs | None:
    """None for a step without a cache. What the step is called and in which workflow it stands makes no difference."""
    if outline.cache_seconds is None:
        return None
    data = msgspec.json.encode([outline.type, outline.target_name, params], order="deterministic")
    return Inputs(hashlib.sha256(data).digest(), outline.cache_seconds)


async def output(pool: asyncpg.Pool, handler: Handler, inputs: Inputs) -> dict[str, Any] | None:
    """The output of the newest try with these inputs that completed, None when there is none."""
    rows = await pool.fetch(
        "select run_id, step, attempt from rgrid.step_inputs where inputs_sha256 = $1"
        " and begun_at > clock_timestamp() - make_interval(secs => $2) order by begun_at desc limit $3",
        inputs.sha256,
        inputs.seconds,
        LOOKED_AT_MAX,
    )
    for row in rows:
        run, _ = await handler.load(RUN, row["run_id"])
        step = run.steps.get(row["step"])
        if step is not None and step.status == "COMPLETED" and step.attempt == row["attempt"]:
            return dict(step.outputs or {})
    return None


def remember(inputs: Inputs, run_id: str, step: str, attempt: int) -> Rider:
    """Commits with the start of the try."""
    return Rider(
        "insert into rgrid.step_inputs (inputs_sha256, run_id, step, attempt, expires_at)"
        " values ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5)) on conflict do nothing",
        (inputs.sha256, run_id, step, attempt, inputs.seconds),
        takes_position=False,
    )


async def purge(pool: asyncpg.Pool) -> None:
    """Forget what may not be used any more."""
    await pool.execute(
        "delete from rgrid.step_inputs where (inputs_sha256, run_id, step, attempt) in (select inputs_sha256, run_id,"
        " step, attempt from rgrid.step_inputs where expires_at < clock_timestamp() order by expires_at limit $1)",
        PURGED_MAX,
    )
