"""What an attempt's end means: from how the box ended to the outcome that the service records."""

import signal
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from rgrid.pool.engines.engine import Ended
from rgrid.pool.hints import Failure, hint_for
from rgrid.pool.protocol import Assignment, AttemptEnd, FailureReason

EXIT_SIGKILL: Final = 128 + signal.SIGKILL
EXIT_SIGXFSZ: Final = 128 + signal.SIGXFSZ


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The part of an outcome that says how it ended."""

    end: AttemptEnd
    exit_code: int | None = None
    failure_reason: FailureReason | None = None
    error: str | None = None
    caused_by_network: bool = False


def hint_of(ended: Ended, assignment: Assignment, stderr: Sequence[str]) -> str | None:
    """Advice for a failure; what the user cancelled needs none."""
    if ended.why == "cancelled" or (ended.why == "exited" and ended.exit_code == 0):
        return None
    failure = Failure(
        why=ended.why,
        stderr=stderr,
        runtime=assignment.runtime,
        timeout_s=assignment.timeout_s,
        memory_mb=assignment.memory_mb,
        network=assignment.network,
    )
    return hint_for(failure)


def judge(ended: Ended, assignment: Assignment) -> Verdict:
    """A script's own fault is never called `internal` or `runtime_unavailable`: those are tried again by themselves."""
    match ended.why:
        case "exited" if ended.exit_code == 0:
            return Verdict(end="completed", exit_code=0)
        case "exited" if ended.exit_code is not None:
            return Verdict(
                end="failed", exit_code=ended.exit_code, failure_reason="exit_code", error=exit_text(ended.exit_code)
            )
        case "timeout":
            error = f"The script ran longer than its limit of {assignment.timeout_s} s."
            return Verdict(end="timed_out", failure_reason="timeout", error=error)
        case "cancelled":
            error = "The execution was cancelled while the script was running."
            return Verdict(end="cancelled", exit_code=ended.exit_code, failure_reason="cancelled", error=error)
        case "out_of_memory":
            error = f"The script needed more than its memory limit of {assignment.memory_mb} MB."
            return Verdict(end="failed", exit_code=EXIT_SIGKILL, failure_reason="out_of_memory", error=error)
        case "disk_quota":
            error = ended.error or "The script wrote more than the disk quota of its working directory."
            return Verdict(end="failed", exit_code=EXIT_SIGXFSZ, failure_reason="exit_code", error=error)
        case "runtime_unavailable":
            error = ended.error or f"The runtime {assignment.runtime} could not be started."
            return Verdict(end="failed", failure_reason="runtime_unavailable", error=error)
        case _:
            return internal(ended.error or "The box failed for a reason of its own.")


def internal(error: str) -> Verdict:
    """A fault on this side: the service tries again."""
    return Verdict(end="failed", failure_reason="internal", error=error)


def input_missing(error: str) -> Verdict:
    return Verdict(end="failed", failure_reason="input_missing", error=error)


def dependency_install(error: str, *, caused_by_network: bool) -> Verdict:
    """The script never started, because what it needs could not be installed."""
    return Verdict(end="failed", failure_reason="dependency_install", error=error, caused_by_network=caused_by_network)


def not_started() -> Verdict:
    """The cancel came before the script started."""
    error = "The execution was cancelled before the script started."
    return Verdict(end="cancelled", failure_reason="cancelled", error=error)


def worker_stopped() -> Verdict:
    """Said by the worker itself, so that nobody has to wait for its lease to run out."""
    error = "The worker was stopped before the script ended."
    return Verdict(end="failed", failure_reason="worker_lost", error=error)


def ended_before_kill(ended: Ended) -> Ended | None:
    """The own end of a script whose box was killed after it, however the engine calls that; None when the kill was its
    end: then it was SIGKILL."""
    if ended.why in ("exited", "cancelled") and ended.exit_code not in (None, EXIT_SIGKILL):
        return replace(ended, why="exited")
    return None


def exit_text(exit_code: int) -> str:
    """What the shell's number means."""
    if exit_code > 128:
        try:
            return f"The script was ended by {signal.Signals(exit_code - 128).name} (exit code {exit_code})."
        except ValueError:
            pass  # the script itself chose a number beyond the signals
    return f"The script ended with exit code {exit_code}."
