"""What Ctrl-C means while something runs on the grid: on a terminal its user decides, elsewhere it goes on."""

import os
import sys

from rgrid.cli.output import Console

QUESTIONS_MAX = 3
WORDS = {"": False, "d": False, "detach": False, "c": True, "cancel": True}


def shall_cancel(console: Console, execution_id: str) -> bool:
    """Asks whether to detach or to cancel; a second Ctrl-C, and whatever is no answer, detaches."""
    if console.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    question = console.paint("[d]etach, it goes on; [c]ancel, it stops", "bold", sys.stderr)
    try:
        # What was typed before the question is no answer to it.
        _forget_typed()
        for _ in range(QUESTIONS_MAX):
            print(f"\r\033[K{execution_id}: {question} (d): ", end="", file=sys.stderr, flush=True)
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
