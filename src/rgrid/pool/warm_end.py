"""The end of a script in a copy of a warm interpreter: all that a script can notice of Python's own shutdown, without
taking the interpreter apart, which would copy nearly every page it shares with its origin. Runs inside the outer box.
"""

import atexit
import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any, NoReturn
else:
    import _signal

OUTPUT_LOST = 120  # what Python exits with when it cannot write out what was printed
COLLECTIONS_MAX = 3  # an object may come to life again in its own finaliser, but not for ever


def exit_code_of(failure: BaseException, host_file: str) -> int:
    """Show what ended the script as a fresh interpreter would, without the host's frames."""
    if isinstance(failure, SystemExit):
        return _exit_code(failure.code)
    trace = failure.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == host_file:
        trace = trace.tb_next
    failure.__traceback__ = trace
    sys.last_type, sys.last_value, sys.last_traceback = type(failure), failure, trace
    try:
        sys.excepthook(type(failure), failure, trace)
    except SystemExit as ended:
        return _exit_code(ended.code)
    except BaseException as second:  # noqa: BLE001 - a broken hook hides neither itself nor the first failure
        _say("Error in sys.excepthook:\n")
        sys.__excepthook__(type(second), second, second.__traceback__)
        _say("\nOriginal exception was:\n")
        sys.__excepthook__(type(failure), failure, trace)
    return -_signal.SIGINT if isinstance(failure, KeyboardInterrupt) else 1


def _exit_code(code: "Any") -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    _say(f"{code}\n")
    return 1


def _say(text: str) -> None:
    try:
        sys.stderr.write(text)
    except (OSError, ValueError, AttributeError):
        pass


def finish(code: int, namespace: "dict[str, Any]", fresh: "frozenset[str]") -> "NoReturn":
    """Wait for threads, run what was registered for the exit, let go of what the script made, and end."""
    try:
        threading = sys.modules.get("threading")
        if threading is not None:
            threading._shutdown()
        atexit._run_exitfuncs()
    except BaseException as failure:  # noqa: BLE001 - the end goes on, as it does in a fresh interpreter
        sys.__excepthook__(type(failure), failure, failure.__traceback__)
    flushed = _flush()
    _let_go(namespace, fresh)
    if not flushed:
        code = OUTPUT_LOST
    if code == -_signal.SIGINT:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        os.kill(os.getpid(), _signal.SIGINT)
    os._exit(code)


def _let_go(namespace: "dict[str, Any]", fresh: "frozenset[str]") -> None:
    """Files that were left open are written out and closed by this, and finalisers run."""
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        if hasattr(sys, name):
            delattr(sys, name)
    for name in [name for name in sys.modules if name not in fresh]:
        del sys.modules[name]
    for name in [name for name in namespace if name[:1] == "_" and name != "__builtins__"]:
        namespace[name] = None
    for name in [name for name in namespace if name != "__builtins__"]:
        namespace[name] = None
    for _ in range(COLLECTIONS_MAX):
        _write_out()
        if not gc.collect():
            break


def _write_out() -> None:
    """The collector may close the lower half of a file before the upper one was written out. The objects of the host
    are frozen, so only those of the script are looked at."""
    io = sys.modules["io"]
    for kinds in ((io.TextIOWrapper,), (io.BufferedWriter, io.BufferedRandom)):
        for thing in gc.get_objects():
            if issubclass(type(thing), kinds):
                try:
                    thing.flush()
                except BaseException:  # noqa: BLE001, S110 - closed, or broken; a fresh interpreter says nothing either
                    pass


def _flush() -> bool:
    """Only what cannot be printed counts as lost; stderr has nowhere to say so."""
    done = True
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name, None)
        try:
            if stream is not None and not getattr(stream, "closed", False):
                stream.flush()
        except BaseException as failure:  # noqa: BLE001 - whatever a script put there
            done = False
            if name == "stdout":
                _say(f"Exception ignored in: {stream!r}\n")
                sys.__excepthook__(type(failure), failure, failure.__traceback__)
    return done
