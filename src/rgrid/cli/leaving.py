"""What Ctrl-C means while something runs on the grid: on a terminal its user decides, elsewhere it goes on."""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Final, NamedTuple

from rgrid.cli.output import Console
from rgrid.client.problems import GridError, Refused

INTERRUPTED: Final = 130
QUESTIONS_MAX = 3
WORDS = {"": False, "d": False, "detach": False, "c": True, "cancel": True}


class Left(NamedTuple):
    """What is being left: an execution or a batch, or nothing yet when `id` is empty. `commands` is what the commands
    about it begin with, `follow` the one that takes it up again."""

    id: str
    commands: str
    follow: str
    is_uploaded: bool
    is_over: bool
    cancel: Callable[[str, str], object]


def interrupted(console: Console, left: Left) -> int:
    """Cancels it or leaves it running, says which, and what to type next."""

    def say(text: str, following: str | None = None) -> None:
        console.fail(text, following=following, name="interrupted")

    if not left.id:
        say("Interrupted; nothing was sent.")
    elif left.is_over:
        say("Interrupted; some files did not arrive.", f"{left.commands} download {left.id}")
    elif not left.is_uploaded:
        # Without its files it could never start.
        with contextlib.suppress(GridError):
            left.cancel(left.id, "interrupted while its inputs were being sent")
        say(f"Interrupted; {left.id} was cancelled.")
    elif not _shall_cancel(console, left.id):
        follow = f"{left.commands} {left.follow} {left.id} (follow it again)"
        say(f"You left; {left.id} goes on.", f"{follow} or {left.commands} cancel {left.id}")
    else:
        status = f"{left.commands} status {left.id}"
        try:
            left.cancel(left.id, "interrupted by whoever started it")
        except Refused as error:
            if error.code != "illegal_transition":
                raise
            say(f"{left.id} was over already.", f"{status} or {left.commands} download {left.id}")
        else:
            say(f"{left.id} is being cancelled.", f"{status} or {left.commands} retry {left.id}")
    return INTERRUPTED


def _shall_cancel(console: Console, name: str) -> bool:
    """Asks whether to detach or to cancel; a second Ctrl-C, and whatever is no answer, detaches."""
    if console.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    question = console.paint("[d]etach, it goes on; [c]ancel, it stops", "bold", sys.stderr)
    try:
        # What was typed before the question is no answer to it.
        _forget_typed()
        for _ in range(QUESTIONS_MAX):
            print(f"\r\033[K{name}: {question} (d): ", end="", file=sys.stderr, flush=True)
            line = sys.stdin.readline()
            answer = line.strip().lower()
            if not line or answer in WORDS:
                return WORDS.get(answer, False)
    except KeyboardInterrupt:
        print(file=sys.stderr)
    return False


def _forget_typed() -> None:
    import termios

    descriptor = sys.stdin.fileno()
    # In the background reading would stop the process.
    if os.tcgetpgrp(descriptor) == os.getpgrp():
        termios.tcflush(descriptor, termios.TCIFLUSH)
