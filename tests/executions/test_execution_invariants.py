"""Whatever commands come in whatever order, and however often: what always holds for an execution."""

from datetime import datetime, timedelta
from typing import Any

from given import NOW
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from test_execution import CANCEL, FILE, claim, failed, finish, lose, submit

from rgrid.eventstore.codec import Codec
from rgrid.executions import cost
from rgrid.executions.commands import CompleteInputs, ExpireInputs, ExpireWait
from rgrid.executions.events import (
    TOPICS,
    AttemptEnded,
    DeclaredInput,
    ExecutionClaimed,
    ExecutionQueued,
    RetryRules,
)
from rgrid.executions.execution import DECIDER, TERMINAL, Execution
from rgrid.kernel.errors import Rejected
from rgrid.kernel.messages import Command, Event

TOKENS = st.integers(0, 5)
DURATIONS = st.integers(0, 10_000_000)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(claim, worker_id=st.sampled_from(["wrk_1", "wrk_2"]), rate_micros=st.integers(0, 50_000)),
    st.builds(claim),
    st.builds(
        finish, token=TOKENS, end=st.sampled_from(["completed", "timed_out", "cancelled"]), duration_ms=DURATIONS
    ),
    st.builds(
        failed,
        reason=st.sampled_from(["exit_code", "out_of_memory", "internal", "runtime_unavailable"]),
        token=TOKENS,
        duration_ms=DURATIONS,
    ),
    st.builds(lose, token=TOKENS, after_s=st.integers(-60, 600)),
    st.just(CANCEL),
    st.just(CompleteInputs(files=[FILE])),
    st.just(ExpireInputs()),
    st.just(ExpireWait()),
)
RULES = RetryRules(reasons=["timeout", "worker_lost"], exit_codes=[1], backoff_s=1, backoff_max_s=9)
SUBMITS = st.builds(
    submit,
    max_retries=st.integers(0, 3),
    cpu=st.sampled_from([0.25, 1.0, 3.0]),
    inputs=st.sampled_from([[], [DeclaredInput(name="a.csv")]]),
    retry=st.sampled_from([None, RULES]),
    queue_timeout_s=st.sampled_from([None, 60]),
)
CODEC = Codec(TOPICS)


def history(first: Command, commands: list[tuple[Command, int]]) -> list[tuple[Execution, Event]]:
    """Every event that followed, with the state before it."""
    state, now = DECIDER.initial, NOW
    past: list[tuple[Execution, Event]] = []
    for command, pause_s in [(first, 0), *commands]:
        now += timedelta(seconds=pause_s)
        for event in decided(command, state, now):
            past.append((state, event))
            state = DECIDER.evolve(state, event)
    return past


def decided(command: Any, state: Execution, now: datetime) -> list[Any]:
    try:
        return list(DECIDER.decide(command, state, now))
    except Rejected as refusal:
        assert refusal.extra["current_status"] == state.status
        return []


@settings(max_examples=400, deadline=None)
@for_all(SUBMITS, st.lists(st.tuples(COMMANDS, st.integers(0, 2_000)), max_size=25))
def test_any_sequence_of_commands_keeps_the_invariants(first: Command, commands: list[tuple[Command, int]]) -> None:
    past = history(first, commands)
    states = [before for before, _ in past] + [DECIDER.evolve(past[-1][0], past[-1][1])]  # type: ignore[arg-type]

    for (before, event), after in zip(past, states[1:], strict=True):
        if before.status in TERMINAL:
            assert (after.status, after.cost_micros) == (before.status, before.cost_micros), event
        assert after.fencing_token >= before.fencing_token
        assert after.settled_token <= after.fencing_token
        assert after.cost_micros >= before.cost_micros

    tokens = [event.fencing_token for _, event in past if isinstance(event, ExecutionClaimed)]
    assert tokens == list(range(1, len(tokens) + 1)), "tokens grow by one with each claim"

    ends = [(before.fencing_token, event) for before, event in past if isinstance(event, AttemptEnded)]
    settled = [token for token, _ in ends]
    assert len(settled) == len(set(settled)), "one accepted result for each token"

    prices = {e.fencing_token: e.hourly_micros for _, e in past if isinstance(e, ExecutionClaimed)}
    assert all(end.cost_micros == cost.attempt_micros(end.duration_ms, prices[token]) for token, end in ends)
    assert states[-1].cost_micros == sum(end.cost_micros for _, end in ends)
    finals = [event for _, event in past if hasattr(event, "finalized_cost_micros")]
    assert len(finals) == (states[-1].status in TERMINAL)
    assert all(final.finalized_cost_micros == states[-1].cost_micros for final in finals)

    queues = [event for _, event in past if isinstance(event, ExecutionQueued)]
    assert len(queues) <= first.max_retries + 1  # type: ignore[attr-defined]
    assert [event.attempt for event in queues] == list(range(1, len(queues) + 1))


@settings(max_examples=100, deadline=None)
@for_all(SUBMITS, st.lists(st.tuples(COMMANDS, st.integers(0, 2_000)), max_size=25))
def test_the_log_gives_every_event_back_as_it_was(first: Command, commands: list[tuple[Command, int]]) -> None:
    for _, event in history(first, commands):
        assert CODEC.decode(CODEC.topic(event), CODEC.encode(event)) == event


@settings(max_examples=200, deadline=None)
@for_all(SUBMITS, st.lists(st.tuples(COMMANDS, st.integers(0, 2_000)), max_size=25), COMMANDS)
def test_a_command_that_comes_twice_has_no_second_effect(
    first: Command, commands: list[tuple[Command, int]], last: Command
) -> None:
    past = history(first, commands)
    before = DECIDER.fold(DECIDER.initial, [event for _, event in past])  # type: ignore[misc]
    now = NOW + timedelta(days=1)
    once = DECIDER.fold(before, decided(last, before, now))
    twice = DECIDER.fold(once, decided(last, once, now))
    assert twice == once
